import gzip
import os
from pathlib import Path

import pyarrow.fs as pafs
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from mlassets.ingestion.errors import RaggedRows
from mlassets.ingestion.landing import (
    LandedFile,
    Listing,
    fingerprint,
    list_landing,
    matches,
    quarantine_path,
    read_notes,
    remove_note,
    settled,
    write_note,
)

LOCAL = pafs.LocalFileSystem()
NOW = 1_000_000_000_000


def land(home: Path, *names: str) -> None:
    for name in names:
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def names(listing: Listing) -> list[str]:
    return [file.name for file in listing.files]


@pytest.fixture(params=["local", "subtree"])
def zone(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[pafs.FileSystem, str]:
    return (
        (LOCAL, str(tmp_path))
        if request.param == "local"
        else (pafs.SubTreeFileSystem(str(tmp_path), LOCAL), "")
    )


def test_a_glob_finds_the_files_of_its_folder_only(tmp_path: Path, zone: tuple[pafs.FileSystem, str]) -> None:
    land(
        tmp_path,
        "landing/flights/1.csv",
        "landing/flights/deep/2.csv",
        "landing/weather/3.csv",
        "landing/4.csv",
    )
    assert names(list_landing("landing/flights/*", *zone)) == ["landing/flights/1.csv"]
    assert names(list_landing("landing/*/*.csv", *zone)) == ["landing/flights/1.csv", "landing/weather/3.csv"]
    assert len(names(list_landing("landing/**/*.csv", *zone))) == 4


def test_a_missing_folder_holds_nothing(zone: tuple[pafs.FileSystem, str]) -> None:
    assert list_landing("landing/none/*", *zone) == Listing((), {})


def test_hidden_and_temporary_files_are_ignored_with_a_reason(
    tmp_path: Path, zone: tuple[pafs.FileSystem, str]
) -> None:
    land(
        tmp_path,
        *(f"in/{name}" for name in ("a.csv", ".b.csv", "c.csv.tmp", "d.csv.part", "_SUCCESS", "e.csv~")),
    )
    listing = list_landing("in/*", *zone)
    assert names(listing) == ["in/a.csv"]
    assert set(listing.ignored) == {"in/.b.csv", "in/c.csv.tmp", "in/d.csv.part", "in/_SUCCESS", "in/e.csv~"}
    assert ".tmp" in listing.ignored["in/c.csv.tmp"]


def test_names_may_hold_any_characters(tmp_path: Path, zone: tuple[pafs.FileSystem, str]) -> None:
    odd = ["in/ü n|ï'\"%2F.csv", "in/✈️.csv", "in/[1].csv", "in/a\nb.csv"]
    land(tmp_path, *odd)
    assert sorted(names(list_landing("in/*", *zone))) == sorted(odd)


def test_a_name_that_is_not_utf_8_does_not_hide_the_others(tmp_path: Path) -> None:
    land(tmp_path, "in/a.csv")
    Path(os.fsdecode(bytes(tmp_path / "in") + b"/\xff.csv")).write_text("x")
    listing = list_landing("in/*", LOCAL, str(tmp_path))
    assert names(listing) == ["in/a.csv"]
    assert list(listing.ignored.values()) == ["its name is not UTF-8; rename it"]


def test_a_link_in_a_circle_ends(tmp_path: Path) -> None:
    land(tmp_path, "in/a.csv")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in")
    assert names(list_landing("in/**/*.csv", LOCAL, str(tmp_path))) == ["in/a.csv"]


def test_size_and_time_of_change_are_those_of_the_file(
    tmp_path: Path, zone: tuple[pafs.FileSystem, str]
) -> None:
    land(tmp_path, "in/a.csv")
    os.utime(tmp_path / "in/a.csv", ns=(1, 1_700_000_000_123_456_789))
    (file,) = list_landing("in/*", *zone).files
    assert (file.size, file.mtime_ns) == (8, 1_700_000_000_123_456_789)


@given(st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=4))
def test_two_stars_match_any_depth(parts: list[str]) -> None:
    assert matches(parts, ["**"])
    assert matches(parts, ["**", parts[-1]])
    assert matches(parts, [parts[0], "**"])
    assert not matches(parts, ["**", "z"])


