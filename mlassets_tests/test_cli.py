"""Every command, for people and for scripts: what it prints, and the exit code it ends with.

`home` is made by the two commands with which anybody starts: `mlassets new` on a CSV, then `mlassets run`.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from mlassets.projects import load_project
from mlassets.steps import STEPS
from mlassets_tests.resources.test_migrations import lay_out_as
from mlassets_tests.small_homes import (
    departures,
    land,
    mlassets,
    mlassets_process,
    newest,
    store_of,
    write_spec,
)
from resources.settings import Settings
from resources.things import Partition

COMMANDS = ("demo", "new", "run", "status", "verdicts", "report", "review", "ui", "catalog")


def odd_csv() -> str:
    """Semicolons, names with blanks and quotes, an empty name, an id, a constant, a column that tells the target."""
    lines = ['Row ID;"Wind; m/s";Carrier "code";;Same;Delay minutes;Is late?']
    for row in departures(["EWR"], 150, seed=2):
        word = "yes" if row["late"] else "no"
        lines.append(
            f'x{row["id"]};{row["wind"]};"{row["carrier"]} ""{"q"}""";;7;{30 * row["late"] + 1};{word}'
        )
    return "\r\n".join(lines) + "\r\n"


def as_json(result: Result) -> Any:
    """Standard output as JSON, with nothing else on it."""
    return json.loads(result.stdout)


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result, Result]:
    folder = tmp_path_factory.mktemp("cli")
    data = folder / "Odd data (1).csv"
    data.write_text(odd_csv(), encoding="utf-8")
    home = folder / "home"
    new = mlassets(home, "new", "odd-data", "--data", str(data), "--target", "Is late?")
    # The one thing that is changed in what was inferred: fewer trials, to save time.
    spec = home / "projects/odd-data.yaml"
    spec.write_text(spec.read_text().replace("trials: 20", "trials: 2"))
    run = mlassets(home, "run", "odd-data")
    return home, new, run


@pytest.fixture
def home(started: tuple[Path, Result, Result], tmp_path: Path) -> Path:
    return Path(shutil.copytree(started[0], tmp_path / "home"))


@pytest.fixture(scope="module")
def kept(started: tuple[Path, Result, Result]) -> Path:
    """The home that `new` and `run` made, for tests that only look."""
    return started[0]


def test_two_commands_take_an_odd_csv_to_a_model(started: tuple[Path, Result, Result]) -> None:
    home, new, run = started
    assert new.exit_code == 0, new.output
    assert "mlassets run odd-data --home" in words(new.stdout)
    assert "Odd data (1).csv: 150 rows" in words(new.stdout)
    assert run.exit_code == 0, run.output
    assert "done draw_data + model_ready + model of odd-data|all" in words(run.stdout)
    assert load_project(home / "projects/odd-data.yaml").target.column == "Is late?"
    assert newest(home)["model", "odd-data|all"].rows
    assert newest(home)["review", "odd-data"].parameters["decision"] == "wait"


def test_new_refuses_to_overwrite_a_project(home: Path) -> None:
    spec = home / "projects/odd-data.yaml"
    before = spec.read_text()
    data = land(home, "../other.csv", odd_csv())
    result = mlassets(home, "new", "odd-data", "--data", str(data), "--target", "Is late?")
    assert result.exit_code == 2
    assert "is there already; remove it, or give the project another name" in words(result.stderr)
    assert spec.read_text() == before
    assert not list((home / "landing").glob("*/other.csv"))


def test_new_says_what_it_made_as_json(tmp_path: Path) -> None:
    data = land(tmp_path, "../other.csv", departures(["EWR", "JFK"], 60))
    result = mlassets(
        tmp_path / "home",
        "new",
        "p",
        "--data",
        str(data),
        "--target",
        "late",
        "--segment",
        "origin",
        "--json",
    )
    assert result.exit_code == 0, result.output
    made = as_json(result)
    assert Path(made["spec"]).is_file()
    assert Path(made["landed"]).read_bytes() == data.read_bytes()
    assert made["notes"]
    assert load_project(Path(made["spec"])).segments.column == "origin"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--target", "lat"], "no column"),
        (["--target", "late", "--segment", "orign"], "did you mean origin?"),
        (["--target", "late", "--segment", "late"], "target and segment at once"),
    ],
)
def test_new_refuses_what_it_cannot_infer_and_writes_nothing(
    tmp_path: Path, options: list[str], says: str
) -> None:
    data = land(tmp_path, "../other.csv", departures(["EWR", "JFK"], 60))
    result = mlassets(tmp_path / "home", "new", "p", "--data", str(data), *options)
    assert result.exit_code == 2
    assert says in words(result.stderr)
    assert not (tmp_path / "home").exists() or not list((tmp_path / "home").rglob("*.yaml"))


