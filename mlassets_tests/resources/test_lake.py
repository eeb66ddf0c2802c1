"""The lake writes whole files, hashes them, and lets no name escape."""

from pathlib import Path

import pyarrow as pa
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from resources.lake import Lake, LakeError, NameTaken, encode_name, open_lake


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(str(tmp_path / "lake"))


@given(st.text(min_size=1, max_size=400), st.text(min_size=1, max_size=400))
def test_encoded_names_are_harmless_and_differ_where_the_names_do(one: str, other: str) -> None:
    encoded = encode_name(one)
    assert len(encoded.encode()) <= 200
    assert encoded not in (".", "..")
    assert not set(encoded) & set("/\\:*?\"<>| '\0\n")
    assert (encoded == encode_name(other)) == (one == other)


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "a//b", "", ".", "a\\b"])
def test_no_path_leaves_the_lake(lake: Lake, path: str) -> None:
    for use in (lake.read_bytes, lake.delete, lake.delete_folder, lake.exists):
        with pytest.raises(LakeError, match="inside the lake"):
            use(path)
    with pytest.raises(LakeError):
        lake.put_bytes(path, b"1")


def test_what_was_written_is_hashed_listed_read_and_deleted(lake: Lake, tmp_path: Path) -> None:
    written = lake.put_bytes("a/b", b"123")
    assert (written.size, written.hash) == (3, blake3(b"123").hexdigest())
    (tmp_path / "file").write_bytes(b"x" * 3_000_000)
    copied = lake.write_file("a/c/d", tmp_path / "file")
    assert copied.hash == lake.hash_of("a/c/d") == blake3(b"x" * 3_000_000).hexdigest()
    assert sorted(entry.path for entry in lake.files("a")) == ["a/b", "a/c/d"]
    assert lake.read_bytes("a/b") == b"123"
    lake.delete("a/b")
    lake.delete("a/b")
    assert not lake.exists("a/b")
    assert list(lake.files("nowhere")) == []
    with pytest.raises(LakeError, match="missing"):
        lake.read_bytes("a/b")


def test_a_component_is_never_overwritten(lake: Lake) -> None:
    lake.write_bytes("a", b"1")
    with pytest.raises(LakeError, match="exists"):
        lake.write_bytes("a", b"2")
    assert lake.read_bytes("a") == b"1"


def test_equal_rows_give_equal_bytes_however_they_are_cut(lake: Lake) -> None:
    table = pa.table({"a": range(1000), "s": pa.array([str(n % 7) for n in range(1000)]).dictionary_encode()})
    cut = pa.concat_tables([table.slice(0, 10), table.slice(10, 500), table.slice(510)])
    assert lake.write_table("one", table).hash == lake.write_table("two", cut).hash  # type: ignore[union-attr]


def test_columns_that_cannot_be_stored_are_refused(lake: Lake) -> None:
    with pytest.raises(LakeError, match=r"\['a'\] occur twice"):
        lake.write_table("x", pa.table([[1], [2]], names=["a", "a"]))
    with pytest.raises(LakeError, match=r"column 'd' holds a dictionary of int64.*dictionary_decode"):
        lake.write_table("x", pa.table({"d": pa.array([1, 2, 1]).dictionary_encode()}))
    with pytest.raises(LakeError, match="3 rows and no columns"):
        lake.write_table("x", pa.table({"a": [1, 2, 3]}).select([]))
    with pytest.raises(LakeError, match="Parquet"):
        lake.write_table("y", pa.table({"a": pa.array([None], pa.month_day_nano_interval())}))


def test_an_unknown_kind_of_lake_is_refused_with_the_setting_to_change() -> None:
    with pytest.raises(LakeError, match="MLASSETS_LAKE"):
        open_lake("ftp://host/x")


def test_a_name_is_claimed_once(lake: Lake) -> None:
    lake.put_bytes("a/name", b"1")
    assert lake.put_bytes("a/name", b"1").size == 1
    with pytest.raises(NameTaken, match="a/name is taken"):
        lake.put_all({"a/other": b"2", "a/name": b"2"})
    assert lake.read_bytes("a/name") == b"1"
    assert list(lake.files("tmp")) == []


def test_what_cannot_be_looked_at_is_named(lake: Lake, tmp_path: Path) -> None:
    lake.write_bytes("a/b", b"1")
    (tmp_path / "lake" / "a" / "loop").symlink_to("loop")
    with pytest.raises(LakeError, match="a cannot be read from the lake"):
        list(lake.files("a"))
