"""Projects and Things for tests of what is due: committed by hand, so that nothing needs to be modelled."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from mlassets.automation.planners import Decision, decide
from mlassets.projects import ProjectSpec, load_projects
from mlassets.steps import CODE_VERSIONS, MODEL, SOURCES, STEPS, step_hash
from resources.settings import Settings
from resources.store import Store
from resources.things import Draft, Partition, Thing, new_id
from resources.verdicts import Verdict

SPEC = """\
project: {project}
sources: {{flights: "landing/flights/*", weather: "landing/weather/*"}}
segments: [EWR, JFK]
draw:
  sql: SELECT * FROM flights WHERE origin = $segment
target: {{column: late, task: binary}}
model: {{candidates: [baseline]}}
aggregate: {{method: weighted}}
review: {{mode: auto}}
"""


class Made:
    """A home whose sources and Things are made by hand.

    `content` stands for all that a Thing holds: equal content, equal data version.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.settings = Settings(home=home)
        self.settings.projects.mkdir(parents=True, exist_ok=True)
        self.store = Store.open(self.settings)

    def spec(self, project: str = "late", changes: Mapping[str, str] | None = None) -> ProjectSpec:
        """Write a project's spec, with parts of its text replaced."""
        text = SPEC.format(project=project)
        for old, new in (changes or {}).items():
            assert old in text
            text = text.replace(old, new)
        (self.settings.projects / f"{project}.yaml").write_text(text)
        return self.specs[project]

    @property
    def specs(self) -> dict[str, ProjectSpec]:
        return load_projects(self.settings.projects).specs

    def source(self, name: str, content: Mapping[str, list[Any]] | None = None) -> Thing:
        """Commit a version of a source; its origins are the segments EWR and JFK unless `content` says otherwise."""
        table = pa.table(dict(content or {"origin": ["EWR", "JFK"], "late": [0, 1]}))
        draft = Draft(
            dataset=table,
            parameters={"files": [], "quarantined": []},
            metrics={"rows": table.num_rows},
            code_version=CODE_VERSIONS[SOURCES],
        )
        return self.store.commit(SOURCES, Partition.source(name), draft)

    def thing(
        self,
        step: str,
        project: str = "late",
        segment: str | None = None,
        *,
        on: Iterable[Thing],
        content: str = "",
        parameters: Mapping[str, Any] | None = None,
        judged: bool = True,
    ) -> Thing:
        """Commit a version of a step, based on the given Things, as the spec and the code are now."""
        partition = Partition.segment(project, segment) if segment else Partition.project(project)
        draft = Draft(
            dataset=pa.table({"content": [content]}),
            parameters=parameters or {},
            based_on=[one.id for one in on],
            code_version=CODE_VERSIONS[step],
            spec_hash=step_hash(self.specs[project], step),
        )
        thing = self.store.commit(step, partition, draft)
        if judged:
            self.judge(thing)
        return thing

    def judge(
        self, thing: Thing, status: str = "passed", severity: str = "ERROR", claim: str = "rows_are_right"
    ) -> None:
        """Record one verdict on a Thing."""
        verdict = Verdict(claim, status, severity, None, None, 1, "as found", {})  # type: ignore[arg-type]
        self.store.record_verdicts(thing.id, new_id(), [verdict], None)

    def segment_steps(
        self, segment: str, project: str = "late", reads: Iterable[str] = ("flights",), content: str = ""
    ) -> Thing:
        """Make draw, split and model of one segment and return the model."""
        upstream = [self.store.require(SOURCES, Partition.source(name)) for name in reads]
        for step in STEPS[:3]:
            parameters = {"candidate": "linear"} if step == MODEL else None
            upstream = [
                self.thing(step, project, segment, on=upstream, content=content, parameters=parameters)
            ]
        return upstream[0]

    def project_steps(
        self, models: Mapping[str, Thing], project: str = "late", decision: str = "approve"
    ) -> None:
        """Make aggregate, review and publish of a project from its segments' models."""
        coverage = {"coverage": {"expected": sorted(models), "present": sorted(models)}}
        aggregate = self.thing("aggregate", project, on=models.values(), parameters=coverage)
        review = self.thing("review", project, on=[aggregate], parameters={"decision": decision})
        if decision == "approve":
            self.thing("publish", project, on=[review])

    def all_steps(self, project: str = "late", reads: Iterable[str] = ("flights",)) -> None:
        """Make every step of a project with the segments EWR and JFK."""
        reads = list(reads)
        self.project_steps(
            {name: self.segment_steps(name, project, reads) for name in ("EWR", "JFK")}, project
        )

    def decisions(self, now: datetime | None = None) -> list[Decision]:
        return list(decide(self.specs, self.store, now))

    def due(self, now: datetime | None = None) -> dict[tuple[str, str], str]:
        """What is due, with its cause."""
        return {(one.step, one.partition.key): one.cause for one in self.decisions(now) if one.state == "due"}

    def states(self) -> dict[tuple[str, str], str]:
        """The state of every step."""
        return {(one.step, one.partition.key): one.state for one in self.decisions()}
