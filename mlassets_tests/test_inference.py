import csv
import gzip
import io
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from mlassets.inference import CannotInfer, InferredSpec, infer_spec, sql_name, yaml_text
from mlassets.ingestion.formats import convert_one
from mlassets.projects import ProjectSpec, load_project
from mlassets.sources import SourceSpec

ROWS = 400
RNG = np.random.default_rng(0)


def landed(folder: Path, columns: dict[str, object]) -> Path:
    path = folder / "landed.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def columns(**more: object) -> dict[str, object]:
    amounts = RNG.normal(size=ROWS)
    target = ["yes" if value > 0.5 else "no" for value in amounts + RNG.normal(size=ROWS)]
    return {"amount": amounts, "colour": ["red", "blue"] * (ROWS // 2), "bought": target, **more}


def loaded(folder: Path, spec: InferredSpec) -> ProjectSpec:
    path = folder / "spec.yaml"
    path.write_text(spec.text, encoding="utf-8")
    return load_project(path)


def infer(folder: Path, data: dict[str, object], target: str, segment: str | None = None) -> ProjectSpec:
    return loaded(folder, infer_spec(landed(folder, data), "my-project", target, segment))


def test_a_two_valued_target_is_binary_with_the_positive_class_by_its_name(tmp_path: Path) -> None:
    spec = infer(tmp_path, columns(), "bought")
    assert (spec.target.task, spec.target.positive, spec.model.metric) == ("binary", "yes", "roc_auc")
    assert spec.segments.is_whole
    assert spec.split.by == "random"
    assert spec.sources == {"my_project": SourceSpec(files="landing/my_project/*")}


@pytest.mark.parametrize(
    ("values", "task", "positive"),
    [
        ([True, False, False, False], "binary", True),
        ([0, 1, 1, 1], "binary", 1),
        (["common", "common", "common", "rare"], "binary", "rare"),
        (["a", "b", "c", "d"], "multiclass", None),
        ([1, 2, 3, 4], "multiclass", None),
        ([1.5, 2.5, 3.5, 4.25], "regression", None),
        ([0.5, None, 1.5, None], "binary", 0.5),
    ],
)
def test_the_task_follows_from_the_targets_values(
    tmp_path: Path, values: list[object], task: str, positive: object
) -> None:
    spec = infer(tmp_path, columns(y=values * (ROWS // 4)), "y")
    assert spec.target.task == task
    if values[0] != 0.5:
        assert spec.target.positive == positive


def test_many_whole_numbers_are_a_regression(tmp_path: Path) -> None:
    assert infer(tmp_path, columns(y=RNG.integers(0, 1000, ROWS)), "y").target.task == "regression"


def test_a_time_column_splits_by_time(tmp_path: Path) -> None:
    days = np.datetime64("2024-01-01", "us") + RNG.integers(0, 10**13, ROWS)
    spec = infer(tmp_path, columns(seen=pa.array(days), born=pa.nulls(ROWS, pa.date32())), "bought")
    assert (spec.split.by, spec.split.column) == ("time", "seen")


def test_ids_free_text_and_empty_columns_are_dropped_with_a_reason(tmp_path: Path) -> None:
    data = columns(
        customer_id=RNG.permutation(ROWS),
        row=list(range(ROWS)),
        code=[f"code {number}" for number in range(ROWS)],
        remark=["a remark of many words, " * 5 + str(number % 50) for number in range(ROWS)],
        nothing=pa.nulls(ROWS),
    )
    spec = infer_spec(landed(tmp_path, data), "my-project", "bought")
    assert set(loaded(tmp_path, spec).features.drop) == {"customer_id", "row", "code", "remark", "nothing"}
    assert "- customer_id  # an id: a different whole number in every row" in spec.text


def test_copies_and_near_copies_of_the_target_are_suspected_as_leaks(tmp_path: Path) -> None:
    data = columns()
    truth = np.array(data["bought"]) == "yes"
    data["bought_flag"] = truth
    data["paid"] = np.where(truth, RNG.uniform(100, 200, ROWS), RNG.uniform(0, 99, ROWS))
    data["paid_on"] = pa.array([np.datetime64("2024-01-01", "us") if one else None for one in truth])
    data["outcome"] = np.where(truth, "P", "Q")
    spec = infer_spec(landed(tmp_path, data), "my-project", "bought")
    assert set(loaded(tmp_path, spec).features.drop) == {"bought_flag", "paid", "paid_on", "outcome"}
    assert "suspected leak" in spec.text


def test_the_target_in_other_units_is_a_suspected_leak_of_a_regression(tmp_path: Path) -> None:
    price = RNG.uniform(1, 1000, 4000)
    data = {"price": price, "price_in_cents": price * 100, "size": price + RNG.normal(0, 200, 4000)}
    assert infer(tmp_path, data, "price").features.drop == ("price_in_cents",)


def test_an_honest_feature_is_not_suspected(tmp_path: Path) -> None:
    assert infer(tmp_path, columns(), "bought").features.drop == ()


def test_a_feature_that_tells_much_is_kept_with_a_note(tmp_path: Path) -> None:
    delay = RNG.normal(0, 30, 2000)
    data = {"arrival": delay + RNG.normal(0, 12, 2000), "departure": delay}
    spec = infer_spec(landed(tmp_path, data), "my-project", "arrival")
    assert loaded(tmp_path, spec).features.drop == ()
    assert any('"departure" alone tells' in note for note in spec.notes)


def test_a_column_of_fractions_cannot_name_segments(tmp_path: Path) -> None:
    with pytest.raises(CannotInfer, match="whole numbers"):
        infer_spec(landed(tmp_path, columns()), "my-project", "bought", "amount")


def test_a_segment_column_gets_a_draw_each(tmp_path: Path) -> None:
    spec = infer(tmp_path, columns(site=[1, 2, 3, 4] * (ROWS // 4)), "bought", "site")
    assert spec.segments.column == "site"
    assert 'CAST("site" AS VARCHAR) = $segment' in spec.draw.sql
    assert spec.features.drop == ("site",)


def test_an_unknown_column_is_answered_with_close_matches(tmp_path: Path) -> None:
    with pytest.raises(CannotInfer, match='no column "bougth" for the target; did you mean bought'):
        infer_spec(landed(tmp_path, columns()), "my-project", "bougth")
    with pytest.raises(CannotInfer, match="for the segment"):
        infer_spec(landed(tmp_path, columns()), "my-project", "bought", "nowhere")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (["same"] * ROWS, "in every row"),
        (pa.nulls(ROWS, pa.string()), "holds no value"),
        ([f"text {number}" for number in range(ROWS)], "400 different values"),
        (pa.array([0] * ROWS, pa.date32()), "date32"),
    ],
)
def test_a_target_that_cannot_be_predicted_is_refused(tmp_path: Path, values: object, reason: str) -> None:
    with pytest.raises(CannotInfer, match=reason):
        infer_spec(landed(tmp_path, columns(y=values)), "my-project", "y")


def test_a_name_that_is_no_slug_is_refused_with_one_that_is(tmp_path: Path) -> None:
    with pytest.raises(CannotInfer, match="Use my-project"):
        infer_spec(landed(tmp_path, columns()), "My Project!", "bought")


def test_a_gzipped_csv_serves_as_well(tmp_path: Path) -> None:
    path = tmp_path / "landed.csv.gz"
    body = "".join(f"{number},{number % 2}\n" for number in range(100))
    path.write_bytes(gzip.compress(f"a,y\n{body}".encode()))
    assert loaded(tmp_path, infer_spec(path, "my-project", "y")).target.positive == 1


odd_names = st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), min_size=1, max_size=20).map(
    str.strip
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(odd_names.filter(bool), min_size=3, max_size=3, unique_by=str.casefold))
@example(["select", 'say "hi"', "it's -- /* $segment"])
@example(["a b", "é|#: {}", "x\u2028y\ufeffz"])
@example(["null", "~", "- x"])
@example(["'", "$segment", '"'])
def test_odd_names_survive_yaml_and_sql(tmp_path: Path, names: list[str]) -> None:
    target, segment, other = names
    text = io.StringIO()
    rows = [[number % 2, "ab"[number // 2 % 2], number] for number in range(40)]
    csv.writer(text, quoting=csv.QUOTE_NONNUMERIC).writerows([names, *rows])
    path = tmp_path / "odd.csv"
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    spec = loaded(tmp_path, infer_spec(path, "my-project", target, segment))
    assert (spec.target.column, spec.segments.column) == (target, segment)
    assert spec.features.drop == (other, segment)
    convert_one(path, "odd.csv", tmp_path / "odd.parquet")
    connection = duckdb.connect()
    connection.register("my_project", pq.read_table(tmp_path / "odd.parquet"))
    drawn = connection.sql(spec.draw.sql, params={"segment": "b"}).to_arrow_table()
    assert drawn[segment].unique().to_pylist() == ["b"]
    assert drawn.num_rows == 20


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_any_text_reads_back_from_yaml(text: str) -> None:
    assert YAML(typ="safe").load(f"x: {yaml_text(text)}")["x"] == text


@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=30))
def test_any_name_is_one_name_in_sql(name: str) -> None:
    query = f"SELECT 1 AS {sql_name(name)}"
    assert duckdb.sql(query).columns == [name]
