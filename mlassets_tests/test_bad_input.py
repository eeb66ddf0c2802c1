"""Bad input, through the command or Dagster: the message names the culprit and the remedy, and nothing is lost.

`good` is a finished home with one segment. Tests that break something work on a copy and find its Things untouched.
"""

import gzip
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import Result

from mlassets.ingestion.landing import read_notes
from mlassets.runs import Outcome
from mlassets.steps import STEPS
from mlassets_tests.small_homes import (
    departures,
    land,
    mlassets,
    mlassets_process,
    new_home,
    newest,
    run_all,
    runner_of,
    store_of,
    write_spec,
)
from resources.settings import Settings
from resources.things import Partition

SELECT = "SELECT id, wind, carrier, late FROM flights"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = new_home(
        tmp_path_factory.mktemp("good") / "home",
        departures(["EWR"], 120),
        segments=None,
        draw={"sql": SELECT},
    )
    assert {one.state for one in run_all(home)} == {"done"}
    return home


@pytest.fixture
def home(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "home"))


def write_whole(home: Path, **changes: Any) -> Path:
    """The spec of `good` with some sections replaced."""
    return write_spec(home, **{"segments": None, "draw": {"sql": SELECT}, **changes})


def versions(home: Path) -> dict[tuple[str, str], str]:
    return {key: thing.id for key, thing in newest(home).items()}


def assert_kept(home: Path, before: dict[tuple[str, str], str], *, from_step: str) -> None:
    """From `from_step` on nothing has changed, and all of it can be read."""
    store, after = store_of(home), versions(home)
    steps = STEPS[STEPS.index(from_step) :]
    assert {key: one for key, one in after.items() if key[0] in steps} == {
        key: one for key, one in before.items() if key[0] in steps
    }
    assert all(store.verify(thing) == () for thing in store.history())


def refused(home: Path, spec: Path, *says: str) -> Result:
    """The command refuses the spec with exit code 2, naming its file, and what to do."""
    result = mlassets(home, "run", "--json")
    # A long path is broken over lines where it has no blank.
    words = " ".join(result.stderr.split())
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert spec.name in words.replace(" ", "")
    for part in (*says, "for example:"):
        assert part in words, words
    return result


# Specs


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"draw": {"sql": "SELECT * FROM flihgts"}},
            ["draw.sql", 'reads "flihgts", which is no source', "did you mean flights?"],
        ),
        (
            {"segments": {"column": "origin", "source": "flihgts"}},
            ["segments.source", "flihgts", "did you mean flights?"],
        ),
        ({"modle": {}}, ['"modle" is no field here', "did you mean model?"]),
        ({"model": {"metrik": "f1"}}, ['"metrik" is no field here', "did you mean metric?"]),
        ({"draw": {"sql": "SELEC id FROM flights"}}, ["draw.sql", "no valid SQL"]),
        (
            {"draw": {"sql": "SELECT 1 AS late; SELECT 2"}},
            ["draw.sql", "2 statements; it must be exactly one SELECT"],
        ),
        (
            {"draw": {"sql": "DROP TABLE flights"}},
            ["draw.sql", "DROP statement; it must be exactly one SELECT"],
        ),
        ({"draw": {"sql": "COPY flights TO '/x'"}}, ["draw.sql", "exactly one SELECT"]),
    ],
)
def test_a_spec_that_cannot_be_meant_is_refused_before_anything_runs(
    good: Path, tmp_path: Path, changes: dict[str, Any], says: list[str]
) -> None:
    home = tmp_path / "home"
    spec = write_whole(home, **changes)
    refused(home, spec, *says, "line ")
    assert not (home / "lake" / "things").exists()


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("Late Flights", "late-flights"), ("../up", "up"), ("späte_flüge", "spate-fluge"), ("a" * 80, "a" * 63)],
)
def test_a_project_name_that_is_no_slug_is_refused_with_a_suggestion(
    tmp_path: Path, name: str, suggestion: str
) -> None:
    spec = write_spec(tmp_path)
    spec.write_text(json.dumps({**json.loads(spec.read_text()), "project": name}, indent=1))
    refused(tmp_path, spec, "project", "line 2", f"write {suggestion}")
    data = land(tmp_path, "other/data.csv", departures(["EWR"], 30))
    result = mlassets(tmp_path, "new", name, "--data", str(data), "--target", "late")
    assert result.exit_code == 2
    assert f"Use {suggestion}." in " ".join(result.stderr.split())
    assert not list((tmp_path / "projects").glob(f"{suggestion}*"))


