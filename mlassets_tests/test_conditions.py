"""What Dagster's declarative automation starts by itself, shown on toy assets with the real partitions."""

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import dagster as dg
import pytest

from mlassets.conditions import ON_NEW_INPUT, ON_NEW_SEGMENTS
from mlassets.partitions import PROJECT, SEGMENT, projects, segments, segments_of_project

STEPS = ("draw_data", "model_ready", "model")


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
        condition = {"draw_data": None, "aggregate": ON_NEW_SEGMENTS}.get(step, ON_NEW_INPUT)

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
            for step in ("model_ready", "model", "aggregate", "review")
            for key in result.get_requested_partitions(dg.AssetKey(step))
            if key is not None
        }

    def settle(self, most: int = 12) -> list[tuple[str, str]]:
        """Tick, and run what is asked for, until two ticks in a row ask for nothing; return what ran, in order."""
        order = ["model_ready", "model", "aggregate", "review"]
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


def test_from_two_draws_every_step_is_made_once_and_in_order(toy: Toy) -> None:
    assert toy.settle() == []
    for key in (EWR, JFK):
        toy.make("draw_data", key)
    ran = toy.settle()
    segment_steps = [(step, key) for step in ("model_ready", "model") for key in (EWR, JFK)]
    assert sorted(ran) == sorted([*segment_steps, ("aggregate", "late"), ("review", "late")])
    assert ran.index(("aggregate", "late")) > max(ran.index(("model", key)) for key in (EWR, JFK))


def test_what_is_at_rest_stays_at_rest(made: Toy) -> None:
    assert [made.tick() for _ in range(3)] == [set()] * 3


def test_new_content_runs_what_is_downstream_of_it_and_nothing_else(made: Toy) -> None:
    for step in STEPS:
        made.content[step, EWR] = "new"
    made.content["aggregate", "late"] = "new"
    made.make("draw_data", EWR, "new")
    assert sorted(made.settle()) == sorted(
        [("model_ready", EWR), ("model", EWR), ("aggregate", "late"), ("review", "late")]
    )


def test_the_same_content_made_again_runs_nothing(made: Toy) -> None:
    made.make("draw_data", EWR)
    made.make("model", JFK)
    assert made.settle() == []


def test_a_step_that_comes_out_the_same_stops_what_is_downstream(made: Toy) -> None:
    made.make("draw_data", EWR, "new")
    ran = made.settle()
    assert ("model_ready", EWR) in ran
    assert ("aggregate", "late") not in ran
    assert ("review", "late") not in ran


def test_a_failed_blocking_check_stops_what_is_downstream_until_a_version_passes(made: Toy) -> None:
    made.bad.add(("draw_data", EWR))
    made.make("draw_data", EWR, "bad")
    assert made.settle() == []
    made.make("draw_data", JFK, "new")
    assert ("model_ready", JFK) in made.settle()
    made.bad.clear()
    made.make("draw_data", EWR, "good")
    assert ("model_ready", EWR) in made.settle()


def test_a_blocked_model_keeps_the_project_s_aggregate_waiting(made: Toy) -> None:
    made.bad.add(("model", EWR))
    made.make("model", EWR, "bad")
    assert made.settle() == []
    made.bad.clear()
    made.make("model", EWR, "good")
    assert made.settle()[0] == ("aggregate", "late")


def test_an_aggregate_does_not_need_the_cross_product_of_projects_and_segments(toy: Toy) -> None:
    toy.add("trees|oak", "trees|elm")
    toy.make("model", "trees|oak")
    assert ("aggregate", "trees") in toy.settle()
    toy.make("model", "trees|elm")
    assert ("aggregate", "trees") in toy.settle()


def test_without_a_single_model_nothing_is_aggregated(toy: Toy) -> None:
    toy.add("trees|oak")
    toy.make("model", EWR)
    assert {key for step, key in toy.settle() if step == "aggregate"} == {"late"}


def test_an_aggregate_is_not_asked_for_together_with_the_models_it_reads(made: Toy) -> None:
    for key in (EWR, JFK):
        made.make("draw_data", key, "new")
    assert made.tick() == {(step, key) for step in ("model_ready", "model") for key in (EWR, JFK)}


@pytest.mark.parametrize("step", STEPS)
def test_an_aggregate_waits_while_any_work_on_its_segments_goes_on(made: Toy, step: str) -> None:
    made.make("model", EWR, "new")
    assert made.make(step, JFK, looking=True) == set()
    assert ("aggregate", "late") in made.settle()


def test_an_aggregate_does_not_wait_for_another_project_s_segments(made: Toy) -> None:
    made.add("trees|oak")
    made.make("model", EWR, "new")
    assert made.make("draw_data", "trees|oak", looking=True) == {("aggregate", "late"), ("review", "late")}


def test_two_projects_do_not_disturb_each_other(made: Toy) -> None:
    made.add("trees|EWR", "trees|oak")
    made.bad.add(("draw_data", "trees|EWR"))
    made.make("draw_data", "trees|EWR")
    made.make("draw_data", "trees|oak")
    assert {key.split("|")[0] for _, key in made.settle()} == {"trees"}
    made.content["model_ready", EWR] = made.content["model", EWR] = "new"
    made.make("draw_data", EWR, "new")
    assert {key.split("|")[0] for _, key in made.settle()} == {"late"}
