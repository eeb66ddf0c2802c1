"""Hard cases of landing: none crashes a look, none is half-ingested, none is silently dropped."""

import csv
import datetime as dt
import io
import json
import os
import sqlite3
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlassets.ingestion.formats import convert
from mlassets.ingestion.landing import read_notes
from mlassets.ingestion.taking import plan_landing, taking, zone_of
from mlassets.sources import SourceSpec
from mlassets_tests.ingestion.zones import ROWS, Landing
from resources.settings import Settings
from resources.store import Store
from resources.things import Draft


@pytest.fixture
def zone(tmp_path: Path) -> Landing:
    return Landing(tmp_path)


def workbook(**sheets: list[list[Any]]) -> bytes:
    book, sink = openpyxl.Workbook(), io.BytesIO()
    book.remove(book.worksheets[0])
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(sink)
    return sink.getvalue()


def by_name(zone: Landing) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for one in zone.store.require("sources", ROWS).parameters["files"]:
        found.setdefault(one["name"], []).append(one)
    return found


# Names that file systems allow, and somebody uses.
NAMES = [
    "plain.csv",
    "with space .csv",
    " leading.csv",
    "Ünïcödé.csv",
    "u\u0308.csv",  # composed below: the same letter to a person, another name to a file system
    "\u00fc.csv",
    "日本語.csv",
    "عربى.csv",
    "🙂.csv",
    "line\nbreak.csv",
    "tab\there.csv",
    "quote\"'.csv",
    "back\\slash.csv",
    "per%2Fcent.csv",
    "hash#and?.csv",
    "star*[x].csv",
    "-rf.csv",
    "$(touch x).csv",
    "\u202egpj.csv",
    "<script>.csv",
    "UPPER.CSV",
    "upper.csv",
    "x" * 250 + ".csv",
    "é" * 120 + ".csv",
]


def test_a_file_is_taken_under_any_name_and_found_by_it(zone: Landing) -> None:
    for number, name in enumerate(NAMES):
        zone.land(name, f"k,v\n{number},{number}\n")
    assert set(zone.look().requests) == {"rows"}
    thing = zone.take()
    assert thing is not None
    assert [row["k"] for row in sorted(zone.rows, key=lambda row: int(row["k"]))] == list(range(len(NAMES)))
    assert {one["name"] for one in thing.parameters["files"]} == {f"rows/{name}" for name in NAMES}
    assert zone.quarantined == {}
    assert zone.look().requests == {}


def test_a_bad_file_is_quarantined_under_any_name(zone: Landing) -> None:
    for number, name in enumerate(NAMES):
        zone.land(name, f"k,v\n{number},1,2\n")
    zone.take()
    assert set(zone.quarantined) == {f"rows/{name}" for name in NAMES}
    folder = zone.settings.quarantine / "rows"
    assert len(list(folder.glob("*.json"))) == len(list(folder.glob("*.txt"))) == len(NAMES)
    for path in folder.glob("*.txt"):
        # Nothing that a terminal would obey.
        assert all(ord(character) >= 32 or character == "\n" for character in path.read_text())


def test_what_is_no_file_that_can_be_read_is_told_of_and_holds_up_nothing(zone: Landing) -> None:
    zone.land("good.csv", "k\na\n")
    (zone.folder / "loop.csv").symlink_to("loop.csv")
    (zone.folder / "gone.csv").symlink_to("nowhere.csv")
    os.mkfifo(zone.folder / "pipe.csv")
    (zone.folder / "folder.csv").mkdir()
    Path(os.fsdecode(os.fsencode(zone.folder) + b"/\xff.csv")).write_bytes(b"k\nb\n")
    plan = zone.look()
    assert set(plan.requests) == {"rows"}
    told = "\n".join(plan.notes)
    for name in ("loop.csv", "gone.csv", "pipe.csv", "\\udcff.csv"):
        assert name in told, told
    zone.take()
    assert zone.rows == [{"k": "a"}]


