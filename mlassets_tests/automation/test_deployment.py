"""No change is lost and no work is done twice, whatever lands, is edited, is killed and starts again, in any order.

The sensors are the real ones, and so are store, catalog and Dagster's instance. What is simulated is the work of a
step, which takes milliseconds here, and the daemon, so that it can be killed between any two of its actions.
"""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from blake3 import blake3
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from mlassets.automation import sensors
from mlassets.home import Home
from mlassets.steps import AGGREGATE, DRAW_DATA, MODEL, MODEL_READY, PUBLISH, REVIEW, SEGMENT_STEPS, step_hash
from mlassets_tests.automation.made import Made
from resources.things import Partition, Thing, new_id

SENSORS = (
    sensors.new_data_sensor,
    sensors.new_models_sensor,
    sensors.changed_spec_sensor,
    sensors.sent_back_sensor,
    sensors.left_work_sensor,
)
SEGMENTS = ("EWR", "JFK")
ABOVE = {MODEL_READY: DRAW_DATA, MODEL: MODEL_READY, REVIEW: AGGREGATE, PUBLISH: REVIEW}
EDITS = {
    "candidates": ("[baseline]", "[baseline, linear]"),
    "features": ("review:", "features: {drop: [wind]}\nreview:"),
    "method": ("weighted", "unweighted"),
    "review": ("mode: auto", "mode: manual"),
}


def content_of(step: str, read: list[Any], spec: str) -> str:
    """Return what a step makes: a function of what it reads and of its part of the spec."""
    return str(blake3(json.dumps([step, read, spec]).encode()).hexdigest())


class Killed(Exception):
    """The process is gone."""