def test_a_file_is_taken_when_it_has_been_left_alone() -> None:
    fresh = LandedFile("fresh", 10, NOW - 1_000_000_000)
    old = LandedFile("old", 10, NOW - 60_000_000_000)
    grown = LandedFile("grown", 20, NOW - 1_000_000_000)
    listing = Listing((fresh, grown, old), {})
    first = settled([], listing, now_ns=NOW)
    assert (first.ready, first.waiting) == ((old,), (fresh, grown))
    second = settled([fresh, LandedFile("grown", 10, NOW - 2_000_000_000)], listing, now_ns=NOW)
    assert (second.ready, second.waiting) == ((fresh, old), (grown,))


def test_without_times_only_a_second_look_settles() -> None:
    listing = Listing((LandedFile("a", 10, 0),), {})
    assert not settled([], listing, now_ns=NOW).ready
    assert settled(listing.files, listing, now_ns=NOW).ready


def test_equal_bytes_have_equal_fingerprints(tmp_path: Path) -> None:
    for name, content in (("a", b"x" * 5_000_000), ("b", b"x" * 5_000_000), ("c", b"x" * 5_000_001)):
        (tmp_path / name).write_bytes(content)
    a, b, c = (fingerprint(LOCAL, str(tmp_path / name)) for name in "abc")
    assert a == b != c


def error(file: str) -> RaggedRows:
    return RaggedRows(file, "this row has 3 values", "Quote them", line=7)


def test_a_note_says_what_and_where_and_goes_when_the_file_is_taken(tmp_path: Path) -> None:
    file = LandedFile("landing/flights/ü/../|.csv", 12, 34)
    write_note(tmp_path, "flights", file, error(file.name))
    write_note(tmp_path, "flights", file, error(file.name))
    write_note(tmp_path, "weather", file, error(file.name))
    (note,) = read_notes(tmp_path, "flights")
    assert (note.file, note.kind, note.reason, note.fix) == (
        file,
        "RaggedRows",
        "this row has 3 values",
        "Quote them",
    )
    assert note.details == {"line": 7}
    assert len(read_notes(tmp_path)) == 2
    assert remove_note(tmp_path, "flights", file.name)
    assert not remove_note(tmp_path, "flights", file.name)
    assert read_notes(tmp_path, "flights") == []


@given(
    st.text(min_size=1, max_size=400).filter(lambda name: name.isprintable()),
    st.text(min_size=1, max_size=400),
)
def test_notes_stay_in_their_folder_and_apart(one: str, other: str) -> None:
    def encodable(name: str) -> bool:
        return not any("\ud800" <= character <= "\udfff" for character in name)

    if not (encodable(one) and encodable(other)):
        return
    home = Path("/home")
    first, second = (quarantine_path(home, "flights", name) for name in (one, other))
    assert first.parent == home / "flights"
    assert ".." not in first.parts
    assert len(first.name.encode()) <= 255
    assert (first == second) == (one == other)


def test_reading_notes_of_a_home_without_any_gives_none(tmp_path: Path) -> None:
    assert read_notes(tmp_path) == []


@pytest.mark.parametrize(
    "content", [gzip.compress(b"a,b\n1,2\n" * 500, mtime=0), gzip.compress(b"a,b\n1,2\n" * 500, mtime=0)[:-9]]
)
def test_a_gzip_file_counts_by_its_own_bytes_even_where_it_is_cut_short(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "flights.csv.gz"
    path.write_bytes(content)
    assert fingerprint(LOCAL, str(path)) == blake3(content).hexdigest()
