"""Drift between a draw and the one that the champion was trained on."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlassets.quality import deepchecks_compat
from mlassets.quality.champion_drift import champion_drift
from mlassets.quality.checks import entry_of
from mlassets.quality.displays import Figure
from mlassets.quality.judging import judge
from mlassets.quality.suites import judge_draw
from resources.roles import Kind, with_role
from resources.verdicts import Verdict

CLAIM = "data_is_like_the_champions"
KINDS: dict[str, Kind] = {"size": "numeric", "pieces": "numeric", "colour": "categorical", "flag": "boolean"}


def rows(count: int, seed: int = 0, **shifts: Any) -> pa.Table:
    """Rows from one distribution but for what is shifted."""
    rng = np.random.default_rng(seed)
    red, flag = shifts.get("red", 0.5), shifts.get("flag", 0.5)
    colours = ["red", "green", "blue"]
    return pa.table(
        {
            "size": pa.array(rng.normal(shifts.get("size", 0.0), size=count), mask=rng.random(count) < 0.05),
            "pieces": pa.array(rng.integers(0, 30, count)),
            "colour": pa.array(rng.choice(colours, count, p=[red, 0.9 - red, 0.1]).tolist()),
            "flag": pa.array(rng.random(count) < flag),
            "when": pa.array(
                np.datetime64("2026-01-01", "us") + np.arange(count) * np.timedelta64(seed + 1, "h")
            ),
            "number": pa.array(rng.normal(10.0 * seed, size=count)),
            "row": pa.array([f"row-{seed}-{i}" for i in range(count)]),
            "target": pa.array(rng.integers(0, 2, count) if seed % 2 == 0 else np.arange(count) % 7),
        }
    )


def marked(table: pa.Table, kinds: dict[str, Kind] = KINDS) -> pa.Table:
    fields = [with_role(table.schema.field(name), "feature", kind) for name, kind in kinds.items()]
    return table.select(list(kinds)).cast(pa.schema(fields))


def judged(draw: pa.Table, champion: pa.Table, show: bool = False) -> tuple[Verdict, tuple[Any, ...]]:
    """The verdict of this check alone, and what a report shows."""
    return judge(
        entry_of(CLAIM),
        {},
        lambda: champion_drift(
            champion, draw, task="binary", aside=["target"], sample=10_000, seed=0, show=show
        ),
    )


def judged_among_all(draw: pa.Table, champion: pa.Table | None, **more: Any) -> Verdict:
    judgement = judge_draw(
        draw, target="target", task="multiclass", limits={}, champion=champion, with_display=False, **more
    )
    (verdict,) = [one for one in judgement.verdicts if one.claim == CLAIM]
    return verdict


def drift_by_deepchecks(then: pa.Table, now: pa.Table, name: str) -> float:
    tabular = deepchecks_compat.load()
    from deepchecks.tabular.checks import FeatureDrift

    frames = [
        table.select([name]).to_pandas().astype(object if KINDS[name] != "numeric" else float)
        for table in (then, now)
    ]
    words = [name] if KINDS[name] != "numeric" else []
    sets = [tabular.Dataset(frame, features=[name], cat_features=words) for frame in frames]
    return float(FeatureDrift().run(*sets, with_display=False).value[name]["Drift score"])


@pytest.mark.parametrize(
    ("shift", "name"), [({"size": 0.8}, "size"), ({"red": 0.1}, "colour"), ({"flag": 0.95}, "flag")]
)
def test_a_drifted_feature_is_named_with_the_size_that_deepchecks_gives(
    shift: dict[str, float], name: str
) -> None:
    then, now = rows(3_000), rows(2_000, seed=2, **shift)
    verdict, figures = judged(now, marked(then), show=True)
    assert (verdict.status, verdict.severity, verdict.limit) == ("failed", "WARN", "<= 0.2")
    assert verdict.observed == pytest.approx(drift_by_deepchecks(then, now, name), abs=1e-12)
    assert verdict.observed == verdict.details["columns"][name]
    assert verdict.message.startswith(f"`{name}` drifted most from what the champion was trained on, by 0.")
    assert figures
    assert all(isinstance(one, Figure) for one in figures)
    assert "this draw" in str(figures[0])


def test_the_same_distribution_has_not_drifted_and_the_same_rows_not_at_all() -> None:
    then = rows(3_000)
    again, _ = judged(rows(3_000, seed=2), marked(then))
    assert again.status == "passed"
    assert again.observed is not None
    assert again.observed < again.details["chance"] < 0.07
    same, _ = judged(then, marked(then))
    assert (same.observed, same.message) == (
        0.0,
        "No feature has drifted from what the champion was trained on.",
    )


def test_only_features_count() -> None:
    # Dates, keys, the target and whatever is no feature differ altogether between these.
    then, now = rows(300), rows(300, seed=5)
    kinds: dict[str, Kind] = {**KINDS, "number": "numeric"}
    verdict = judged_among_all(now, marked(then, kinds), drop=["number"], key=["row"], date="when")
    assert verdict.status == "passed"
    assert sorted(verdict.details["columns"]) == sorted(KINDS)
    used, _ = judged(now, marked(then, kinds))
    assert used.observed == 1.0
    keyed = judged_among_all(now, marked(then, {"row": "categorical"}), key=["row"])
    assert (keyed.status, keyed.observed) == ("not_applicable", None)


def test_columns_that_cannot_be_compared_are_left_to_the_schemas_contract() -> None:
    then, now = rows(1_000), rows(1_000, seed=2)
    texts = pa.array([f"{value}" for value in now["pieces"].to_pylist()])
    changed = now.drop_columns(["size", "flag"]).set_column(0, "pieces", texts)
    verdict, _ = judged(changed, marked(then))
    assert list(verdict.details["columns"]) == ["colour"]
    coded = now.set_column(2, "colour", now["colour"].combine_chunks().dictionary_encode())
    numbers = coded.set_column(1, "pieces", coded["pieces"].cast(pa.decimal128(23, 2)))
    verdict, _ = judged(numbers, marked(then))
    assert (verdict.status, len(verdict.details["columns"])) == ("passed", 4)
    none, _ = judged(now.select(["number", "target"]), marked(then))
    assert none.message == "Does not apply: no feature of the champion's is in the draw."


def test_without_a_champion_there_is_nothing_to_compare_with() -> None:
    verdict = judged_among_all(rows(12), None)
    assert (verdict.status, verdict.message) == (
        "not_applicable",
        "Does not apply: the segment has no champion.",
    )


@pytest.mark.parametrize("count", [0, 1, 9, 12])
def test_a_handful_of_rows_is_too_few_to_tell(count: int) -> None:
    for then, now in ((rows(count), rows(500, seed=2, size=0.3)), (rows(500), rows(count, seed=2, size=0.3))):
        verdict, _ = judged(now, marked(then))
        assert verdict.status == "not_applicable"


def test_a_feature_that_few_rows_know_does_not_stand_for_all() -> None:
    then, now = rows(2_000), rows(2_000, seed=2, size=0.8)
    known = np.arange(2_000) < 12
    rare = [pa.array(np.random.default_rng(seed).normal(size=2_000), mask=~known) for seed in (1, 4)]
    kinds: dict[str, Kind] = {**KINDS, "rare": "numeric"}
    verdict, _ = judged(
        now.append_column("rare", rare[0]), marked(then.append_column("rare", rare[1]), kinds)
    )
    assert "`size` drifted most" in verdict.message
    alone, _ = judged(
        rows(2_000, seed=2).append_column("rare", rare[0]),
        marked(then.append_column("rare", rare[1]), {"rare": "numeric"}),
    )
    assert alone.status == "not_applicable"
    assert "Too few rows to tell: with 12 on each side" in alone.message


def test_a_million_rows_are_judged_by_a_sample_that_is_the_same_every_time() -> None:
    then, now = rows(1_000_000), rows(1_000_000, seed=2, size=0.02)

    def seen(seed: int) -> Any:
        return champion_drift(
            marked(then), now, task="binary", aside=["target"], sample=10_000, seed=seed, show=False
        )

    first = seen(1)
    assert first.n == 20_000
    assert first.value < 0.05
    assert "Seen on a seeded sample of 10,000 rows of 1,000,000." in first.found
    assert seen(1) == first
    assert seen(2).value != first.value