def failed(outcomes: list[Outcome], *says: str, step: str) -> None:
    """The last run failed in `step`, and its error says so."""
    assert outcomes[-1].state == "failed", outcomes
    assert step in outcomes[-1].steps
    for part in says:
        assert part in outcomes[-1].error, outcomes[-1].error


@pytest.mark.parametrize(
    ("changes", "step", "says"),
    [
        (
            {"draw": {"sql": "SELECT id, wnd, late FROM flights"}},
            "draw_data",
            ["the column 'wnd', which is not there", "Did you mean wind"],
        ),
        (
            {"target": {"column": "lat", "task": "binary"}},
            "model_ready",
            ["the target names the column 'lat'", "did you mean 'late'"],
        ),
        ({"key": ["idd"]}, "model_ready", ["'idd'", "did you mean 'id'"]),
        ({"features": {"drop": ["wnd"]}}, "model_ready", ["'wnd'", "did you mean 'wind'"]),
        (
            {"split": {"by": "time", "column": "hour"}},
            "model_ready",
            ["the split names the column 'hour'", "it has"],
        ),
    ],
)
def test_a_column_that_is_not_there_is_named_with_what_is(
    home: Path, changes: dict[str, Any], step: str, says: list[str]
) -> None:
    before = versions(home)
    write_whole(home, **changes)
    outcomes = run_all(home)
    failed(outcomes, *says, step=step)
    assert_kept(home, before, from_step=step)


def test_a_segment_column_that_no_source_has_is_named_with_those_there_are(home: Path) -> None:
    before = versions(home)
    write_spec(home, segments={"column": "orign"})
    result = mlassets(home, "run")
    words = " ".join(result.stderr.split())
    assert result.exit_code == 2
    for part in ("late: no source has the segment column `orign`", "origin", "Correct `segments:"):
        assert part in words
    assert_kept(home, before, from_step="draw_data")


def test_a_segment_that_the_data_does_not_have_is_told_and_the_others_go_on(home: Path) -> None:
    write_spec(home, segments=["EWR", "EWQ"])
    outcomes = run_all(home)
    states = {one.partition: one.state for one in outcomes}
    assert states["late|EWR"] == "done"
    assert states["late|EWQ"] == "blocked"
    (blocked,) = (one for one in outcomes if one.state == "blocked" and one.partition == "late|EWQ")
    assert "draw_data" in blocked.error
    assert ("model", "late|EWQ") not in newest(home)
    (verdict,) = (
        one
        for one in store_of(home).verdicts(newest(home)["aggregate", "late"].id)
        if one.claim == "segments_are_covered"
    )
    assert "EWQ" in verdict.message
    result = mlassets(home, "run")
    assert result.exit_code == 3
    assert "EWQ" in result.output


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("1", "all 120 rows"),
        ("CAST(NULL AS INT)", "all 120 rows"),
    ],
)
def test_a_target_with_nothing_to_learn_from_stops_before_training(
    home: Path, target: str, says: str
) -> None:
    before = versions(home)
    write_whole(home, draw={"sql": f"SELECT id, wind, carrier, {target} AS late FROM flights"})
    outcomes = run_all(home)
    assert outcomes[-1].state in ("failed", "blocked")
    assert "late" in outcomes[-1].error or "target" in outcomes[-1].error, outcomes[-1].error
    assert_kept(home, before, from_step="model_ready")
    assert mlassets(home, "run").exit_code in (1, 3)


