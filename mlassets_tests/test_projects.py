from datetime import UTC, datetime
from pathlib import Path

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mlassets.inference import yaml_text
from mlassets.modelling.metrics import DEFAULT_METRIC, METRICS
from mlassets.projects import (
    CronRule,
    NewDataRule,
    ProjectSpec,
    RetrainSpec,
    check_names,
    load_project,
    load_projects,
)
from mlassets.rules import DEFAULT_RULES
from mlassets.sections import SLUG, SpecError, memory_bytes, slugify
from resources.verdicts import Limit

# The sketch of the design, word for word.
SKETCH = """
project: late-flights
description: Will a departure be at least 15 minutes late on arrival?
owners: [team:network-ops]
sources: {flights: "landing/flights/*", weather: "landing/weather/*"}
segments: {column: origin}                 # or a list; default: one segment `all`
draw:
  sql: |
    SELECT * FROM flights WHERE origin = $segment
target: {column: late, task: binary}       # binary | multiclass | regression
features: {drop: [arr_time, arr_delay]}    # default: every column but the target; typed automatically
split: {by: time, column: time_hour, test: 0.25}   # random | time | group; stratified where it applies
model: {candidates: [baseline, linear, gradient_boosting], metric: roc_auc, tune: {trials: 20, seconds: 60}}
aggregate: {method: weighted}              # weighted | unweighted
checks: {fail: {roc_auc: ">= 0.60"}, warn: {feature_drift: "<= 0.2"}}
review: {mode: manual}                     # manual | auto, with rules
retrain: {on: new_data, min_new_rows: 500} # new_data | drift | cron
"""

SMALLEST = """
project: small
sources: {rows: "landing/rows/*"}
draw: {sql: SELECT * FROM rows}
target: {column: y, task: regression}
"""


def load(folder: Path, text: str | bytes, name: str = "spec.yaml") -> ProjectSpec:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_project(path)


def refused(folder: Path, text: str | bytes) -> SpecError:
    with pytest.raises(SpecError) as caught:
        load(folder, text)
    error = caught.value
    assert error.file == folder / "spec.yaml"
    assert len(str(error)) < 5_000
    assert all(mistake.example for mistake in error.mistakes)
    return error


def test_the_sketch_of_the_design_loads_word_for_word(tmp_path: Path) -> None:
    spec = load(tmp_path, SKETCH)
    assert spec.project == "late-flights"
    assert spec.segments.column == "origin"
    assert spec.checks.limits == {
        "roc_auc": Limit(">=", 0.6, "ERROR"),
        "feature_drift": Limit("<=", 0.2, "WARN"),
    }
    assert (spec.split.by, spec.split.test, spec.split.validation) == ("time", 0.25, 0.2)
    assert (spec.model.metric, spec.model.tune.trials) == ("roc_auc", 20)
    assert spec.retrain.rule == NewDataRule(min_new_rows=500)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_what_a_spec_leaves_out_has_a_default_that_fits_its_task(tmp_path: Path, task: str) -> None:
    spec = load(tmp_path, SMALLEST.replace("regression", task))
    assert spec.model.metric == DEFAULT_METRIC[spec.target.task]
    assert spec.segments.is_whole
    assert spec.review.rules == DEFAULT_RULES