def test_a_link_to_a_file_is_taken_as_the_file(zone: Landing, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.csv").write_text("k\na\n")
    (zone.folder / "link.csv").symlink_to(tmp_path / "elsewhere.csv")
    zone.take()
    assert zone.rows == [{"k": "a"}]


def test_a_file_that_cannot_be_opened_is_quarantined_until_it_can(
    zone: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlassets.ingestion import taking as module

    zone.land("open.csv", "k\na\n")
    zone.land("closed.csv", "k\nb\n")
    opened = module.fingerprint

    # Whoever runs the tests may open everything, so that the refusal is made up.
    def refusing(filesystem: Any, path: str) -> str:
        if path.endswith("closed.csv"):
            raise PermissionError(13, "Permission denied", path)
        return opened(filesystem, path)

    monkeypatch.setattr(module, "fingerprint", refusing)
    first = zone.look()
    assert set(first.requests) == {"rows"}
    zone.take()
    assert zone.rows == [{"k": "a"}]
    assert zone.quarantined["rows/closed.csv"].kind == "ClosedFile"
    assert zone.look(first.cursor).requests == {}
    monkeypatch.undo()
    assert set(zone.look(first.cursor).requests) == {"rows"}
    zone.take()
    assert zone.rows == [{"k": "a"}, {"k": "b"}]
    assert zone.quarantined == {}


def test_a_file_that_goes_between_the_listing_and_the_look_at_it_is_as_if_it_never_was(
    zone: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlassets.ingestion import taking as module

    zone.land("stays.csv", "k\na\n")
    zone.land("goes.csv", "k\nb\n")
    opened = module.fingerprint

    def going(filesystem: Any, path: str) -> str:
        Path(zone.folder, "goes.csv").unlink(missing_ok=True)
        return opened(filesystem, path)

    monkeypatch.setattr(module, "fingerprint", going)
    assert set(zone.look().requests) == {"rows"}
    zone.take()
    assert zone.rows == [{"k": "a"}]
    assert zone.quarantined == {}


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "txt"])
def test_a_file_that_grows_while_it_is_read_is_never_half_taken(
    zone: Landing, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    line: Callable[[int], str] = (
        (lambda k: json.dumps({"k": k, "v": "x"}) + "\n") if suffix == "jsonl" else lambda k: f"{k},x\n"
    )
    header = "" if suffix == "jsonl" else "k,v\n"
    zone.land(f"1.{suffix}", header + line(1) + line(2))
    zone.land("2.csv", "k,v\n100,y\n")
    growing = 3

    def convert_and_grow(path: Path, name: str, *rest: Any, **how: Any) -> Any:
        nonlocal growing
        try:
            return convert(path, name, *rest, **how)
        finally:
            if name.endswith(f"1.{suffix}") and growing:
                growing -= 1
                with path.open("a") as file:
                    # Half a line, as a writer's buffer leaves it.
                    file.write(line(3 + growing) + line(9)[:3])

    monkeypatch.setattr("mlassets.ingestion.taking.convert", convert_and_grow)
    zone.take()
    assert zone.rows == [{"k": 100, "v": "y"}]
    assert any("it changed while it was being read" in note for note in zone.notes)
    assert zone.quarantined == {}
    for _ in range(2):
        zone.take()
        assert zone.rows == [{"k": 100, "v": "y"}]
    zone.land(f"1.{suffix}", header + "".join(line(k) for k in range(6)))
    assert set(zone.look().requests) == {"rows"}
    zone.take()
    assert sorted(row["k"] for row in zone.rows) == [0, 1, 2, 3, 4, 5, 100]


def test_a_file_that_may_still_grow_is_not_asked_for_until_it_has_settled(zone: Landing) -> None:
    path = zone.folder / "1.csv"
    path.write_text("k\n1\n")
    first = zone.look()
    assert first.requests == {}
    path.write_text("k\n1\n2\n")
    second = zone.look(first.cursor)
    assert second.requests == {}
    assert set(zone.look(second.cursor).requests) == {"rows"}


def test_the_tables_of_a_file_are_taken_together_if_they_have_the_same_columns(zone: Landing) -> None:
    zone.land("1.xlsx", workbook(jan=[["k", "v"], ["a", 1]], feb=[["K", "V"], ["b", 2]]))
    zone.take()
    assert zone.quarantined["rows/1.xlsx"].kind == "SchemaConflict"
    zone.land("1.xlsx", workbook(jan=[["k", "v"], ["a", 1]], feb=[["v", "k"], [2, "b"]]))
    thing = zone.take()
    assert thing is not None
    assert zone.rows == [{"k": "a", "v": 1}, {"k": "b", "v": 2}]
    assert [one["table"] for one in by_name(zone)["rows/1.xlsx"]] == ["feb", "jan"]
    assert (thing.metrics["files"], thing.metrics["rows"]) == (1, 2)
    assert zone.look().requests == {}
    assert zone.take() is None


def test_a_file_with_different_tables_is_refused_until_it_is_said_which_are_meant(zone: Landing) -> None:
    zone.land("1.xlsx", workbook(sales=[["k", "v"], ["a", 1]], notes=[["text"], ["hello"]]))
    zone.take()
    note = zone.quarantined["rows/1.xlsx"]
    assert note.kind == "SeveralTables"
    assert "sales" in note.reason
    assert "notes" in note.reason
    zone.read_as(tables="sales")
    assert set(zone.look().requests) == {"rows"}
    zone.take()
    assert zone.rows == [{"k": "a", "v": 1}]
    assert zone.quarantined == {}
    zone.read_as(tables=["nothing"])
    zone.take()
    assert zone.rows == [{"k": "a", "v": 1}], "what was taken stays until a readable file replaces it"
    assert zone.quarantined["rows/1.xlsx"].kind == "MissingTable"
    assert zone.look().requests == {}
    zone.read_as(tables="*")
    zone.take()
    assert len(zone.rows) == 2


def test_tables_that_go_from_a_file_go_from_the_source(zone: Landing) -> None:
    zone.land("1.xlsx", workbook(jan=[["k"], ["a"]], feb=[["k"], ["b"]]))
    zone.take()
    zone.land("1.xlsx", workbook(feb=[["k"], ["c"]]))
    thing = zone.take()
    assert thing is not None
    assert zone.rows == [{"k": "c"}]
    assert len(thing.files) == 1


def test_the_tables_of_a_database_are_named_like_any_others(zone: Landing, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "db")
    connection.executescript("CREATE TABLE a (k INT); INSERT INTO a VALUES (1);")
    connection.executescript("CREATE TABLE b (x INT); INSERT INTO b VALUES (2);")
    connection.close()
    zone.read_as(tables=["b"])
    zone.land("1.sqlite", (tmp_path / "db").read_bytes())
    zone.take()
    assert zone.rows == [{"x": 2}]


def test_files_are_read_again_when_it_is_said_otherwise_how(zone: Landing) -> None:
    zone.land("1.csv", "k\n1\n2\n")
    zone.land("gone.csv", "k\n3\n")
    first = zone.take()
    assert first is not None
    (zone.folder / "gone.csv").unlink()
    assert zone.look().requests == {}
    zone.read_as(types={"k": "text"})
    asked = zone.look().requests
    assert set(asked) == {"rows"}
    zone.take()
    # What left the landing zone cannot be read again: it stays as it is, and the other must fit it.
    assert sorted(str(row["k"]) for row in zone.rows) == ["1", "2", "3"]
    assert set(zone.quarantined) == {"rows/1.csv"}
    zone.land("gone.csv", "k\n3\n")
    zone.take()
    assert zone.rows == [{"k": "1"}, {"k": "2"}, {"k": "3"}]
    assert zone.quarantined == {}
    assert zone.look().requests == {}
    thing = zone.newest
    assert thing is not None
    assert thing.parameters["options"] == {"types": {"k": "text"}}


def test_a_source_of_before_there_were_tables_is_taken_on(zone: Landing) -> None:
    zone.land("1.csv", "k\na\n")
    first = zone.take()
    assert first is not None
    new = ("table", "rejected", "found")
    old = {key: value for key, value in first.parameters["files"][0].items() if key not in new}
    parameters = {**first.parameters, "files": [{**old, "options": {"delimiter": ","}}]}
    draft = Draft(files=first.files, schema=first.schema, parameters=parameters, code_version="1")
    zone.store.commit("sources", ROWS, draft)
    assert zone.look().requests == {}
    assert zone.take() is None
    zone.land("2.csv", "k\nb\n")
    zone.take()
    assert zone.rows == [{"k": "a"}, {"k": "b"}]


def test_rows_that_cannot_be_taken_are_kept_with_their_lines_if_that_is_asked_for(zone: Landing) -> None:
    zone.read_as(on_bad_rows="skip")
    zone.land("1.csv", "k,v\na,1\nb,2,3\nc,3\n\x1b[31md,4,5\n")
    thing = zone.take()
    assert thing is not None
    assert zone.rows == [{"k": "a", "v": 1}, {"k": "c", "v": 3}]
    assert (thing.metrics["rejected"], by_name(zone)["rows/1.csv"][0]["rejected"]) == (2, 2)
    note = zone.quarantined["rows/1.csv"]
    assert (note.kind, note.rejected, note.details) == ("RejectedRows", 2, {"line": 3})
    folder = zone.settings.quarantine / "rows"
    (kept,) = folder.glob("*.rejected.jsonl")
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    assert [one["line"] for one in rows] == [3, 5]
    assert all(one["reason"] for one in rows)
    assert "b,2,3" in json.dumps(rows[0]["row"])
    assert "\x1b" not in next(folder.glob("*.txt")).read_text()
    assert zone.look().requests == {}
    zone.land("2.csv", "k,v\nz,9\n")
    zone.take()
    assert set(zone.quarantined) == {"rows/1.csv"}, "the rows stay rejected until they are mended"
    zone.land("1.csv", "k,v\na,1\nb,2\nc,3\nd,4\n")
    zone.take()
    assert zone.quarantined == {}
    assert list(folder.iterdir()) == []


def test_a_note_shows_the_line_that_is_wrong_and_what_would_mend_it(zone: Landing) -> None:
    zone.land("1.csv", "k,v\na,1\n\x1b]0;evil\x07b,2,3\n")
    zone.take()
    note = zone.quarantined["rows/1.csv"]
    assert note.details["line"] == 3
    assert "3 | " in note.excerpt
    text = next((zone.settings.quarantine / "rows").glob("*.txt")).read_text()
    assert "line 3" in text
    assert note.fix in text
    assert "\\x1b]0;evil\\x07b,2,3" in text


def test_a_refused_file_is_tried_again_when_that_is_asked_for_and_forgotten_when_it_is_gone(
    zone: Landing,
) -> None:
    zone.land("0.csv", "k\na\n")
    path = zone.land("1.csv", "k,v\na,1,2\n")
    first = zone.take()
    assert zone.take(again=["rows/1.csv"]) is None, "it is refused for the same reason, and nothing is new"
    path.unlink()
    assert zone.take() is None
    thing = zone.take(again=["rows/1.csv"])
    assert thing is not None
    assert first is not None
    assert (len(first.parameters["quarantined"]), thing.parameters["quarantined"]) == (1, [])
    assert zone.look().requests == {}


def test_many_files_taken_at_once_come_out_as_one_after_the_other(tmp_path: Path) -> None:
    together, apart = Landing(tmp_path / "a"), Landing(tmp_path / "b")
    for number in range(12):
        content = "k,v\nbad,1,2\n" if number == 5 else f"k,v\n{number},{number}.5\n"
        for one in (together, apart):
            one.land(f"{number:02}.csv", content)
        apart.take()
    together.take()
    assert together.rows == apart.rows
    assert set(together.quarantined) == set(apart.quarantined) == {"rows/05.csv"}
    first, second = (one.newest for one in (together, apart))
    assert first is not None
    assert second is not None
    assert [one["component"] for one in first.parameters["files"]] == [
        one["component"] for one in second.parameters["files"]
    ]


def test_progress_counts_the_bytes_of_all_files_and_ends_with_all_of_them(zone: Landing) -> None:
    for number in range(3):
        zone.land(f"{number}.csv", "k\n" + f"{number}\n" * 1000)
    told: list[tuple[str, int, int]] = []
    with taking(
        "rows",
        zone_of(zone.spec.files, zone.settings),
        None,
        quarantine=zone.settings.quarantine,
        code_version="1",
        quiet_seconds=0,
        progress=lambda *one: told.append(one),
    ):
        size = sum(path.stat().st_size for path in zone.folder.iterdir())
    assert max(done for _, done, _ in told) == size
    assert {total for _, _, total in told} == {size}


def test_files_of_an_s3_prefix_are_a_source(tmp_path: Path, bucket: str) -> None:
    import boto3

    client = boto3.client("s3")
    names = ["2013/01.csv", "2013/ü ß.csv", "2013/bad.csv", "other/no.csv", "2013/.hidden.csv"]
    for number, name in enumerate(names):
        content = b"k\n1,2\n" if "bad" in name else f"k\n{number}\n".encode()
        client.put_object(Bucket=bucket, Key=f"exports/{name}", Body=content)
    where = Settings(home=tmp_path)
    store, spec = Store.open(where), SourceSpec(files=f"s3://{bucket}/exports/2013/*.csv")

    def take() -> Any:
        known = store.latest("sources", ROWS)
        zone = zone_of(spec.files, where)
        with taking(
            "rows", zone, known, quarantine=where.quarantine, code_version="1", quiet_seconds=0
        ) as taken:
            return store.commit("sources", ROWS, taken.draft) if taken.draft else None

    look = plan_landing(None, {"rows": spec}, where, store)
    assert set(plan_landing(look.cursor, {"rows": spec}, where, store).requests) == {"rows"}
    thing = take()
    assert sorted(thing.table()["k"].to_pylist()) == [0, 1]
    assert [one["name"] for one in thing.parameters["files"]] == ["01.csv", "ü ß.csv"]
    assert [note.file.name for note in read_notes(where.quarantine, "rows")] == ["bad.csv"]
    assert thing.parameters["place"] == f"s3://{bucket}/exports/2013"
    assert take() is None
    client.put_object(Bucket=bucket, Key="exports/2013/01.csv", Body=b"k\n7\n")
    assert sorted(take().table()["k"].to_pylist()) == [1, 7]


# --- What another library writes, lands, and is read from the store, is what was written. ---

TEXTS = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufeff\ufffe\uffff\u2028\u2029\x85"),
    max_size=12,
).map(lambda text: f"x{text.strip()}y")
KINDS: Mapping[str, st.SearchStrategy[Any]] = {
    "text": TEXTS,
    "code": st.integers(0, 999).map(lambda number: f"00{number}"),
    "whole": st.integers(-(10**14), 10**14),
    "number": st.floats(-1e9, 1e9, allow_nan=False).map(lambda number: round(number, 4) + 0.00005),
    "flag": st.booleans(),
    "day": st.dates(dt.date(1930, 1, 1), dt.date(2200, 1, 1)),
    "at": st.datetimes(dt.datetime(1930, 1, 1), dt.datetime(2200, 1, 1)).map(
        lambda at: at.replace(microsecond=0)
    ),
}


@st.composite
def frames(draw: st.DrawFn) -> dict[str, list[Any]]:
    count = draw(st.integers(1, 12))
    columns: dict[str, list[Any]] = {"id": list(range(count))}
    for name, values in KINDS.items():
        found = draw(st.lists(st.none() | values, min_size=count, max_size=count))
        found[draw(st.integers(0, count - 1))] = draw(values)
        columns[name] = found
    return columns


def as_csv(columns: dict[str, list[Any]]) -> bytes:
    sink = io.StringIO(newline="")
    writer = csv.writer(sink)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return sink.getvalue().encode()


def as_csv_by_pandas(columns: dict[str, list[Any]]) -> bytes:
    frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})
    return frame.to_csv(index=False, sep=";", lineterminator="\r\n").encode("utf-16")