def test_run_with_nothing_due_says_why(home: Path) -> None:
    result = mlassets(home, "run")
    assert result.exit_code == 0
    assert result.stdout.startswith("Nothing was due.")
    assert "draw_data of odd-data|all: odd_data unchanged" in words(result.stdout)
    again = as_json(mlassets(home, "run", "odd-data", "--json"))
    assert again["runs"] == []
    assert {(one["step"], one["state"]) for one in again["left"]} >= {
        ("draw_data", "current"),
        ("publish", "waiting"),
    }


def test_run_can_be_asked_for_one_step_of_one_segment(home: Path) -> None:
    before = newest(home)
    result = mlassets(home, "run", "odd-data", "--step", "draw_data", "--segment", "all", "--json")
    assert result.exit_code == 0, result.output
    (run,) = as_json(result)["runs"]
    assert (run["steps"], run["partition"], run["state"], run["reason"]) == (
        ["draw_data"],
        "odd-data|all",
        "done",
        "asked for",
    )
    after = newest(home)
    assert after["draw_data", "odd-data|all"].id != before["draw_data", "odd-data|all"].id
    assert after["draw_data", "odd-data|all"].data_version == before["draw_data", "odd-data|all"].data_version
    assert mlassets(home, "run").stdout.startswith("Nothing was due.")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["nosuch"], 'no spec names the project "nosuch"; there is odd-data'),
        (["odd-dat"], "did you mean odd-data?"),
        (["--step", "modle"], "'modle' is no step; the steps are draw_data, model_ready"),
        (["--step", "model", "--segment", "JFK"], "no chosen project has the segment 'JFK'"),
        (["--segment", "JFK"], "no chosen project has the segment 'JFK'"),
        (["--step", "publish", "--segment", "all"], "the step is per project; leave --segment out"),
    ],
)
def test_run_of_what_is_not_there_is_refused(kept: Path, options: list[str], says: str) -> None:
    for more in ([], ["--json"]):
        result = mlassets(kept, "run", *options, *more)
        assert result.exit_code == 2, result.output
        assert says in words(result.stderr)
        assert result.stdout == ""


def test_status_shows_figures_review_and_work(kept: Path) -> None:
    result = mlassets(kept, "status", "odd-data")
    assert result.exit_code == 0
    (row,) = as_json(mlassets(kept, "status", "--json"))["projects"]
    assert f"{row['segments'][0]['value']:.4f}" in result.stdout
    assert "review: wait (waits for a reviewer)" in result.stdout
    assert "waiting: publish of odd-data: the review waits for a reviewer" in words(result.stdout)
    assert row["segments"][0]["model"] == newest(kept)["model", "odd-data|all"].id
    assert row["segments"][0]["low"] <= row["segments"][0]["value"] <= row["segments"][0]["high"]


def test_status_of_a_home_without_projects_says_how_to_start(tmp_path: Path) -> None:
    result = mlassets(tmp_path / "home", "status")
    assert result.exit_code == 0
    assert "`mlassets new` starts one" in result.stdout
    assert as_json(mlassets(tmp_path / "home", "status", "--json")) == {"projects": [], "errors": []}


def test_status_shows_what_can_be_shown_beside_a_spec_that_cannot_be_read(home: Path) -> None:
    (home / "projects/broken.yaml").write_text("project: broken\ntarget: late\n")
    result = mlassets(home, "status")
    assert result.exit_code == 2
    assert "odd-data" in result.stdout
    assert "broken.yaml" in words(result.stderr).replace(" ", "")
    found = as_json(mlassets(home, "status", "--json"))
    assert [row["project"] for row in found["projects"]] == ["odd-data"]
    assert "target" in found["errors"][0]
    assert mlassets(home, "status", "broken").exit_code == 2
    assert mlassets(home, "status", "nosuch").exit_code == 2


def test_verdicts_lists_what_failed_or_everything(kept: Path) -> None:
    rows = as_json(mlassets(kept, "verdicts", "odd-data", "--json"))
    assert {row["step"] for row in rows} == set(STEPS) - {"publish"}
    assert all(
        {"claim", "status", "severity", "observed", "limit", "n", "message"} <= set(row) for row in rows
    )
    assert not any(row["blocks"] for row in rows)
    short, long = mlassets(kept, "verdicts", "odd-data"), mlassets(kept, "verdicts", "odd-data", "--all")
    assert short.exit_code == long.exit_code == 0
    failed = sum(row["status"] in ("failed", "crashed") for row in rows)
    assert f"{len(rows)} verdicts, {failed} failed." in short.stdout
    assert len(long.stdout) > len(short.stdout)
    assert mlassets(kept, "verdicts", "nosuch").exit_code == 2


