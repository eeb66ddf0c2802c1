"""review: a decision on one version of the aggregate, with the evidence in one place."""

import json

import dagster as dg

from mlassets.conditions import ON_NEW_INPUT
from mlassets.home import Home
from mlassets.partitions import projects
from mlassets.releasing.review import Decision, decide, evidence_page, verdicts_below
from mlassets.steps import CODE_VERSIONS, REVIEW, step_hash
from resources.things import Draft, Thing


class ReviewConfig(dg.Config):
    """A person's decision; leave it empty to let the project's rules, or the wait for a person, apply.

    Attributes:
        decision: `approve`, `reject`, or empty.
        reviewer: Who decides.
        comment: Why.
        send_back_to: The step that a rejection sends the work back to.
    """

    decision: str = ""
    reviewer: str = ""
    comment: str = ""
    send_back_to: str = ""


@dg.asset(
    name=REVIEW,
    partitions_def=projects,
    io_manager_key="things",
    automation_condition=ON_NEW_INPUT,
    code_version=CODE_VERSIONS[REVIEW],
    kinds={"jinja"},
    group_name="steps",
    tags={"step": REVIEW},
)
def review(context: dg.AssetExecutionContext, config: ReviewConfig, aggregate: Thing, home: Home) -> Draft:
    """The decision on one version of the aggregate: approve, reject or wait.

    By the project's rules in `auto` mode, by a person in `manual` mode.
    """
    spec = home.project(context.partition_key)
    below = verdicts_below(home.store, aggregate)
    decision: Decision = decide(
        spec.review,
        aggregate.metrics,
        [verdict for _, verdict in below],
        decision=config.decision,
        reviewer=config.reviewer,
        comment=config.comment,
        send_back_to=config.send_back_to,
    )
    return Draft(
        parameters=decision.as_parameters() | {"aggregate": aggregate.id},
        metrics={"satisfaction": decision.satisfaction},
        artifacts={
            "decision.json": json.dumps(
                {**decision.as_parameters(), "aggregate": aggregate.id}, indent=2
            ).encode(),
            "evidence.html": evidence_page(spec.project, aggregate, below, decision),
        },
        code_version=CODE_VERSIONS[REVIEW],
        spec_hash=step_hash(spec, REVIEW),
    )
