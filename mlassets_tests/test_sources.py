"""What can be said about a source, where, and how a mistake in it is told."""

from pathlib import Path

import pytest

from mlassets.home import Home, UnknownSource
from mlassets.ingestion.options import ReadOptions
from mlassets.projects import load_project, load_projects
from mlassets.sections import SpecError
from mlassets.sources import SourceSpec, covers, load_source, load_sources, together
from mlassets.steps import STEPS, step_hash
from mlassets_tests.test_projects import SKETCH, SMALLEST


def described(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_every_way_of_reading_can_be_said_of_a_source(tmp_path: Path) -> None:
    text = """
description: Departures
files: landing/flights/*.txt
format: csv
encoding: latin-1
delimiter: ";"
quote: "'"
header: false
columns: [a, b]
skip_rows: 2
decimal: ","
thousands: "."
date_format: "%d.%m.%Y"
nulls: ["-", 99]
types: {a: text, b: "decimal(10,2)"}
widths: [3, 4]
tables: 2024
records: data.items
on_bad_rows: skip
unpacked: 5GB
stale_after: 36h
"""
    spec = load_source(described(tmp_path, "flights", text))
    assert spec.options == ReadOptions(
        format="csv",
        encoding="latin-1",
        delimiter=";",
        quote="'",
        header=False,
        columns=("a", "b"),
        skip_rows=2,
        decimal=",",
        thousands=".",
        date_format="%d.%m.%Y",
        nulls=("-", "99"),
        types={"a": "text", "b": "decimal(10,2)"},
        widths=(3, 4),
        tables=("2024",),
        records="data.items",
        on_bad_rows="skip",
        unpacked=5 * 10**9,
    )
    assert set(ReadOptions.__dataclass_fields__) <= set(SourceSpec.model_fields)
    assert SourceSpec.model_validate(spec.model_dump(mode="json")) == spec
    assert ReadOptions.from_dict(spec.options.as_dict()) == spec.options


@pytest.mark.parametrize(
    ("text", "line", "field", "wrong"),
    [
        ("files: /etc/*", 1, "files", "relative to the home"),
        ("files: ../x/*", 1, "files", "stay inside"),
        ("files: s3://bucket", 1, "files", "names a bucket"),
        ("files: landing/x/", 1, "files", "names a folder"),
        ("delimeter: ';'", 1, "delimeter", "did you mean delimiter"),
        ("format: exe", 1, "format", "no format that is read"),
        ("encoding: klingon", 1, "encoding", "no encoding"),
        ("header: maybe", 1, "header", "boolean"),
        ("decimal: x", 1, "decimal", "none of . or ,"),
        ("skip_rows: -1", 1, "skip_rows", "greater than or equal"),
        ("columns: [a, a]", 1, "columns.1", "there twice"),
        ("types:\n  a: txt", 2, "types.a", "none of text, integer"),
        ("on_bad_rows: ignore", 1, "on_bad_rows", "none of fail or skip"),
        ("stale_after: soon", 1, "stale_after", "not a duration"),
        ("unpacked: much", 1, "unpacked", "not a size"),
        ("fetch: {}", 1, "fetch", "either a `url` or a `database`"),
        ("fetch:\n  url: ftp://x/y", 2, "fetch.url", "starts with https"),
        ("fetch:\n  url: https://u:p@x/y", 2, "fetch.url", "no secrets"),
        ("fetch:\n  database: postgresql://u:p@x/y\n  query: SELECT 1", 2, "fetch.database", "no secrets"),
        ("fetch:\n  database: postgresql://x/y", 1, "fetch.query", "go together"),
        ("fetch:\n  url: https://x/y\n  every: often", 3, "fetch.every", "not a duration"),
        ("fetch:\n  url: https://x/y\n  name: ../x", 3, "fetch.name", "stay inside"),
    ],
)
def test_a_mistake_is_told_with_line_field_and_remedy(
    tmp_path: Path, text: str, line: int, field: str, wrong: str
) -> None:
    with pytest.raises(SpecError) as caught:
        load_source(described(tmp_path, "flights", text))
    error = caught.value
    assert (error.line, error.field) == (line, field)
    assert wrong in error.wrong
    assert error.example
    # The same within a project.
    indented = text.replace("\n", "\n      ")
    project = SMALLEST.replace('{rows: "landing/rows/*"}', f"\n    rows:\n      {indented}")
    with pytest.raises(SpecError) as caught:
        load_project(described(tmp_path, "small", project))
    assert (caught.value.line, caught.value.field) == (line + 4, f"sources.rows.{field}")
    assert caught.value.example == error.example or field == "delimeter"


def test_a_source_of_one_glob_says_what_it_said_before(tmp_path: Path) -> None:
    spec = load_project(described(tmp_path, "sketch", SKETCH))
    assert spec.model_dump(mode="json")["sources"] == {
        "flights": "landing/flights/*",
        "weather": "landing/weather/*",
    }
    # As hashed before sources had specs: no step runs again because of them.
    assert step_hash(spec, "draw_data") == "df8ebe2c8af6f30fa754b5a226c2ee6d975dac158c09e5d392a59555c9de4043"
    full = SKETCH.replace(
        'flights: "landing/flights/*"', 'flights: {files: "landing/flights/*", delimiter: ";"}'
    )
    other = load_project(described(tmp_path, "full", full))
    assert [step_hash(other, step) for step in STEPS] == [step_hash(spec, step) for step in STEPS]
    assert other.hash() != spec.hash()


def test_a_project_may_name_sources_alone(tmp_path: Path) -> None:
    for text in ("[rows]", "{rows: }", "{rows: {}}"):
        spec = load_project(described(tmp_path, "small", SMALLEST.replace('{rows: "landing/rows/*"}', text)))
        assert spec.sources == {"rows": SourceSpec()}
    assert load_projects(tmp_path).sources["rows"].files == "landing/rows/**"


def test_descriptions_of_one_source_go_together_unless_they_contradict_each_other() -> None:
    bare, glob = SourceSpec(), SourceSpec(files="landing/x/**")
    full = SourceSpec(files="landing/x/**", delimiter=";")
    other = SourceSpec(files="landing/x/**", delimiter=",")
    for one in (bare, glob, full):
        assert together("x", one, full) == together("x", full, one) == full
    assert together("x", full, other) is None
    assert together("x", SourceSpec(files="landing/y/*"), full) is None
    assert together("x", SourceSpec(delimiter=";"), glob) == SourceSpec(delimiter=";")
    assert together("x", SourceSpec(delimiter=";"), SourceSpec(files="landing/x/*")) is None


def test_a_home_knows_its_sources_from_projects_from_files_and_from_what_has_landed(tmp_path: Path) -> None:
    home = Home(home=str(tmp_path))
    assert home.sources() == {}
    described(tmp_path / "projects", "small", SMALLEST)
    described(tmp_path / "sources", "rows", 'files: "landing/rows/*"\ndelimiter: ";"')
    described(tmp_path / "sources", "remote", 'files: "s3://bucket/x/*"')
    for folder in ("rows", "fresh", "Not a name", "_no"):
        (tmp_path / "landing" / folder).mkdir(parents=True)
    assert home.sources() == {
        "rows": SourceSpec(files="landing/rows/*", delimiter=";"),
        "remote": SourceSpec(files="s3://bucket/x/*"),
        "fresh": SourceSpec(files="landing/fresh/**"),
    }
    with pytest.raises(UnknownSource, match="did you mean fresh"):
        home.source("frsh")


def test_a_folder_that_a_spec_covers_is_no_source_of_its_own(tmp_path: Path) -> None:
    described(tmp_path / "sources", "all", 'files: "landing/*/2013.csv"')
    (tmp_path / "landing" / "flights").mkdir(parents=True)
    assert set(Home(home=str(tmp_path)).sources()) == {"all"}
    assert covers(SourceSpec(files="landing/**"), "x")
    assert not covers(SourceSpec(files="landing/*"), "x")
    assert not covers(SourceSpec(files="s3://landing/x/*"), "x")


def test_a_source_whose_spec_is_wrong_is_left_alone(tmp_path: Path) -> None:
    home = Home(home=str(tmp_path))
    described(tmp_path / "projects", "small", SMALLEST)
    described(tmp_path / "sources", "rows", "delimeter: ';'")
    (tmp_path / "landing" / "rows").mkdir(parents=True)
    loaded = home.load_sources()
    assert dict(loaded.specs) == {}, "its files would be read wrongly"
    assert [error.file.name for error in loaded.errors] == ["rows.yaml"]
    with pytest.raises(SpecError, match="delimeter"):
        home.source("rows")


def test_while_a_spec_cannot_be_read_no_folder_becomes_a_source(tmp_path: Path) -> None:
    described(tmp_path / "projects", "small", SMALLEST.replace("task: regression", "task: x"))
    (tmp_path / "landing" / "rows").mkdir(parents=True)
    assert Home(home=str(tmp_path)).sources() == {}


def test_a_project_that_contradicts_the_home_about_a_source_is_refused(tmp_path: Path) -> None:
    described(tmp_path / "projects", "small", SMALLEST)
    described(tmp_path / "sources", "rows", 'files: "landing/lines/*"')
    loaded = Home(home=str(tmp_path)).projects()
    assert loaded.specs == {}
    assert [error.field for error in loaded.errors] == ["sources.rows"]
    assert "the home's own description" in str(loaded.errors[0])


def test_a_file_is_named_after_its_source(tmp_path: Path) -> None:
    described(tmp_path, "Not a name", "delimiter: ';'")
    described(tmp_path, "fine", "delimiter: ';'")
    loaded = load_sources(tmp_path)
    assert set(loaded.specs) == {"fine"}
    assert "write not_a_name" in str(loaded.errors[0])
