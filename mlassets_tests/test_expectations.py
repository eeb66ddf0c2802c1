"""What a spec may expect: each mistake is told with its line; and nothing changes for specs that expect nothing."""

from pathlib import Path

import pytest

from mlassets.expectations import Expectations
from mlassets.projects import load_project
from mlassets.sections import SpecError
from mlassets.sources import SourceSpec, load_source
from mlassets_tests.small_homes import write_spec

GOOD = """\
files: "landing/flights/*"
expect:
  key: [carrier, flight, day]
  columns:
    carrier: {values: [AA, UA], nulls: 0, reference: carriers.code}
    delay: {type: number, range: [-120, 3000], nulls: 0.05}
    day: {type: date, range: [2020-01-01, null]}
    tail: {pattern: "N[0-9]{1,5}[A-Z]{0,2}", length: [2, 6], unique: true}
    fare: {type: "decimal(10,2)", range: [0, null]}
  rules:
    - {name: lands after it departs, sql: arrives >= departs}
    - {sql: "distance > 0", dimension: accuracy}
  same_in:
    carriers: {keys: {carrier: code}}
    payments: {keys: [flight, day], sums: [fare]}
  arrives: {column: day, every: 35d, within: 36h}
checks:
  fail: {values_are_valid: "<= 0.001"}
  warn: {file_drift: "<= 0.4"}
"""


def test_a_spec_says_what_it_expects(tmp_path: Path) -> None:
    file = tmp_path / "flights.yaml"
    file.write_text(GOOD)
    spec = load_source(file)
    assert spec.expect.columns["day"].range == ("2020-01-01", None)
    assert spec.expect.same_in["payments"].keys == {"flight": "flight", "day": "day"}
    assert spec.expect.sources == ("carriers", "payments")
    assert spec.expect.rules[0].says == "lands after it departs"
    assert {name: limit.severity for name, limit in spec.checks.limits.items()} == {
        "values_are_valid": "ERROR",
        "file_drift": "WARN",
    }
    assert SourceSpec.model_validate(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("good", "bad", "line", "wrong"),
    [
        ("type: number", "type: float", 6, "is no type; there is text, integer"),
        ("[-120, 3000]", "[3000, -120]", 6, "write the lowest value first"),
        ("[-120, 3000]", "[null, null]", 6, "is open at both ends"),
        ("[-120, 3000]", "[low, high]", 6, "neither a number nor a date"),
        ("[-120, 3000]", "[0, 2020-01-01]", 6, "not of one kind"),
        ("nulls: 0.05", "nulls: 5", 6, "less than or equal to 1"),
        ("[AA, UA]", "[]", 5, "lists no value"),
        ("carriers.code", "carriers", 5, "write source.column"),
        ("N[0-9]{1,5}[A-Z]{0,2}", "N(", 8, "no regular expression of RE2"),
        ("N[0-9]{1,5}[A-Z]{0,2}", "(?=N)N", 8, "no regular expression of RE2"),
        ("length: [2, 6]", "length: [6, 2]", 8, "write the fewest first"),
        ("decimal(10,2)", "decimal(2,10)", 9, "is no type"),
        ("arrives >= departs", "arrives >=", 11, "is no valid SQL"),
        ("arrives >= departs", "sum(arrives) > 1", 11, "no function of one row's values"),
        ("arrives >= departs", "arrives IN (SELECT 1)", 11, "holds a subquery"),
        ("dimension: accuracy", "dimension: truth", 12, "is none of consistency"),
        ("{keys: {carrier: code}}", "{}", 14, "names neither `keys` nor `sums`"),
        ("within: 36h", "within: soon", 16, "is not a duration"),
        ("column: day, every: 35d, ", "", 16, "needs `column`"),
        ("rules:", "rulez:", 10, "did you mean rules?"),
        ("values_are_valid", "values_are_vlid", 18, "did you mean values_are_valid"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_what_is_right(
    tmp_path: Path, good: str, bad: str, line: int, wrong: str
) -> None:
    assert good in GOOD
    file = tmp_path / "flights.yaml"
    file.write_text(GOOD.replace(good, bad))
    with pytest.raises(SpecError) as error:
        load_source(file)
    assert (error.value.line, wrong in error.value.wrong) == (line, True), str(error.value)
    assert error.value.example


def test_a_project_expects_of_its_draws_what_a_source_does_of_its_files(tmp_path: Path) -> None:
    expect = {"columns": {"wind": {"range": [-10, 10]}}, "rules": [{"sql": "late IN (0, 1)"}]}
    spec = load_project(write_spec(tmp_path, expect=expect))
    assert spec.expect.columns["wind"].range == (-10, 10)
    with pytest.raises(SpecError, match="write the lowest value first"):
        load_project(write_spec(tmp_path, expect={"columns": {"wind": {"range": [10, -10]}}}))


def test_who_expects_nothing_is_written_as_before() -> None:
    assert SourceSpec(files="landing/flights/*").model_dump(mode="json") == "landing/flights/*"
    assert Expectations().sources == ()