def test_a_verdict_that_blocks_ends_run_and_verdicts_with_3(home: Path) -> None:
    spec = home / "projects/odd-data.yaml"
    spec.write_text(spec.read_text() + '\nchecks: {fail: {roc_auc: ">= 1.1"}}\n')
    asked = mlassets(home, "run", "--step", "model")
    assert asked.exit_code == 3, asked.output
    assert "blocked model of odd-data|all" in words(asked.stdout)
    left = mlassets(home, "run", "--json")
    assert left.exit_code == 3
    blocked = [one for one in as_json(left)["left"] if one["state"] == "blocked"]
    assert [(one["step"], one["partition"]) for one in blocked] == [("aggregate", "odd-data")]
    assert "roc_auc" in blocked[0]["reason"] or ">= 1.1" in blocked[0]["reason"]
    listed = mlassets(home, "verdicts", "odd-data", "--json")
    assert listed.exit_code == 3
    assert as_json(listed)[0]["blocks"] is True


def test_report_names_the_page_of_a_thing(kept: Path) -> None:
    thing = newest(kept)["model", "odd-data|all"]
    printed = mlassets(kept, "report", thing.id)
    assert printed.exit_code == 0
    path = Path(printed.stdout.strip())
    assert thing.id in path.read_text()
    found = as_json(mlassets(kept, "report", thing.id, "--json"))
    assert (found["thing"], found["report"]) == (thing.id, str(path))
    assert sum(found["verdicts"].values()) == len(store_of(kept).verdicts(thing.id))


def test_report_of_what_is_not_there_or_was_not_judged_says_so(home: Path) -> None:
    unknown = mlassets(home, "report", "nosuch")
    assert unknown.exit_code == 2
    assert "no Thing has the id 'nosuch'" in words(unknown.stderr)
    from resources.things import Draft

    thing = store_of(home).commit("model", Partition.segment("odd-data", "x"), Draft())
    unjudged = mlassets(home, "report", thing.id)
    assert unjudged.exit_code == 1
    assert "was not judged yet" in words(unjudged.stderr)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["nosuch", "approve", "--comment", "x"], "no spec names the project"),
        (["odd-data", "aprove", "--comment", "x"], "'aprove' is no decision; write `approve` or `reject`"),
        (["odd-data", "approve", "--comment", "x", "--reviewer", " "], "name of its reviewer"),
        (
            ["odd-data", "approve", "--comment", "x", "--send-back-to", "model"],
            "only a rejection sends work back",
        ),
    ],
)
def test_review_refuses_a_decision_that_cannot_be_meant(kept: Path, options: list[str], says: str) -> None:
    before = newest(kept)["review", "odd-data"].id
    result = mlassets(kept, "review", *options)
    assert result.exit_code == 2
    assert says in words(result.stderr)
    assert newest(kept)["review", "odd-data"].id == before


def test_review_needs_an_aggregate_to_decide_on(tmp_path: Path) -> None:
    write_spec(tmp_path)
    result = mlassets(tmp_path, "review", "late", "approve", "--comment", "x")
    assert result.exit_code == 2
    assert "late has no aggregate yet" in words(result.stderr)


def test_an_approval_by_command_publishes(home: Path) -> None:
    result = mlassets(home, "review", "odd-data", "approve", "--comment", "good", "--reviewer", "Ana")
    assert result.exit_code == 0, result.output
    assert "done review + publish of odd-data" in words(result.stdout)
    status = mlassets(home, "status")
    assert "review: approve (good)" in status.stdout
    assert "round-trip error 0" in status.stdout


def test_catalog_sync_and_rebuild_count_what_they_found(home: Path) -> None:
    things = len(store_of(home).history())
    assert as_json(mlassets(home, "catalog", "sync", "--json"))["things"] == 0
    assert as_json(mlassets(home, "catalog", "rebuild", "--json"))["things"] == things
    assert f"{things} Things" in mlassets(home, "catalog", "rebuild").stdout
    assert mlassets(home, "catalog", "sync").exit_code == 0


