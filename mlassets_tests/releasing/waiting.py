"""Homes with a version that waits for a decision: Things by hand, so that nothing needs to be modelled."""

from pathlib import Path
from typing import Any

from mlassets.projects import ProjectSpec
from mlassets.releasing.deciding import Claim, claim_decision
from mlassets.steps import AGGREGATE, MODEL, REVIEW, SOURCES
from mlassets_tests.automation.made import Made
from resources.things import Partition, Thing

LATE = Partition.project("late")


class Waiting(Made):
    """A home of the project `late` with the segments EWR and JFK, and one version that nobody has decided on."""

    def __init__(
        self, home: Path, review: str = "{mode: manual}", authors: str = "[]", *, whole: bool = False
    ) -> None:
        """Make the home; unless it is `whole`, models stand on the source itself and nothing is judged."""
        super().__init__(home)
        self.whole = whole
        changes = {"review: {mode: auto}": f"review: {review}\nauthors: {authors}"}
        self.project: ProjectSpec = self.spec(changes=changes)
        self.source("flights")
        self.first = self.version("one")

    def version(self, content: str) -> Thing:
        """Commit models and an aggregate that hold `content`."""
        models = {
            name: self.segment_steps(name, content=content) if self.whole else self.model(name, content)
            for name in ("EWR", "JFK")
        }
        parameters = {
            "coverage": {"expected": sorted(models), "present": sorted(models)},
            "models": {name: one.id for name, one in models.items()},
        }
        return self.thing(
            AGGREGATE, on=models.values(), content=content, parameters=parameters, judged=self.whole
        )

    def model(self, segment: str, content: str) -> Thing:
        source = self.store.require(SOURCES, Partition.source("flights"))
        return self.thing(
            MODEL,
            "late",
            segment,
            on=[source],
            content=content,
            parameters={"candidate": "linear"},
            judged=False,
        )

    def review(
        self, aggregate: Thing, claim: Claim | None = None, decision: str = "wait", by: str = ""
    ) -> Thing:
        """Commit a review as a run makes it: of a claim, or of nobody's decision."""
        parameters: dict[str, Any] = {"aggregate": aggregate.id, "decision": decision, "decided_by": by}
        if claim is not None:
            parameters |= {"decision": claim.decision, "decided_by": claim.reviewer, "claim": claim.token}
        return self.thing(
            REVIEW,
            on=[aggregate],
            parameters={"comment": "", **parameters},
            content=str(parameters),
            judged=self.whole,
        )

    def claim(self, decision: str = "approve", reviewer: str = "ana", **more: Any) -> Claim:
        return claim_decision(self.store, self.project, decision, reviewer=reviewer, **more)