@pytest.mark.parametrize(
    ("before", "after", "line", "field", "wrong"),
    [
        ("late-flights", "Late Flights", 2, "project", "write late-flights"),
        ("late-flights", "a" * 64, 2, "project", "at most 63"),
        ("owners:", "ownres:", 4, "ownres", "did you mean owners"),
        ("team:network-ops", "bob", 4, "owners.0", "neither team:name nor an e-mail"),
        ('"landing/weather/*"', '"/etc/*"', 5, "sources.weather", "relative to the home"),
        ('"landing/weather/*"', '"../x/*"', 5, "sources.weather", "stay inside the home"),
        ('"landing/weather/*"', '"ftp://b/x"', 5, "sources.weather", "relative to the home"),
        ('"landing/weather/*"', "3", 5, "sources.weather", "string"),
        ("weather:", "'Weather Data':", 5, "sources.Weather Data", "write weather_data"),
        (
            "{column: origin}",
            "{column: origin, source: flihgts}",
            6,
            "segments.source",
            "did you mean flights",
        ),
        ("{column: origin}", "[EWR, EWR]", 6, "segments.1", "there twice"),
        ("{column: origin}", "[EWR, 1.5]", 6, "segments.1", "quotes"),
        ("{column: origin}", "[]", 6, "segments", "lists no value"),
        ("{column: origin}", "{source: flights}", 6, "segments", "column"),
        ("$segment", "'EWR' -- $segment", 8, "draw.sql", "never uses $segment"),
        ("segments: {column: origin}", "", 8, "draw.sql", "has no `segments`"),
        (
            "sql: |\n    SELECT * FROM flights WHERE origin = $segment",
            "sql: '-- none'",
            8,
            "draw.sql",
            "holds no SQL",
        ),
        ("task: binary", "task: binry", 10, "target.task", "none of binary, multiclass or regression"),
        ("task: binary", "task: regression, positive: 1", 10, "target.positive", "only a binary target"),
        ("arr_time, arr_delay", "arr_time, late", 11, "features.drop.1", "is the target"),
        ("[arr_time, arr_delay]", "[a], kinds: {a: numeric}", 11, "features.kinds.a", "is dropped"),
        ("[arr_time, arr_delay]", "[a], kinds: {b: number}", 11, "features.kinds.b", "none of numeric"),
        ("column: time_hour, ", "", 12, "split.column", "is missing"),
        ("by: time,", "by: random,", 12, "split.column", "uses no column"),
        ("test: 0.25", "test: 1.5", 12, "split.test", "less than 1"),
        ("test: 0.25", "test: 0.9", 12, "split.test", "nothing to train on"),
        ("test: 0.25", "test: .nan", 12, "split.test", "finite"),
        ("linear,", "lineer,", 13, "model.candidates.1", "did you mean linear"),
        ("metric: roc_auc", "metric: roc_acu", 13, "model.metric", "did you mean roc_auc"),
        ("metric: roc_auc", "metric: rmse", 13, "model.metric", "no metric of a binary task"),
        ("trials: 20", "trials: many", 13, "model.tune.trials", "integer"),
        ("weighted}", "mean}", 14, "aggregate.method", "none of weighted or unweighted"),
        ('">= 0.60"', "0.6", 15, "checks.fail.roc_auc", "comparison in quotes"),
        ('">= 0.60"', '">= many"', 15, "checks.fail.roc_auc", "not a limit"),
        ("{roc_auc:", "{roc_auk:", 15, "checks.fail.roc_auk", "did you mean roc_auc"),
        ("feature_drift", "roc_auc", 15, "checks.warn.roc_auc", "under `fail` as well"),
        ("{mode: manual}", "{mode: auto, rules: []}", 16, "review.rules", "approve everything"),
        ("{mode: manual}", '{rules: ["auc >= 0.6"]}', 16, "review.rules.0", "no metric"),
        ("{mode: manual}", '{rules: ["looks good"]}', 16, "review.rules.0", "is no rule"),
        ("{mode: manual}", '{rules: ["worst segment auc >= 0.5"]}', 16, "review.rules.0", "no metric"),
        ("{mode: manual}", "{reviewers: [ana, ana]}", 16, "review.reviewers.1", "there twice"),
        ("{mode: manual}", "{release_as: queen}", 16, "review.release_as", "none of"),
        ("{mode: manual}", "", 16, "review", "without a value"),
        ("new_data,", "crno,", 17, "retrain.on", "none of new_data, cron or drift"),
        (
            "new_data,",
            "drift,",
            17,
            "retrain.min_new_rows",
            "belongs to `on: new_data`, and this rule is `on: drift`",
        ),
        ("min_new_rows: 500", "min_new_rows: -1", 17, "retrain.min_new_rows", "greater than or equal to 0"),
    ],
)
def test_a_mistake_is_told_with_line_field_and_remedy(
    tmp_path: Path, before: str, after: str, line: int, field: str, wrong: str
) -> None:
    assert before in SKETCH
    error = refused(tmp_path, SKETCH.replace(before, after, 1))
    assert (error.line, error.field) == (line, field)
    assert wrong in error.wrong
    assert f"line {line}, {field}" in str(error)


@pytest.mark.parametrize(
    ("content", "line", "wrong"),
    [
        ("", 1, "is empty"),
        ("  \n# nothing\n", 1, "is not a mapping"),
        ("- a\n- b\n", 1, "is not a mapping"),
        ("project: a\nsources:\n\tx: 1\n", 3, "a tab indents this line"),
        ("project: a\nseed: 1\nproject: b\n", 3, 'duplicate key "project"'),
        ("project: a\nowners: [a\n", 3, "expected"),
        ("project: a\n---\nproject: b\n", 2, "another document"),
        (b"project: a\ndescription: \xe9t\xe9\n", 2, "not UTF-8"),
        (b"project: a\nx: \x07\n", 2, "is not allowed in YAML"),
        ("project: a\n1: 2\n", 2, "not text"),
        ("project: a\nseed: !!python/object:os.system 1\n", 2, "YAML tag"),
        ("project: " + "[" * 3_000, 1, "cannot be read"),
        ("x: " + "a" * 1_000_001, None, "larger than 1,000,000 bytes"),
        ("seed: 2024-13-45\n", 1, "cannot be read as YAML"),
    ],
)
def test_what_is_no_yaml_mapping_is_refused_with_its_line(
    tmp_path: Path, content: str | bytes, line: int | None, wrong: str
) -> None:
    error = refused(tmp_path, content)
    assert error.line == line
    assert wrong in error.wrong