# Landed files


def parquet_bytes() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(departures(["EWR"], 50, seed=8, first_id=5_000)), sink)
    return sink.getvalue()


BAD_FILES: dict[str, tuple[bytes, str, str]] = {
    "empty.csv": (b"", "EmptyFile", "Land it again when it is written completely"),
    "header.csv": (b"id,origin,wind,carrier,late\n", "EmptyFile", "at least one row"),
    "truncated.parquet": (parquet_bytes()[:-200], "TruncatedFile", "cut off or damaged"),
    "truncated.csv.gz": (
        gzip.compress(b"id,origin\n1,EWR\n" * 500, mtime=0)[:-9],
        "TruncatedFile",
        "cut off or damaged",
    ),
    "ragged.csv": (b"id,origin\n1,EWR\n2\n3,EWR,more\n", "RaggedRows", "line"),
    "mixed.csv": ("id,origin\n1,Zürich\n".encode() + "2,Zürich\n".encode("latin-1"), "BadEncoding", "UTF-8"),
}


@pytest.fixture(scope="module")
def landed(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `good` where all the bad files and a good one have landed and were taken."""
    home = Path(shutil.copytree(good, tmp_path_factory.mktemp("landed") / "home"))
    for name, (content, _, _) in BAD_FILES.items():
        land(home, f"flights/{name}", content)
    land(home, "flights/2013-02.csv", departures(["EWR"], 30, seed=9, first_id=7_000))
    with runner_of(home) as runner:
        (outcome,) = runner.take_landed_files()
    assert outcome.state == "done", outcome.error
    return home


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_cannot_be_read_is_quarantined_with_a_reason_and_stays_where_it_is(
    landed: Path, name: str
) -> None:
    content, kind, says = BAD_FILES[name]
    notes = {note.file.name: note for note in read_notes(Settings(home=landed).quarantine, "flights")}
    note = notes[f"flights/{name}"]
    assert note.kind == kind
    assert says in f"{note.reason} {note.fix} {note.details}"
    assert note.fix
    assert (landed / "landing/flights" / name).read_bytes() == content
    refused = {one["name"]: one for one in newest(landed)["sources", "flights"].parameters["quarantined"]}
    assert name in refused[f"flights/{name}"]["reason"]


def test_the_other_files_are_taken_and_a_verdict_tells_of_those_that_were_not(landed: Path) -> None:
    source = newest(landed)["sources", "flights"]
    assert [one["name"] for one in source.parameters["files"]] == [
        "flights/2013-01.csv",
        "flights/2013-02.csv",
    ]
    assert source.rows == 150
    (verdict,) = (
        one for one in store_of(landed).verdicts(source.id) if one.claim == "landed_files_are_taken"
    )
    assert (verdict.status, verdict.observed) == ("failed", len(BAD_FILES))
    assert "in quarantine" in verdict.message


def test_files_in_quarantine_are_not_looked_at_again_until_they_change(landed: Path) -> None:
    with runner_of(landed) as runner:
        assert runner.take_landed_files() == []


def test_a_corrected_file_is_taken_and_its_note_goes(landed: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(landed, tmp_path / "home"))
    land(home, "flights/ragged.csv", departures(["EWR"], 10, seed=1, first_id=9_000))
    with runner_of(home) as runner:
        (outcome,) = runner.take_landed_files()
    assert outcome.state == "done"
    assert newest(home)["sources", "flights"].rows == 160
    notes = {note.file.name for note in read_notes(Settings(home=home).quarantine)}
    assert notes == {f"flights/{name}" for name in BAD_FILES if name != "ragged.csv"}


def test_a_type_that_no_longer_fits_is_refused_and_the_source_stays_readable(home: Path) -> None:
    before = newest(home)["sources", "flights"]
    land(home, "flights/2013-02.csv", "id,origin,wind,carrier,late\n1,EWR,strong,AA,1\n")
    with runner_of(home) as runner:
        (outcome,) = runner.take_landed_files()
    assert outcome.state == "done"
    source = newest(home)["sources", "flights"]
    assert source.table().equals(before.table())
    assert "wind" in source.parameters["quarantined"][0]["reason"]


# Segments and features


# Each value has several odd things at once, and the last one 300 characters: every segment more takes seconds.
STRANGE = ("a/b", "..", 'it\'s [red]|"two"  Zürich ✈ 東京 '.ljust(299, "n") + " ")


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of odd segments: one is usual, one has 0 rows, one 1, and those with odd names 12."""
    rows = [
        *departures(["LGA"], 120),
        *departures(STRANGE, 12, seed=4, first_id=1_000),
        *departures(["one"], 1, first_id=5_000),
        *({**row, "wind": None} for row in departures(["none"], 3, first_id=6_000)),
    ]
    home = new_home(
        tmp_path_factory.mktemp("odd") / "home",
        rows,
        draw={"sql": f"{SELECT} WHERE origin = $segment AND wind IS NOT NULL"},
    )
    outcomes = run_all(home)
    assert [(one.partition, one.error) for one in outcomes if one.state == "failed"] == []
    return home


def test_a_segment_of_twelve_rows_gets_the_baseline_and_says_so(odd: Path) -> None:
    model = newest(odd)["model", "late|a/b"]
    assert model.parameters["candidate"] == "baseline"
    assert any("baseline" in note for note in model.parameters["notes"]), model.parameters["notes"]
    verdicts = store_of(odd).verdicts(model.id)
    assert not any(verdict.status == "crashed" for verdict in verdicts)
    assert any("row" in verdict.message for verdict in verdicts if not verdict.passed or verdict.n < 20)


def test_a_segment_of_one_row_which_no_test_could_judge_stops_with_a_verdict(odd: Path) -> None:
    things = newest(odd)
    blocking = [one for one in store_of(odd).verdicts(things["model_ready", "late|one"].id) if one.blocks]
    assert [one.claim for one in blocking] == ["every_split_holds_rows"]
    assert blocking[0].message == "1 rows to train on, 0 to test on."
    assert ("model", "late|one") not in things


def test_a_segment_without_rows_stops_at_its_draw_with_a_verdict(odd: Path) -> None:
    things = newest(odd)
    assert things["draw_data", "late|none"].rows == 0
    assert ("model", "late|none") not in things
    blocking = [one for one in store_of(odd).verdicts(things["draw_data", "late|none"].id) if one.blocks]
    assert blocking
    assert "row" in blocking[0].message


def test_the_other_segments_are_fine(odd: Path) -> None:
    things = newest(odd)
    assert things["model", "late|LGA"].parameters["candidate"] == "linear"
    assert things["aggregate", "late"].parameters["coverage"]["present"] == sorted(["LGA", *STRANGE])


@pytest.mark.parametrize("segment", STRANGE)
def test_any_segment_value_works_and_is_shown_as_it_is(odd: Path, segment: str) -> None:
    partition = Partition.segment("late", segment)
    store = store_of(odd)
    model = store.require("model", partition)
    assert model.partition["segment"] == segment
    lake = (odd / "lake").resolve()
    for component in model.components:
        place = (lake / component.path).resolve()
        assert place.is_relative_to(lake / "things" / "model" / "project=late")
        assert len(place.relative_to(lake).parts) == 6 + component.path.count("/artifacts/")
    assert store.verify(model) == ()
    assert Path(store.report_path(model.id) or "").is_file()
    (project,) = json.loads(mlassets(odd, "status", "--json").stdout)["projects"]
    (row,) = (one for one in project["segments"] if one["segment"] == segment)
    assert row["model"] == model.id
    shown = mlassets(odd, "status")
    assert shown.exception is None or isinstance(shown.exception, SystemExit)
    again = mlassets(odd, "run", "--step", "draw_data", "--segment", segment, "--json")
    assert again.exit_code in (0, 3), again.output
    (run,) = json.loads(again.stdout)["runs"]
    assert run["partition"] == partition.key


@pytest.fixture(scope="module")
def plain_features(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `good` with a constant feature, one that is always null, and a category that only the test has."""
    home = Path(shutil.copytree(good, tmp_path_factory.mktemp("features") / "home"))
    sql = (
        "SELECT id, wind, 7 AS same, CAST(NULL AS DOUBLE) AS nothing, late, "
        "DATE '2013-01-01' + CAST(id AS INT) AS day, "
        "CASE WHEN id >= 100 THEN 'unseen' ELSE carrier END AS carrier FROM flights"
    )
    write_whole(home, draw={"sql": sql}, split={"by": "time", "column": "day"})
    outcomes = run_all(home)
    assert {one.state for one in outcomes} == {"done"}, [one.error for one in outcomes]
    return home


@pytest.mark.parametrize(("column", "says"), [("same", "constant"), ("nothing", "null")])
def test_a_feature_that_says_nothing_is_left_out_with_a_reason(
    plain_features: Path, column: str, says: str
) -> None:
    ready = newest(plain_features)["model_ready", "late|all"]
    assert says in ready.parameters["dropped"][column]


def test_a_category_never_seen_in_training_is_predicted(plain_features: Path) -> None:
    things = newest(plain_features)
    ready = things["model_ready", "late|all"].table().to_pylist()
    assert "unseen" not in {row["carrier"] for row in ready if row["split"] == "train"}
    unseen = {row["row_key"] for row in ready if row["split"] == "test" and row["carrier"] == "unseen"}
    predicted = things["model", "late|all"].table().to_pylist()
    assert unseen
    assert unseen <= {row["row_key"] for row in predicted if row["prediction"] is not None}
    assert things["publish", "late"].metrics["round_trip_error"] == 0


# Limits


def test_a_draw_that_takes_too_long_is_stopped_and_the_version_before_stays(home: Path) -> None:
    before = versions(home)
    endless = "WITH RECURSIVE q AS (SELECT 1 AS late UNION ALL SELECT late + 1 FROM q) SELECT * FROM q"
    write_whole(home, draw={"sql": f"{endless} WHERE EXISTS (FROM flights)", "seconds": 0.3})
    failed(run_all(home), "limit of 0.3 s", "raise the limit", step="draw_data")
    assert_kept(home, before, from_step="draw_data")


def test_a_draw_that_needs_too_much_memory_is_stopped_and_the_version_before_stays(home: Path) -> None:
    before = versions(home)
    hungry = "SELECT list(range) AS late FROM range(50000000), (SELECT count(*) FROM flights)"
    write_whole(home, draw={"sql": hungry, "memory": "50MB"})
    failed(run_all(home), "limit of 50MB", "raise the limit", step="draw_data")
    assert_kept(home, before, from_step="draw_data")
    assert mlassets(home, "run").exit_code == 1


def test_a_model_that_takes_too_long_is_stopped_and_the_version_before_stays(home: Path) -> None:
    before = versions(home)
    model = {"candidates": ["linear"], "tune": {"trials": 100_000, "seconds": 600}}
    write_whole(home, model={**model, "limits": {"seconds": 0.5}})
    failed(
        run_all(home), "late|all model was stopped", "limit is 0.5 s", "raise `limits.seconds`", step="model"
    )
    assert_kept(home, before, from_step="model")


def test_a_model_that_needs_too_much_memory_is_stopped_and_the_version_before_stays(home: Path) -> None:
    # In a process of its own, where training alone loads more libraries than the limit allows.
    before = versions(home)
    write_whole(home, model={"candidates": ["linear"], "limits": {"memory": "10MB"}})
    process = mlassets_process(home, "run", "--json")
    printed, told = process.communicate(timeout=240)
    assert process.returncode == 1, told
    (run,) = json.loads(printed)["runs"]
    assert run["state"] == "failed"
    for part in ("late|all model was stopped", "its limit is 10 MB", "raise `limits.memory`"):
        assert part in run["error"]
    assert_kept(home, before, from_step="model")
