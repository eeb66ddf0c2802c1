"""What Dagster's declarative automation starts by itself, shown on toy assets with the real partitions."""

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import dagster as dg
import pytest

from mlassets.conditions import ON_NEW_INPUT
from mlassets.partitions import PROJECT, SEGMENT, projects, segments, segments_of_project

STEPS = ("draw_data", "model_ready", "model")
# The planner asks for these.
PLANNED = ("draw_data", "model_ready", "aggregate")


class Toy:
    """The graph from draw_data to review with nothing in it, one Dagster instance, and what it is told to make.

    Attributes:
        content: Data version that a step makes next, by step and partition key; `same` where none is given.
        bad: Steps and partition keys whose blocking check fails.
    """

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.content: dict[tuple[str, str], str] = {}
        self.bad: set[tuple[str, str]] = set()
        self._cursor: Any = None
        self._looks: list[set[tuple[str, str]]] | None = None
        assets, checks = [], []
        for step, upstream in zip(
            ("draw_data", "model_ready", "model", "aggregate", "review"), _UPSTREAM, strict=True
        ):
            by = segments if step in STEPS else projects
            assets.append(self._asset(step, by, upstream))
            checks.append(self._check(step, by))
        self.definitions = dg.Definitions(assets=assets, asset_checks=checks)
        self._job = self.definitions.resolve_implicit_global_asset_job_def()

    def _asset(
        self, step: str, by: dg.PartitionsDefinition, upstream: dg.AssetDep | None
    ) -> dg.AssetsDefinition:
        condition = None if step in PLANNED else ON_NEW_INPUT

        @dg.asset(
            name=step, partitions_def=by, deps=[upstream] if upstream else [], automation_condition=condition
        )
        def made(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
            if self._looks is not None:
                self._looks.append(self.tick())
            content = self.content.get((step, context.partition_key), "same")
            return dg.MaterializeResult(data_version=dg.DataVersion(f"{context.partition_key} {content}"))

        return made

    def _check(self, step: str, by: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dg.PreviewWarning)
            spec = dg.AssetCheckSpec("no_verdict_blocks", asset=step, blocking=True, partitions_def=by)

        @dg.multi_asset_check(name=f"{step}_checks", specs=[spec])
        def judged(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
            yield dg.AssetCheckResult(passed=(step, context.partition_key) not in self.bad)

        return judged

    def add(self, *keys: str) -> None:
        """Add the partitions of segments, each as `project|segment`."""
        for key in keys:
            project, segment = key.split("|")
            self.instance.add_dynamic_partitions(PROJECT, [project])
            self.instance.add_dynamic_partitions(SEGMENT, [segment])

    def make(
        self, step: str, key: str, content: str = "same", *, looking: bool = False
    ) -> set[tuple[str, str]]:
        """Run a step and its check for one partition, as a sensor's run does.

        Args:
            step: The step.
            key: Key of the partition.
            content: Data version that it makes.
            looking: Whether to evaluate all conditions while the run goes on.

        Returns:
            What the conditions asked for in the meantime.
        """
        self.content[step, key] = content
        self._looks = [] if looking else None
        self.run((step,), key)
        looks, self._looks = self._looks, None
        return set().union(*looks or [])

    def run(self, steps: Iterable[str], key: str) -> None:
        """Run steps of one partition in one go, with their checks."""
        self._job.execute_in_process(
            asset_selection=[dg.AssetKey(step) for step in steps],
            partition_key=key,
            instance=self.instance,
            raise_on_error=False,
        )

    def tick(self) -> set[tuple[str, str]]:
        """Evaluate all conditions as the daemon does and return what they ask for, which is not run."""
        result = dg.evaluate_automation_conditions(
            defs=self.definitions, instance=self.instance, cursor=self._cursor
        )
        self._cursor = result.cursor
        return {
            (step, key)
            for step in ("model", "review")
            for key in result.get_requested_partitions(dg.AssetKey(step))
            if key is not None
        }

    def settle(self, most: int = 12) -> list[tuple[str, str]]:
        """Tick, and run what is asked for, until two ticks in a row ask for nothing; return what ran, in order."""
        order = ["model", "review"]
        ran: list[tuple[str, str]] = []
        quiet = 0
        for _ in range(most):
            asked = sorted(self.tick(), key=lambda one: (order.index(one[0]), one[1]))
            for step, key in asked:
                self.make(step, key, self.content.get((step, key), "same"))
            ran += asked
            quiet = 0 if asked else quiet + 1
            if quiet == 2:
                return ran
        raise AssertionError(f"still asks for work after {most} ticks: {ran}")


_UPSTREAM = (
    None,
    dg.AssetDep("draw_data"),
    dg.AssetDep("model_ready"),
    dg.AssetDep("model", partition_mapping=segments_of_project),
    dg.AssetDep("aggregate"),
)
EWR, JFK = "late|EWR", "late|JFK"


@pytest.fixture
def toy() -> Iterator[Toy]:
    with dg.DagsterInstance.ephemeral() as instance:
        toy = Toy(instance)
        toy.add(EWR, JFK)
        # Dagster asks for nothing at its first look, when it learns what is there.
        assert toy.tick() == set()
        yield toy


@pytest.fixture
def made(toy: Toy) -> Toy:
    """Everything made and at rest."""
    for key in (EWR, JFK):
        toy.run(STEPS, key)
    toy.run(("aggregate", "review"), "late")
    assert toy.settle() == []
    return toy


def test_what_follows_a_version_with_new_content_is_made_once(toy: Toy) -> None:
    assert toy.settle() == []
    for key in (EWR, JFK):
        toy.make("model_ready", key)
    assert sorted(toy.settle()) == [("model", EWR), ("model", JFK)]
    toy.make("aggregate", "late")
    assert toy.settle() == [("review", "late")]


def test_what_is_at_rest_stays_at_rest(made: Toy) -> None:
    assert [made.tick() for _ in range(3)] == [set()] * 3


def test_what_the_planner_decides_on_is_never_started_by_a_condition(made: Toy) -> None:
    made.make("draw_data", EWR, "new")
    made.make("model", JFK, "new")
    assert made.settle() == []


def test_the_same_content_made_again_runs_nothing(made: Toy) -> None:
    made.make("model_ready", EWR)
    made.make("aggregate", "late")
    assert made.settle() == []


def test_a_run_that_makes_input_and_step_in_one_go_is_not_followed_by_the_step_again(made: Toy) -> None:
    made.content["model_ready", EWR] = made.content["model", EWR] = "new"
    made.run(("model_ready", "model"), EWR)
    assert made.settle() == []


def test_a_failed_blocking_check_stops_what_is_downstream_until_a_version_passes(made: Toy) -> None:
    made.bad.add(("model_ready", EWR))
    made.make("model_ready", EWR, "bad")
    assert made.settle() == []
    made.make("model_ready", JFK, "new")
    assert made.settle() == [("model", JFK)]
    made.bad.clear()
    made.make("model_ready", EWR, "good")
    assert made.settle() == [("model", EWR)]


@pytest.mark.parametrize("step", STEPS[1:])
def test_a_model_waits_while_it_or_its_input_is_being_made(made: Toy, step: str) -> None:
    made.make("model_ready", EWR, "new")
    assert ("model", EWR) not in made.make(step, EWR, looking=True)