def as_parquet(columns: dict[str, list[Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="snappy")
    return sink.getvalue()


def as_json_lines(columns: dict[str, list[Any]]) -> bytes:
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    return "".join(json.dumps(row, default=str, ensure_ascii=False) + "\n" for row in rows).encode()


def as_workbook(columns: dict[str, list[Any]]) -> bytes:
    return workbook(data=[list(columns), *map(list, zip(*columns.values(), strict=True))])


WRITERS = {
    "csv": ("csv", as_csv),
    "pandas csv": ("csv", as_csv_by_pandas),
    "parquet": ("parquet", as_parquet),
    "jsonl": ("jsonl", as_json_lines),
    "xlsx": ("xlsx", as_workbook),
}
TYPES = {
    "id": pa.types.is_integer,
    "text": pa.types.is_string,
    "code": pa.types.is_string,
    "whole": pa.types.is_integer,
    "number": pa.types.is_floating,
    "flag": pa.types.is_boolean,
    "day": pa.types.is_temporal,
    # A spreadsheet in which every time is midnight holds dates.
    "at": pa.types.is_temporal,
}


def same(read: Any, written: Any) -> bool:
    if isinstance(written, float) and isinstance(read, float):
        return abs(read - written) <= 1e-12 * max(1.0, abs(written))
    if isinstance(read, dt.date) and isinstance(written, dt.date):
        one, other = (
            each if isinstance(each, dt.datetime) else dt.datetime.combine(each, dt.time())
            for each in (read, written)
        )
        return one == other
    return bool(read == written and type(read) is type(written))


@pytest.mark.parametrize("writer", WRITERS)
@given(frames())
@settings(
    max_examples=7, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
def test_what_another_library_wrote_is_read_from_the_store_as_it_was(
    writer: str, columns: dict[str, list[Any]]
) -> None:
    from mlassets.home import Home
    from mlassets.land import land_given

    suffix, write = WRITERS[writer]
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder, f"rows.{suffix}")
        given.write_bytes(write(columns))
        home = Home(home=str(Path(folder, "home")))
        landing = land_given(home, [str(given)], take=False)
        assert landing.sources == {"rows": [f"rows/rows.{suffix}"]}
        where, store = home.settings, home.store
        with taking(
            "rows",
            zone_of(home.source("rows").files, where),
            None,
            quarantine=where.quarantine,
            code_version="1",
            quiet_seconds=0,
        ) as taken:
            assert taken.draft is not None
            thing = store.commit("sources", ROWS, taken.draft)
        assert read_notes(where.quarantine) == [], taken.notes
        table = thing.table()
    assert table.column_names == list(columns)
    for name, values in columns.items():
        assert TYPES[name](table[name].type), (name, table[name].type)
        read = table[name].to_pylist()
        assert all(map(same, read, values)), (name, read, values)
