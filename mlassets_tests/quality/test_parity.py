"""What deepchecks finds here equals what it found on the stack it was written for."""

import json

import pytest

from mlassets.quality.all_rows import DrawRows, SplitRows
from mlassets.quality.checks import CHECKS, Task
from mlassets_tests.quality.record_old_stack import FEATURES, RECORDED, TASKS, observe_all, recorded_rows

EXACT = 1e-9
# Where the figure rests on a tree that another version of a library grows a little differently.
TOLERANCES = {
    # pandas 3 reads dates as microseconds, pandas 2 as nanoseconds: other bounds between the same dates.
    "identifiers_do_not_give_the_target_away": 0.02,
    # Histogram boosting of scikit-learn 1.9 bins otherwise than that of 1.5.
    "population_does_not_drift": 0.03,
    # Seconds, not a property of the data.
    "predictions_are_fast": 1e-3,
}


@pytest.mark.parametrize("task", TASKS)
def test_every_check_finds_what_it_found_on_the_old_stack(task: Task) -> None:
    recorded = json.loads((RECORDED / "old_stack.json").read_text())[task]
    found = observe_all(task)

    assert found.keys() == recorded.keys() == {entry.claim for entry in CHECKS if entry.deepchecks}
    for claim, before in recorded.items():
        now = found[claim]
        if "crashed" in before:
            assert "observed" in now, f"{claim} crashed on the old stack ({before}) and still does: {now}"
        elif "does_not_apply" in before:
            assert now == before, claim
        else:
            assert now["holds"] is before["holds"], f"{claim}: {now} against {before}"
            assert now["observed"] == pytest.approx(before["observed"], abs=TOLERANCES.get(claim, EXACT)), (
                claim
            )


def test_our_count_on_all_rows_equals_what_deepchecks_found_on_the_old_stack() -> None:
    import numpy as np
    import pyarrow as pa

    from resources.roles import ROW_KEY, SPLIT, with_role

    rows = recorded_rows()
    recorded = json.loads((RECORDED / "old_stack.json").read_text())["multiclass"]
    target = "target_multiclass"
    table = pa.Table.from_pandas(
        rows.drop(columns=["target_binary", "target_regression"]), preserve_index=False
    )
    draw = DrawRows(table, target=target, features=FEATURES, key=["key"])

    kinds = {name: "categorical" if name in ("colour", "code") else "numeric" for name in FEATURES}
    split = np.where(np.arange(len(rows)) < len(rows) * 0.6, "train", "test")
    fields = [with_role(table.schema.field(name), "feature", kind) for name, kind in kinds.items()]  # type: ignore[arg-type]
    fields += [
        with_role(table.schema.field(target), "target"),
        pa.field(ROW_KEY, pa.string()),
        pa.field(SPLIT, pa.string()),
    ]
    columns = [table[name] for name in [*FEATURES, target, "key"]] + [pa.chunked_array([split.tolist()])]
    splits = SplitRows(pa.table(columns, pa.schema(fields)), table["when"])

    ours = {
        "no_duplicate_rows": draw.duplicates(),
        "no_conflicting_labels": draw.conflicting_labels(),
        "no_single_value_columns": draw.single_value_columns(),
        "test_is_large_enough": splits.test_train_ratio(),
        "no_key_in_both_splits": splits.index_leakage(),
        "no_row_in_both_splits": splits.train_test_overlap(),
        "no_new_labels": splits.new_labels(),
        "no_new_categories": splits.new_categories(),
        "no_date_in_both_splits": splits.date_duplicates(),
        "test_comes_after_train": splits.date_overlap(),
    }
    # deepchecks counts the column `same`, which is no feature here.
    assert ours.pop("no_single_value_columns").value == recorded["no_single_value_columns"]["observed"] - 1
    for claim, seen in ours.items():
        assert seen.value == pytest.approx(recorded[claim]["observed"], abs=EXACT), claim
    assert {entry.claim for entry in CHECKS if entry.own and entry.deepchecks} == {
        *ours,
        "no_single_value_columns",
    }