class Deployment(RuleBasedStateMachine):
    """One project with two segments, a daemon that looks, and workers that run what it asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="deployment-"))
        self.made = Made(self.folder)
        self.made.spec()
        self.rows: list[tuple[str, int]] = [("EWR", 0), ("JFK", 0)]
        self.edited: set[str] = set()
        self.instance = dg.DagsterInstance.ephemeral()
        self.cursors: dict[str, str | None] = {}
        self.pending: list[tuple[dg.DagsterRun, tuple[str, ...], str]] = []
        self.keys: list[str] = []
        self.finished: dict[tuple[str, str], tuple[str, ...]] = {}
        self.land_again()

    def teardown(self) -> None:
        self.come_to_rest()
        self.instance.dispose()
        shutil.rmtree(self.folder)

    # What people and the world do.

    @rule(origin=st.sampled_from(SEGMENTS), value=st.integers(0, 2))
    def land(self, origin: str, value: int) -> None:
        self.rows.append((origin, value))
        self.land_again()

    @rule()
    def land_again(self) -> None:
        """The same content lands under another name: the source has a new version that holds what it held."""
        origins, values = zip(*sorted(self.rows), strict=True)
        self.made.judge(self.made.source("flights", {"origin": list(origins), "late": list(values)}))

    @rule(origin=st.sampled_from(SEGMENTS))
    def correct(self, origin: str) -> None:
        """A file is replaced, and holds other values than before."""
        self.rows = [(one, value + 1 if one == origin else value) for one, value in self.rows]
        self.land_again()

    @rule(section=st.sampled_from(sorted(EDITS)))
    def edit(self, section: str) -> None:
        self.edited ^= {section}
        self.made.spec("late", dict(EDITS[one] for one in sorted(self.edited)))

    # What the daemon does.

    @rule(
        sensor=st.sampled_from(SENSORS), killed=st.sampled_from(["", "", "", "at once", "before its cursor"])
    )
    def look(self, sensor: dg.SensorDefinition, killed: str = "") -> None:
        """A sensor looks, and the daemon makes runs of what it asks for; it may be killed before or in between."""
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursors.get(sensor.name),
            resources={"home": Home(home=str(self.folder))},
        )
        result: Any = sensor(context)
        if killed == "at once":
            return
        for request in result.run_requests:
            self.ask(request)
        if not killed:
            self.cursors[sensor.name] = result.cursor

    def ask(self, request: dg.RunRequest) -> None:
        assert request.run_key
        assert request.run_key not in self.keys, "the same work was asked for twice"
        self.keys.append(request.run_key)
        if request.job_name == "judge_again":
            config = request.run_config["ops"]["judge"]["config"]
            steps, key = (f"judge {config['step']}",), config["partition"]
        else:
            steps = tuple(one.path[-1] for one in request.asset_selection or [])
            key = request.partition_key or ""
        self.launch(steps, key, request.run_key)

    def launch(self, steps: tuple[str, ...], key: str, run_key: str) -> None:
        tags = {"dagster/run_key": run_key, "dagster/partition": key}
        run = dg.DagsterRun(job_name="any", run_id=new_id(), status=dg.DagsterRunStatus.STARTED, tags=tags)
        self.instance.add_run(run)
        self.pending.append((run, steps, key))

    # What the workers do.

    @precondition(lambda self: self.pending)
    @rule(
        which=st.integers(0, 3),
        dies=st.sampled_from([None, None, None, "before", "unjudged"]),
        at=st.integers(0, 2),
    )
    def work(self, which: int = 0, dies: str | None = None, at: int = 0) -> None:
        """One run goes through its steps; it may be killed in one of them, and is then retried as Dagster does."""
        run, steps, key = self.pending.pop(which % len(self.pending))
        left = list(steps)
        status = dg.DagsterRunStatus.SUCCESS
        try:
            for number, step in enumerate(steps):
                if not self.make(step, key, dies if number == at else None):
                    break
                left.pop(0)
        except Killed:
            status = dg.DagsterRunStatus.FAILURE
        self.instance.delete_run(run.run_id)
        self.instance.add_run(run.with_status(status))
        if status == dg.DagsterRunStatus.FAILURE:
            self.launch(tuple(left), key, run.tags["dagster/run_key"])

    def make(self, step: str, key: str, dies: str | None) -> bool:
        """Make what an asset would make of what is there now; return whether what is downstream follows."""
        partition = Partition.parse(key)
        if step.startswith("judge "):
            self.made.judge(self.made.store.require(step.removeprefix("judge "), partition))
            return True
        if dies == "before":
            raise Killed
        on = self.inputs(step, partition)
        inputs = tuple(one.data_version for one in on)
        basis = (*inputs, step_hash(self.made.specs["late"], step))
        assert self.finished.get((step, key)) != basis, f"{step} of {key} was made of the same twice"
        content = content_of(step, self.read(step, partition, on), basis[-1])
        parameters: dict[str, Any] = {"candidate": "baseline"} if step == MODEL else {}
        if step == AGGREGATE:
            parameters["coverage"] = {"expected": list(SEGMENTS), "present": list(SEGMENTS)}
        if step == REVIEW:
            word = "wait" if "review" in self.edited else "approve"
            parameters |= {"decision": word, "decided_by": "rules", "aggregate": on[0].id}
        thing = self.made.thing(
            step,
            segment=partition.get("segment"),
            on=on,
            content=content,
            parameters=parameters,
            judged=dies is None,
        )
        if dies is not None:
            self.finished.pop((step, key), None)
            raise Killed
        self.finished[step, key] = basis
        return not (step == REVIEW and thing.parameters["decision"] == "wait")

    def inputs(self, step: str, partition: Partition) -> list[Thing]:
        store = self.made.store
        if step == DRAW_DATA:
            return [store.require("sources", Partition.source("flights"))]
        if step == AGGREGATE:
            return [store.require(MODEL, Partition.segment("late", one)) for one in SEGMENTS]
        return [store.require(ABOVE[step], partition)]

    def read(self, step: str, partition: Partition, on: Sequence[Thing]) -> list[Any]:
        """What a step reads: a draw the rows of its own segment, every other step all of its inputs."""
        if step != DRAW_DATA:
            return [one.table().to_pylist() for one in on]
        return [row for row in on[0].table().to_pylist() if row["origin"] == partition["segment"]]

    # What must hold.

    @rule()
    def come_to_rest(self) -> None:
        """With nobody interfering, all that changed has arrived at the release, and nothing more is asked for."""
        quiet = 0
        for _ in range(60):
            before = len(self.keys)
            for sensor in SENSORS:
                self.look(sensor)
            quiet = 0 if self.pending or len(self.keys) > before else quiet + 1
            while self.pending:
                self.work()
            if quiet == 3:
                break
        states = {state for (step, _), state in self.made.states().items() if step != PUBLISH}
        assert states == {"current"}, self.made.states()
        assert self.made.states()[PUBLISH, "late"] == ("waiting" if "review" in self.edited else "current")
        for segment in SEGMENTS:
            partition = Partition.segment("late", segment)
            above = self.made.store.require(DRAW_DATA, partition)
            rows = [{"origin": one, "late": value} for one, value in sorted(self.rows) if one == segment]
            spec = step_hash(self.made.specs["late"], DRAW_DATA)
            assert above.table().to_pylist() == [{"content": content_of(DRAW_DATA, rows, spec)}]
            for step in SEGMENT_STEPS[1:]:
                thing = self.made.store.require(step, partition)
                based_on = [self.made.store.get(one).data_version for one in thing.based_on]
                assert above.data_version in based_on
                above = thing


TestDeployment = Deployment.TestCase
TestDeployment.settings = settings(
    max_examples=5,
    stateful_step_count=14,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    # An example takes seconds: to make one smaller would take far longer than to read it.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
