"""A source holds what landed last under every name, whatever lands and in whatever order."""

import datetime as dt
import gzip
import io
import json
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlassets.ingestion.formats import convert
from mlassets.ingestion.taking import plan_landing
from mlassets.sources import SourceSpec
from mlassets_tests.ingestion.zones import GLOB, ROWS, Landing


@pytest.fixture
def zone(tmp_path: Path) -> Landing:
    return Landing(tmp_path)


def parquet(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def test_the_first_files_that_land_become_the_source(zone: Landing) -> None:
    zone.land("1.csv", "k,v\na,1\nb,2\n")
    zone.land("2.csv.gz", gzip.compress(b"k,v\nc,3\n"))
    zone.land("3.parquet", parquet(k=["d"], v=[4]))
    assert set(zone.look().requests) == {"rows"}
    thing = zone.take()
    assert thing is not None
    assert zone.rows == [{"k": k, "v": v} for k, v in zip("abcd", (1, 2, 3, 4), strict=True)]
    assert [(one["name"], one["rows"], one["format"]) for one in thing.parameters["files"]] == [
        ("rows/1.csv", 2, "csv"),
        ("rows/2.csv.gz", 1, "csv.gz"),
        ("rows/3.parquet", 1, "parquet"),
    ]
    assert zone.look().requests == {}
    assert zone.take() is None


def test_the_same_bytes_landed_again_change_nothing_and_ask_for_nothing(zone: Landing) -> None:
    zone.land("1.csv", "k\na\n")
    first = zone.take()
    cursor = zone.look().cursor
    zone.land("1.csv", "k\na\n")
    zone.land("copy.csv", "k\na\n")
    for before in (None, cursor):
        assert zone.look(before).requests == {}
    assert zone.take() is None
    assert zone.newest == first


def test_a_look_that_finds_nothing_taken_asks_again_for_the_same_work(zone: Landing) -> None:
    zone.land("1.csv", "k\na\n")
    first = zone.look()
    second = zone.look(first.cursor)
    assert first.requests == second.requests != {}


def test_files_that_were_there_already_are_pointed_at_and_not_copied(zone: Landing) -> None:
    zone.land("1.csv", "k\na\n")
    first = zone.take()
    zone.land("2.csv", "k\nb\n")
    second = zone.take()
    assert first is not None
    assert second is not None
    (kept,) = first.files.values()
    assert kept in second.files.values()
    assert len(second.files) == 2


def test_a_file_that_leaves_the_landing_zone_stays_in_the_source(zone: Landing) -> None:
    path = zone.land("1.csv", "k\na\n")
    zone.take()
    path.unlink()
    assert zone.look().requests == {}
    zone.land("2.csv", "k\nb\n")
    zone.take()
    assert zone.rows == [{"k": "a"}, {"k": "b"}]


def test_an_added_column_is_null_in_the_files_without_it(zone: Landing) -> None:
    zone.land("1.csv", "k\na\n")
    zone.take()
    zone.land("2.csv", "k,extra\nb,7\n")
    zone.take()
    assert zone.rows == [{"k": "a", "extra": None}, {"k": "b", "extra": 7}]


@pytest.mark.parametrize(
    ("narrow", "wide", "kind", "rows"),
    [
        (b"v\n1\n", b"v\n2.5\n", pa.float64(), [1.0, 2.5]),
        (
            b"v\n2024-01-02\n",
            b"v\n2024-01-03 04:05:06\n",
            None,
            [dt.datetime(2024, 1, 2), dt.datetime(2024, 1, 3, 4, 5, 6)],
        ),
        (b"k,v\na,\n", b"k,v\na,text\n", pa.string(), [None, "text"]),
        (b"k,v\na,\n", b"k,v\na,5\n", pa.int64(), [None, 5]),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_type_that_widens_is_read_as_the_wider_one_in_all_files(
    zone: Landing,
    narrow: bytes,
    wide: bytes,
    kind: pa.DataType | None,
    rows: list[Any],
    order: int,
    at_once: bool,
) -> None:
    for number, content in enumerate((narrow, wide)[::order]):
        zone.land(f"{number}.csv", content)
        if not at_once:
            zone.take()
    if at_once:
        zone.take()
    thing = zone.store.require("sources", ROWS)
    read = thing.table(columns=["v"])
    assert kind is None or read.schema.field("v").type == kind
    for values in (
        read.column("v").to_pylist(),
        thing.scan().to_table(columns=["v"]).column("v").to_pylist(),
    ):
        assert values == rows[::order]


BAD: dict[str, tuple[str, bytes]] = {
    "EmptyFile": ("csv", b""),
    "TruncatedFile": ("parquet", parquet(k=["z"], v=[1])[:-20]),
    "RaggedRows": ("csv", b"k,v\na,1\nb,2,3\n"),
    "BadEncoding": ("csv", "k,v\né,1\n".encode() + "é,2\n".encode("latin-1")),
    "UnknownFormat": ("xls", b"\xd0\xcf\x11\xe0"),
    "SchemaConflict": ("csv", b"k,v\na,text\n"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_cannot_be_taken_is_noted_and_kept_out_while_others_go_in(
    zone: Landing, kind: str
) -> None:
    suffix, content = BAD[kind]
    zone.land("0.csv", "k,v\na,1\n")
    zone.land(f"1.{suffix}", content)
    zone.land("2.csv", "k,v\nc,3\n")
    thing = zone.take()
    assert thing is not None
    assert zone.rows == [{"k": "a", "v": 1}, {"k": "c", "v": 3}]
    note = zone.quarantined[f"rows/1.{suffix}"]
    assert (note.kind, bool(note.reason), bool(note.fix)) == (kind, True, True)
    assert [one["name"] for one in thing.parameters["quarantined"]] == [f"rows/1.{suffix}"]
    assert note.reason in thing.parameters["quarantined"][0]["reason"]
    assert any(f"1.{suffix}" in one for one in zone.notes)
    assert (zone.folder / f"1.{suffix}").read_bytes() == content
    assert zone.look().requests == {}
    assert zone.take() is None


@pytest.mark.parametrize("kind", [kind for kind in BAD if BAD[kind][0] == "csv"])
@pytest.mark.parametrize("alone", [True, False])
def test_the_earlier_good_version_of_a_refused_file_stays_until_a_corrected_one_lands(
    zone: Landing, kind: str, alone: bool
) -> None:
    zone.land("1.csv", "k,v,only_here\na,1,x\n")
    good = [{"k": "a", "v": 1, "only_here": "x"}]
    if not alone or kind == "SchemaConflict":
        # Without another file there is nothing that a type could be in conflict with.
        zone.land("2.csv", "k,v\nb,2\n")
        good.append({"k": "b", "v": 2, "only_here": None})
    zone.take()
    zone.land("1.csv", BAD[kind][1])
    assert zone.look().requests
    zone.take()
    assert zone.rows == good
    assert set(zone.quarantined) == {"rows/1.csv"}
    assert zone.look().requests == {}
    zone.land("3.csv", "k,v,only_here\nc,3,y\n")
    zone.take()
    assert len(zone.rows) == len(good) + 1
    assert zone.look().requests == {}
    zone.land("1.csv", "k,v,only_here\nA,10,z\n")
    assert zone.look().requests
    thing = zone.take()
    assert thing is not None
    assert {"k": "A", "v": 10, "only_here": "z"} in zone.rows
    assert {"k": "a", "v": 1, "only_here": "x"} not in zone.rows
    assert zone.quarantined == {}
    assert thing.parameters["quarantined"] == []


def test_only_refused_files_make_a_source_without_rows_that_tells_why(zone: Landing) -> None:
    zone.land("1.csv", BAD["RaggedRows"][1])
    thing = zone.take()
    assert thing is not None
    assert (thing.schema, thing.metrics["rows"], thing.metrics["quarantined"]) == (None, 0, 1)
    assert zone.look().requests == {}
    zone.land("1.csv", "k,v\na,1\n")
    zone.take()
    assert zone.rows == [{"k": "a", "v": 1}]


def test_bytes_of_a_refused_file_s_earlier_version_count_once_under_another_name(zone: Landing) -> None:
    zone.land("1.csv", "k\na\n")
    zone.take()
    zone.land("1.csv", BAD["RaggedRows"][1])
    zone.land("2.csv", "k\na\n")
    zone.take()
    assert zone.rows == [{"k": "a"}]
    assert zone.look().requests == {}
    zone.land("3.csv", "k\nb\n")
    zone.take()
    assert zone.rows == [{"k": "a"}, {"k": "b"}]
    assert zone.look().requests == {}


def test_other_bytes_under_the_same_name_replace_its_rows(zone: Landing) -> None:
    zone.land("1.csv", "k\na\nb\n")
    zone.land("2.csv", "k\nc\n")
    zone.take()
    zone.land("1.csv", "k\nB\n")
    zone.take()
    assert zone.rows == [{"k": "B"}, {"k": "c"}]


def test_a_wrong_type_is_corrected_by_landing_the_file_again(zone: Landing) -> None:
    zone.land("1.csv", "v\noops\n")
    zone.take()
    zone.land("2.csv", "v\n2\n")
    zone.take()
    assert set(zone.quarantined) == {"rows/2.csv"}
    zone.land("1.csv", "v\n1\n")
    zone.take()
    assert zone.rows == [{"v": 1}, {"v": 2}]
    assert zone.quarantined == {}


def test_content_that_comes_back_is_asked_for_again(zone: Landing) -> None:
    asked = []
    for content in ("a", "b", "a", "b"):
        zone.land("1.csv", f"k\n{content}\n")
        asked.append(zone.look().requests["rows"])
        zone.take()
        assert zone.rows == [{"k": content}]
    assert len(set(asked)) == 4


def test_a_file_that_may_still_be_written_to_is_left_for_the_next_look(zone: Landing) -> None:
    path = zone.land("1.csv", "k\na\n")
    changed = path.stat().st_mtime_ns
    first = zone.look(now_ns=changed + 10**9)
    assert first.requests == {}
    path.write_text("k\na\nb\n")
    changed = path.stat().st_mtime_ns
    second = zone.look(first.cursor, now_ns=changed + 10**9)
    assert second.requests == {}
    assert set(zone.look(second.cursor, now_ns=changed + 2 * 10**9).requests) == {"rows"}
    assert set(zone.look(now_ns=changed + 10 * 10**9).requests) == {"rows"}


def test_a_file_that_is_being_written_is_not_taken(zone: Landing) -> None:
    zone.land("0.csv", "k\na\n")
    path, stop = zone.folder / "1.csv", threading.Event()

    def write() -> None:
        with path.open("w") as sink:
            sink.write("k\n")
            while not stop.wait(0.01):
                sink.write("half\n")
                sink.flush()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while not path.exists() or path.stat().st_size < 10:
            time.sleep(0.01)
        zone.take(quiet_seconds=0.2)
    finally:
        stop.set()
        writer.join()
    assert zone.rows == [{"k": "a"}]
    assert zone.quarantined == {}
    zone.take(quiet_seconds=0.2)
    assert len(zone.rows) > 1


@pytest.mark.parametrize("name", [".hidden.csv", "1.csv.part", "1.csv.tmp", "_SUCCESS", "~1.csv~"])
def test_hidden_and_unfinished_files_are_ignored_with_a_note(zone: Landing, name: str) -> None:
    zone.land(name, "k\nx\n")
    plan = zone.look()
    assert plan.requests == {}
    assert any(name in note for note in plan.notes)
    assert zone.take() is None


@pytest.mark.parametrize(
    "name",
    [
        "é漢字 €.csv",
        "a b.csv",
        'it\'s "q".csv',
        "100%7C|.csv",
        "a\nb.csv",
        "-rf.csv",
        "x" * 250 + ".csv",
        "e\u0301.csv",
    ],
)
def test_odd_names_are_taken_refused_and_corrected_like_any_other(zone: Landing, name: str) -> None:
    zone.land(name, "k\na\n")
    zone.take()
    assert zone.rows == [{"k": "a"}]
    zone.land(name, "k\na,b\n")
    zone.take()
    assert set(zone.quarantined) == {f"rows/{name}"}
    zone.land(name, "k\nb\n")
    zone.take()
    assert zone.rows == [{"k": "b"}]
    assert zone.quarantined == {}


def test_one_source_s_files_are_no_business_of_another(zone: Landing) -> None:
    zone.land("1.csv", "k\na\n")
    other = zone.folder.parent / "other"
    other.mkdir()
    globs = {"rows": GLOB, "other": "landing/other/*", "missing": "landing/missing/*"}
    sources = {name: SourceSpec(files=glob) for name, glob in globs.items()}
    assert set(plan_landing(None, sources, zone.settings, zone.store).requests) == {"rows"}


NAMES = ("a.csv", "b.csv", "é c.csv")
CONTENTS: tuple[Callable[[str], str], ...] = (
    lambda own: f"k,v\n{own}1,1\n{own}2,2\n",
    lambda own: f"k,v\n{own}3,1.5\n",
    lambda own: f"k,v,extra\n{own}4,,2024-01-01\n",
    lambda own: f"extra,k\n,{own}5\n",
    lambda own: f"k,v\n{own}6,1,2\n",
    lambda own: "",
)
PARSED: tuple[list[dict[str, Any]] | None, ...] = (
    [{"k": "1", "v": 1}, {"k": "2", "v": 2}],
    [{"k": "3", "v": 1.5}],
    [{"k": "4", "v": None, "extra": dt.date(2024, 1, 1)}],
    [{"k": "5", "extra": None}],
    None,
    None,
)
events = st.one_of(
    st.tuples(st.just("land"), st.sampled_from(NAMES), st.integers(0, len(CONTENTS) - 1)),
    st.tuples(st.just("land and take"), st.sampled_from(NAMES), st.integers(0, len(CONTENTS) - 1)),
    st.tuples(st.just("copy"), st.sampled_from(NAMES), st.integers(0, 99)),
    st.tuples(st.just("remove"), st.sampled_from(NAMES), st.just(0)),
    st.tuples(st.just("take"), st.just(""), st.just(0)),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(events, max_size=10))
def test_after_any_landings_a_source_equals_a_plain_model_of_it(sequence: list[tuple[str, str, int]]) -> None:
    with tempfile.TemporaryDirectory() as home:
        zone = Landing(Path(home))
        landed: dict[str, tuple[str, int]] = {}
        held: dict[str, tuple[str, int]] = {}
        for what, name, number in [*sequence, ("take", "", 0)]:
            if what.startswith("land"):
                zone.land(name, CONTENTS[number](name[0]))
                landed[name] = (name[0], number)
            elif what == "copy" and name in landed and PARSED[landed[name][1]] is not None:
                zone.land(f"{number} copy of {name}", CONTENTS[landed[name][1]](name[0]))
                landed[f"{number} copy of {name}"] = landed[name]
            elif what == "remove" and name in landed:
                (zone.folder / name).unlink()
                del landed[name]
            if what.endswith("take"):
                zone.take()
                assert zone.look().requests == {}
                held |= {one: content for one, content in landed.items() if PARSED[content[1]] is not None}
        expected = [
            {**row, "k": own + row["k"]} for own, number in set(held.values()) for row in PARSED[number] or []
        ]
        columns = {name for row in expected for name in row}
        if zone.newest is None:
            assert not expected
        elif expected:
            assert zone.rows == sorted(
                ({name: row.get(name) for name in zone.rows[0]} for row in expected), key=repr
            )
            assert set(zone.rows[0]) == columns
        else:
            assert zone.newest.metrics["rows"] == 0


def test_a_file_that_changes_while_it_is_read_is_left_for_the_next_look(
    zone: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone.land("a.csv", "x\n1\n")
    zone.land("b.csv", "x\n2\n")

    def convert_slowly(path: Path, name: str, *rest: Any, **how: Any) -> Any:
        converted = convert(path, name, *rest, **how)
        if name.endswith("b.csv") and "3" not in path.read_text():
            zone.land("b.csv", "x\n3\n")
        return converted

    monkeypatch.setattr("mlassets.ingestion.taking.convert", convert_slowly)
    zone.take()
    assert zone.rows == [{"x": 1}]
    assert any("changed while it was being read" in note for note in zone.notes)
    assert zone.quarantined == {}
    assert zone.look().requests
    zone.take()
    assert zone.rows == [{"x": 1}, {"x": 3}]


def test_many_files_are_hashed_over_several_looks_and_asked_for_once_all_are(zone: Landing) -> None:
    for number in range(5):
        zone.land(f"{number}.csv", f"a\n{number}\n")
    cursor, asked = None, []
    for _ in range(6):
        plan = zone.look(cursor, seconds=0)
        cursor, left = plan.cursor, [note for note in plan.notes if "left for the next look" in note]
        asked.append(len(plan.requests))
        assert bool(left) != bool(plan.requests)
    assert asked == [0, 0, 0, 0, 1, 1]
    assert zone.look(cursor, seconds=0).requests == zone.look(None).requests


def test_a_look_that_is_lost_half_way_loses_nothing(zone: Landing) -> None:
    for number in range(4):
        zone.land(f"{number}.csv", f"a\n{number}\n")
    cursor = zone.look(None, seconds=0).cursor
    zone.look(cursor, seconds=0)
    for _ in range(4):
        plan = zone.look(cursor, seconds=0)
        cursor = plan.cursor
    assert plan.requests == zone.look(None).requests
    assert plan.requests


def test_between_looks_nothing_is_remembered_of_files_that_were_taken(zone: Landing) -> None:
    for number in range(50):
        zone.land(f"{number}.csv", f"a\n{number}\n")
    before = zone.look()
    zone.take()
    after = zone.look(before.cursor)
    assert after.cursor == '{"rows": {}}'
    assert not after.requests
    zone.land("3.csv", "a\n33\n")
    changed = zone.look(after.cursor)
    assert list(json.loads(changed.cursor)["rows"]) == ["rows/3.csv"]
    assert list(changed.requests) == ["rows"]
