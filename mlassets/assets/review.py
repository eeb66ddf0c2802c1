"""review: a decision on one version of the aggregate, with the evidence in one place."""

import json

import dagster as dg

from mlassets.conditions import ON_NEW_INPUT
from mlassets.home import Home
from mlassets.partitions import projects
from mlassets.releasing.deciding import claim_decision, standing_claim
from mlassets.releasing.evidence import evidence_page, gather
from mlassets.releasing.review import decide
from mlassets.rework import loops_of
from mlassets.steps import CODE_VERSIONS, REVIEW, step_hash
from resources.things import Draft, Thing


class ReviewConfig(dg.Config):
    """A person's decision; leave it empty to let the project's rules, or the wait for a person, apply.

    Attributes:
        decision: `approve`, `reject`, or empty.
        reviewer: Who decides.
        comment: Why.
        send_back_to: The step that a rejection sends the work back to.
        segments: The segments that are sent back; empty means all.
        version: Id of the aggregate or review that was looked at; refused if it is not the newest any more.
    """

    decision: str = ""
    reviewer: str = ""
    comment: str = ""
    send_back_to: str = ""
    segments: list[str] = []
    version: str = ""


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

    By a person, whose decision is claimed first and stands when the same version is reviewed again; else by the
    project's rules in `auto` mode, and not at all in `manual` mode.
    """
    spec, store = home.project(context.partition_key), home.store
    if config.decision:
        # A run that is retried has the same root, and finds its own claim.
        given = config.model_dump() | {"token": context.run.root_run_id or context.run.run_id}
        claim_decision(store, spec, given.pop("decision"), **given)
    with store.recording() as read:
        evidence = gather(store, aggregate, spec)
    decision = decide(
        spec.review,
        evidence.facts,
        standing_claim(store, spec, aggregate),
        send_back_to=spec.rework.send_back_to,
        loops=loops_of(store, aggregate),
        limit=spec.rework.limit,
    )
    parameters = decision.as_parameters() | {"aggregate": aggregate.id} | evidence.as_parameters()
    return Draft(
        parameters=parameters,
        metrics={"satisfaction": decision.satisfaction},
        artifacts={
            "decision.json": json.dumps(parameters, indent=2, default=str).encode(),
            "evidence.html": evidence_page(evidence, decision),
        },
        based_on=read,
        code_version=CODE_VERSIONS[REVIEW],
        spec_hash=step_hash(spec, REVIEW),
        spec=spec.text(),
    )