def test_a_damaged_manifest_is_told_and_the_rest_is_adopted(home: Path) -> None:
    thing = newest(home)["model", "odd-data|all"]
    manifest = home / "lake" / thing.folder / "thing.json"
    manifest.write_text(manifest.read_text()[:100])
    result = mlassets(home, "catalog", "rebuild")
    assert result.exit_code == 1
    assert "damaged:" in result.stderr
    assert thing.id in words(result.stderr).replace(" ", "")
    assert newest(home)["draw_data", "odd-data|all"].rows == 150


def test_verify_names_damage_and_ends_with_1(home: Path) -> None:
    whole = as_json(mlassets(home, "catalog", "verify", "--json"))
    assert whole["damaged"] == []
    assert whole["things"] == len(store_of(home).history())
    assert "0 damaged." in mlassets(home, "catalog", "verify").stdout
    thing = newest(home)["model", "odd-data|all"]
    model = Path(thing.artifact_path("model.skops"))
    model.write_bytes(model.read_bytes()[:-1])
    result = mlassets(home, "catalog", "verify", "--fresh")
    assert result.exit_code == 1
    assert "1 damaged." in result.stdout
    assert thing.id in words(result.stderr).replace(" ", "")
    listed = mlassets(home, "catalog", "verify", "--json")
    assert listed.exit_code == 1
    (damage,) = as_json(listed)["damaged"]
    assert damage["things"] == [thing.id]
    assert damage["path"].endswith("model.skops")


def test_an_old_catalog_asks_to_be_migrated_and_then_works(home: Path) -> None:
    for path in home.glob("catalog.db*"):
        path.unlink()
    lay_out_as("0002", Settings(home=home).catalog)
    asked = mlassets(home, "status")
    assert asked.exit_code == 2
    assert "mlassets catalog migrate" in words(asked.stderr)
    assert as_json(mlassets(home, "catalog", "migrate", "--json"))["before"] == "0002"
    assert "already" in mlassets(home, "catalog", "migrate").stdout
    assert mlassets(home, "status").exit_code == 0
    assert mlassets(home, "catalog", "rebuild").exit_code == 0
    assert "odd-data" in mlassets(home, "status").stdout


def test_sweep_tells_what_would_go_before_it_goes(home: Path) -> None:
    left = home / "lake/things/model/project=odd-data/segment=all/0000/artifacts/x"
    left.parent.mkdir(parents=True)
    left.write_text("left")
    assert as_json(mlassets(home, "catalog", "sweep", "--json"))["files"] == []
    options = ("catalog", "sweep", "--older-than", "0")
    told = mlassets(home, *options, "--dry-run")
    assert "1 files of 4 bytes would go." in told.stdout
    assert left.exists()
    assert as_json(mlassets(home, *options, "--json"))["bytes"] == 4
    assert not left.exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    result = mlassets(None, command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


@pytest.mark.parametrize(
    "command",
    [
        ["run"],
        ["status"],
        ["review", "late-flights", "approve", "--comment", "good"],
        ["release", "late-flights"],
        ["alerts"],
        ["ui"],
        ["catalog", "sync"],
    ],
)
def test_a_setting_that_cannot_be_used_is_told_by_every_command(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLASSETS_SECONDS_BETWEEN_LOOKS", "abc")
    found = mlassets(tmp_path / "home", *command)
    assert (found.exit_code, found.stdout) == (2, "")
    assert "MLASSETS_SECONDS_BETWEEN_LOOKS cannot be used" in words(found.stderr)
    assert not (tmp_path / "home").exists()


def test_an_unknown_command_or_option_ends_with_2() -> None:
    assert mlassets(None, "nosuch").exit_code == 2
    assert mlassets(None, "status", "--nosuch").exit_code == 2


def test_the_demo_refuses_places_elsewhere_that_are_in_use(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLASSETS_CATALOG", str(kept / "catalog.db"))
    result = mlassets(tmp_path / "new", "demo")
    assert result.exit_code == 2
    assert "are in use; unset the variables" in words(result.stderr)


def test_the_demo_refuses_a_home_that_is_in_use(kept: Path) -> None:
    before = sorted(path.name for path in kept.iterdir())
    result = mlassets(kept, "demo")
    assert result.exit_code == 2
    assert "is not empty; remove it, or name another folder with --home" in words(result.stderr)
    assert sorted(path.name for path in kept.iterdir()) == before


def test_the_installed_command_prints_json_alone_and_no_traceback(kept: Path) -> None:
    process = mlassets_process(kept, "status", "--json")
    printed, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert json.loads(printed)["projects"][0]["project"] == "odd-data"
    process = mlassets_process(kept, "status", "nosuch")
    printed, told = process.communicate(timeout=120)
    assert process.returncode == 2
    assert printed == ""
    assert "Traceback" not in told
    assert "no spec names the project" in words(told)
