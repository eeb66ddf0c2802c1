"""`find`, `browse` and `show` tell people and programs the same."""

import csv
import json
import re
import shlex
from pathlib import Path

import pytest

from mlassets_tests.small_homes import mlassets, store_of
from resources.filters import parse
from resources.things import Draft, Partition, Thing
from resources.verdicts import Verdict

EWR = Partition.segment("late", "EWR")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models, one of them retired, and an upload with a hostile name."""
    folder = tmp_path_factory.mktemp("home")
    store = store_of(folder)
    for number, auc in enumerate((0.6, float("nan"), 0.9)):
        labels = {"ticket": f"AB-{number}", "[red]note": "[bold]x[/bold]"}
        thing = store.commit(
            "model", EWR, Draft(metrics={"roc_auc": auc}, labels=labels, parameters={"a.b": 2**60})
        )
    store.record_verdicts(
        thing.id, "run", [Verdict("fine", "failed", "WARN", 0.5, "<= 1", 10, "too late", {})]
    )
    store.retire(store.find("labels.ticket=AB-0").ids()[0], "wrong")
    store.commit(
        "uploads", Partition({"name": "[red]evil\n<script>"}), Draft(artifacts={"note.txt": b"hello"})
    )
    return folder


def model(home: Path, ticket: str) -> Thing:
    found = store_of(home).find({"labels.ticket": ticket}, retired=True).first()
    assert found is not None
    return found


def test_find_prints_what_was_asked_for(home: Path) -> None:
    told = mlassets(home, "find", "labels.ticket=AB-2", "metrics.roc_auc>0.7 step=model since=7d")
    assert told.exit_code == 0
    assert model(home, "AB-2").short_id in told.stdout
    assert "0.9" in told.stdout
    assert "AB-2" in told.stdout
    assert "Nothing was found" in mlassets(home, "find", "step=nosuch").stdout


def test_json_is_what_the_table_shows_and_a_count_what_there_is(home: Path) -> None:
    rows = json.loads(mlassets(home, "find", "step=model", "--sort", "metrics.roc_auc", "--json").stdout)
    assert [row["metrics.roc_auc"] for row in rows] == [0.9, "nan"]
    assert rows[0]["parameters.a.b"] == 2**60
    assert rows[0]["labels.[red]note"] == "[bold]x[/bold]"
    everything = json.loads(
        mlassets(home, "browse", "--retired", "--json", "--columns", "id,labels.ticket").stdout
    )
    assert [row.get("labels.ticket") for row in everything] == [None, "AB-2", "AB-1", "AB-0"]
    assert mlassets(home, "find", "step=model", "--count").stdout == "2\n"
    assert json.loads(mlassets(home, "browse", "--count", "--json").stdout) == {"count": 3}


def test_a_csv_file_has_all_columns(home: Path, tmp_path: Path) -> None:
    told = mlassets(home, "find", "step=model", "--csv", str(tmp_path / "found" / "things.csv"))
    assert "Wrote 2 Things" in told.stdout
    with (tmp_path / "found" / "things.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["labels.ticket"] for row in rows] == ["AB-2", "AB-1"]
    assert rows[0]["created_at"] == model(home, "AB-2").created_at.isoformat()


def test_a_page_says_how_much_there_is(home: Path) -> None:
    told = mlassets(home, "browse", "--limit", "1", "--offset", "1")
    assert "1 of 3" in told.stderr
    assert model(home, "AB-2").short_id in told.stdout


def test_names_are_printed_as_they_are_whatever_they_look_like(home: Path) -> None:
    told = mlassets(home, "browse")
    assert "[red]evil" in "".join(told.stdout.split())
    shown = mlassets(home, "show", "[red]evil\n<script>").stdout
    assert "note.txt" in shown
    assert "5 bytes" in shown


def test_who_misspells_is_told_what_comes_near(home: Path) -> None:
    told = mlassets(home, "find", "labels.tiket=AB-1")
    assert told.exit_code == 0
    assert "no Thing has a label 'tiket'. Did you mean ticket?" in " ".join(told.stderr.split())
    for wrong in ("stp=model", "step=", "model", "metrics.roc_auc~(", "size=large"):
        refused = mlassets(home, "find", wrong)
        assert refused.exit_code == 2, wrong
        assert refused.stderr.startswith("error:")
        assert refused.stdout == ""


def test_show_tells_all_that_is_known(home: Path) -> None:
    thing = model(home, "AB-2")
    shown = mlassets(home, "show", thing.short_id)
    assert shown.exit_code == 0
    for part in (
        thing.id,
        "roc_auc",
        "AB-2",
        "too late",
        "[bold]x[/bold]",
        "1,152,921,504,606,846,976",
        "user",
    ):
        assert part in shown.stdout, part
    told = json.loads(mlassets(home, "show", thing.id, "--json").stdout)
    assert told["labels"]["ticket"] == "AB-2"
    assert told["verdicts"][0]["claim"] == "fine"
    assert "retired" in mlassets(home, "show", model(home, "AB-0").id).stdout
    unknown = mlassets(home, "show", "nosuch")
    assert unknown.exit_code == 2


PAGE = Path(__file__).parents[2] / "docs/how-to/find-things.md"


def test_the_python_for_finding_runs_as_shown(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    names: dict[str, object] = {"home": str(home)}
    for block in blocks:
        exec(block, names)
    assert names["how_many"] == 1
    assert model(home, "AB-2").short_id in capfd.readouterr().out


def test_the_queries_of_the_page_are_understood() -> None:
    text = PAGE.read_text(encoding="utf-8")
    asked = [
        words[2] for line in re.findall(r"^mlassets find .*$", text, re.M) if (words := shlex.split(line))
    ]
    rows = re.findall(r"^\| (`[^|]+) \| .* \| .* \|$", text.split("## How to ask")[1], re.M)
    for query in asked + [one for row in rows for one in re.findall(r"`([^`]+)`", row) if "…" not in one]:
        parse(re.sub(r"\b[abc](?=$|[\s=!<>~?])", r"labels.\g<0>", query))