def test_aliases_of_aliases_do_not_fill_the_memory(tmp_path: Path) -> None:
    levels = ["a: &a [x,x,x,x,x,x,x,x,x,x]"]
    levels += [
        f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    assert "more than 50,000 values" in str(refused(tmp_path, "\n".join(levels)))


def test_all_mistakes_of_a_file_are_listed_in_its_order(tmp_path: Path) -> None:
    text = (
        SKETCH.replace("team:network-ops", "bob")
        .replace("roc_auc,", "roc_acu,")
        .replace("new_data,", "drift,")
    )
    error = refused(tmp_path, text)
    assert [mistake.field for mistake in error.mistakes] == [
        "owners.0",
        "model.metric",
        "retrain.min_new_rows",
    ]
    assert str(error).startswith(f"{tmp_path / 'spec.yaml'}: 3 mistakes")
    assert error.project == "late-flights"


@pytest.mark.parametrize(
    ("rule", "field", "wrong", "example"),
    [
        ("new_data", "", '"new_data" is no rule', "on: new_data"),
        ("[]", "", "[] is no rule", "on: new_data"),
        (
            "{on: drift, any: [{on: drift}]}",
            "",
            "gives `on` and `any`; a rule has one of them",
            "on: new_data",
        ),
        ("{any: [{on: drift}], all: [{on: drift}]}", "", "gives `any` and `all`", "on: new_data"),
        ("{on: [1]}", "on", "[1] is none of new_data, cron or drift", "on: new_data"),
        ("{on: drift, abov: 0.3}", "abov", "did you mean above?", "retrain: {on: new_data"),
        ("{above: 0.3}", "above", "belongs to `on: drift`, and this rule is `on: new_data`", "above: 0.2"),
        ("{on: drift, above: 1}", "above", "less than 1", "above: 0.2"),
        ("{on: drift, above: .nan}", "above", "finite", "above: 0.2"),
        ("{min_new_share: 1.5}", "min_new_share", "less than or equal to 1", "min_new_share: 0.05"),
        ("{min_new_share: 5%}", "min_new_share", "valid number", "min_new_share: 0.05"),
        ("{on: cron}", "cron", "is missing", "timezone: Europe/Berlin"),
        ("{on: cron, cron: 6}", "cron", "valid string", "timezone: Europe/Berlin"),
        ("{on: cron, cron: '0 25 * * *'}", "cron", "is no cron expression (Bad hour)", '"0 6 * * 1"'),
        ("{on: cron, cron: '@daily'}", "cron", "five fields", '"0 6 * * 1"'),
        ("{on: cron, cron: '0 0 6 * * 1'}", "cron", "five fields", '"0 6 * * 1"'),
        ("{on: cron, cron: '0 0 31 2 *'}", "cron", "is no cron expression (Bad day-of-month)", '"0 6 * * 1"'),
        ("{on: cron, cron: '0 0 */20 * 1L'}", "cron", "names a time that never comes", '"0 6 * * 1"'),
        (
            "{on: cron, cron: '0 6 * * 1', timezone: Europe/Berln}",
            "timezone",
            "Europe/Berlin",
            "Europe/Berlin",
        ),
        ("{on: cron, cron: '0 6 * * 1', timezone: Europe}", "timezone", "is no time zone", "Europe/Berlin"),
        ("{on: cron, cron: '0 6 * * 1', timezone: ../x}", "timezone", "is no time zone", "Europe/Berlin"),
        ("{on: cron, cron: '0 6 * * 1', min_new_rows: 5}", "min_new_rows", "`any` and `all` combine", "500"),
        ("{any: []}", "any", "lists no rule, and so would never hold", "any: [{on: drift"),
        ("{all: []}", "all", "lists no rule, and so would always hold", "all: [{on: new_data"),
        ("{any: {on: drift}}", "any", "is not a list of rules", "any: [{on: drift"),
        ("{any: [drift]}", "any.0", '"drift" is no rule', "any: [{on: drift"),
        ("{any: [{all: [{on: drift, above: 7}]}]}", "any.0.all.0.above", "less than 1", "above: 0.2"),
        (
            "{any: [{on: drift, cool_down: 6h}]}",
            "any.0.cool_down",
            "directly below `retrain`",
            "cool_down: 6h",
        ),
        ("{cool_down: 6 hours}", "cool_down", "is not a duration", "cool_down: 6h"),
        ("{most_per_day: 0}", "most_per_day", "greater than or equal to 1", "most_per_day: 4"),
    ],
)
def test_a_mistake_in_a_rule_of_retrain_is_told_where_it_stands(
    tmp_path: Path, rule: str, field: str, wrong: str, example: str
) -> None:
    error = refused(tmp_path, SMALLEST + f"retrain: {rule}\n")
    assert (error.line, error.field) == (6, f"retrain.{field}".rstrip("."))
    assert wrong in error.wrong
    assert example in error.example


def test_each_mistake_in_nested_rules_has_its_own_line(tmp_path: Path) -> None:
    rules = """
retrain:
  any:
    - {on: drift, above: 2}
    - all:
        - {on: cron, cron: "* * *"}
        - min_new_rows: many
  cool_down: soon
"""
    error = refused(tmp_path, SMALLEST + rules.lstrip("\n"))
    assert [(one.line, one.field) for one in error.mistakes] == [
        (8, "retrain.any.0.above"),
        (10, "retrain.any.1.all.0.cron"),
        (11, "retrain.any.1.all.1.min_new_rows"),
        (12, "retrain.cool_down"),
    ]


def test_rules_of_retrain_nest_and_read_back_as_they_are_written(tmp_path: Path) -> None:
    rule = (
        "{any: [{on: drift}, {all: [{on: cron, cron: '0  6 * * 1', timezone: Europe/Berlin}, {min_new_rows: 5}]}], "
        "cool_down: 6h, most_per_day: 4}"
    )
    spec = load(tmp_path, SMALLEST + f"retrain: {rule}\n")
    assert spec.model_dump(mode="json")["retrain"] == {
        "any": [
            {"on": "drift", "above": 0.2},
            {
                "all": [
                    {"on": "cron", "cron": "0 6 * * 1", "timezone": "Europe/Berlin"},
                    {"on": "new_data", "min_new_rows": 5, "min_new_share": 0.0},
                ]
            },
        ],
        "cool_down": "6h",
        "most_per_day": 4,
    }
    assert ProjectSpec.model_validate(spec.model_dump(mode="json")) == spec
    assert ProjectSpec.model_validate(spec.model_dump()) == spec
    assert RetrainSpec.model_validate({}) == RetrainSpec() == load(tmp_path, SMALLEST).retrain


@settings(deadline=None)
@given(st.text("0123456789*/,-#LWSUNMON ", max_size=25))
def test_any_text_is_a_schedule_that_comes_or_is_refused(text: str) -> None:
    try:
        rule = CronRule(cron=text)
    except ValidationError:
        return
    assert next(CronSim(rule.cron, datetime(2026, 1, 1, tzinfo=UTC)))


def test_a_huge_value_is_not_repeated_in_the_error(tmp_path: Path) -> None:
    assert len(str(refused(tmp_path, SMALLEST.replace("small", "x" * 900_000)))) < 500
    assert len(str(refused(tmp_path, SMALLEST + "k" * 900_000 + ": 1\n"))) < 500


def test_a_file_that_is_not_there_or_a_folder_is_an_error_of_that_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(SpecError, match="cannot be read"):
            load_project(path)


@pytest.mark.parametrize("value", ["a/b", "..", "with space", "'\"", "|", "ünï✈️", "x" * 300, "all the same"])
def test_segments_may_be_any_text(tmp_path: Path, value: str) -> None:
    spec = load(tmp_path, SKETCH.replace("{column: origin}", f"[{yaml_text(value)}, 7]"))
    assert spec.segments.values == (value, "7")


def test_specs_are_frozen_and_checked_when_made_in_python_too() -> None:
    with pytest.raises(ValidationError):
        ProjectSpec.model_validate({"project": "Not A Slug"})


def test_the_hash_follows_the_meaning_and_not_the_look_of_a_file(tmp_path: Path) -> None:
    spec = load(tmp_path, SMALLEST)
    same = load(
        tmp_path,
        "# a comment\n" + SMALLEST.replace("{column: y, task: regression}", "{task: regression, column: y}"),
    )
    assert spec.hash() == same.hash()
    assert load(tmp_path, SMALLEST + "seed: 0\n").hash() == spec.hash()


def test_a_change_of_the_review_touches_the_review_only(tmp_path: Path) -> None:
    spec = load(tmp_path, SKETCH)
    changed = load(tmp_path, SKETCH.replace("{mode: manual}", "{mode: auto}"))
    assert spec.hash() != changed.hash()
    differing = {name for name in ProjectSpec.model_fields if spec.hash_of(name) != changed.hash_of(name)}
    assert differing == {"review"}
    assert spec.hash_of("draw", "target") == changed.hash_of("target", "draw")
    with pytest.raises(KeyError):
        spec.hash_of("revue")


def test_a_folder_gives_what_is_usable_beside_what_is_not(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SKETCH)
    (tmp_path / "b.yml").write_text(SMALLEST)
    (tmp_path / "c.yaml").write_text("project: broken\n")
    (tmp_path / ".hidden.yaml").write_text("x")
    (tmp_path / "notes.txt").write_text("x")
    loaded = load_projects(tmp_path)
    assert set(loaded.specs) == {"late-flights", "small"}
    assert loaded.files["small"] == tmp_path / "b.yml"
    assert [(error.file.name, error.project) for error in loaded.errors] == [("c.yaml", "broken")]
    assert load_projects(tmp_path / "none").specs == {}


def test_two_files_that_name_one_project_are_both_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SMALLEST)
    (tmp_path / "b.yaml").write_text(SMALLEST)
    loaded = load_projects(tmp_path)
    assert loaded.specs == {}
    assert [(error.file.name, error.line, error.field) for error in loaded.errors] == [
        ("a.yaml", 2, "project"),
        ("b.yaml", 2, "project"),
    ]
    assert "b.yaml" in str(loaded.errors[0])


def test_one_source_with_two_globs_is_refused_in_both_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SMALLEST)
    (tmp_path / "b.yaml").write_text(
        SMALLEST.replace("small", "other").replace("landing/rows/*", "landing/lines/*")
    )
    (tmp_path / "c.yaml").write_text(SKETCH)
    loaded = load_projects(tmp_path)
    assert set(loaded.specs) == {"late-flights"}
    assert [error.field for error in loaded.errors] == ["sources.rows", "sources.rows"]
    assert '"landing/lines/*"' in str(loaded.errors[0])
    assert "b.yaml" in str(loaded.errors[0])


def test_every_metric_and_check_of_a_task_may_be_limited(tmp_path: Path) -> None:
    for task in METRICS:
        for name in check_names(task):
            spec = load(
                tmp_path, SMALLEST.replace("regression", task) + f'checks: {{warn: {{{name}: "<= 1"}}}}\n'
            )
            assert spec.checks.limits == {name: Limit("<=", 1.0, "WARN")}


@given(st.text(max_size=600))
def test_a_suggested_slug_is_one(text: str) -> None:
    slug = slugify(text)
    assert SLUG.fullmatch(slug)
    assert len(slug) <= 63
    assert slugify(slug) == slug


@pytest.mark.parametrize(("text", "size"), [("2GB", 2 * 10**9), ("512 MiB", 512 * 2**20), ("1.5KB", 1500)])
def test_sizes_are_read_with_their_unit(text: str, size: int) -> None:
    assert memory_bytes(text) == size


@pytest.mark.parametrize("text", ["2", "GB", "-1GB", "0GB", "2 gb", "1e9GB", "infGB"])
def test_a_size_without_number_or_unit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        memory_bytes(text)


def test_the_text_of_a_spec_is_a_spec_that_means_the_same(tmp_path: Path) -> None:
    whole = tmp_path / "whole.yaml"
    whole.write_text(
        "project: late\nsources: {flights: 'landing/flights/*'}\nsegments: {column: origin}\n"
        "draw: {sql: SELECT * FROM flights WHERE origin = $segment}\ntarget: {column: late, task: binary}\n"
        "checks: {fail: {roc_auc: '>= 0.60'}, warn: {feature_drift: '<= 0.2'}}\n"
        "retrain: {any: [{on: drift, above: 0.2}, {on: cron, cron: '0 6 * * 1'}], cool_down: 6h}\n"
        "stale_after: {flights: 35d}\nreview: {mode: auto, rules: [roc_auc >= 0.5]}\n"
    )
    spec = load_project(whole)
    again = tmp_path / "again.yaml"
    again.write_text(spec.text())
    assert load_project(again) == spec
    assert load_project(again).hash() == spec.hash()
