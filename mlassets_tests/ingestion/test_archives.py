"""Archives are read member by member, whatever is in them, and nothing that would do harm is unpacked."""

import bz2
import contextlib
import gzip
import io
import lzma
import os
import random
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlassets.ingestion import archives
from mlassets.ingestion.archives import check_office, is_archive, members
from mlassets.ingestion.errors import (
    EmptyFile,
    TruncatedFile,
    UnknownFormat,
    UnreadableFile,
    UnsafeArchive,
)
from mlassets.ingestion.formats import Converted, convert
from mlassets.ingestion.options import ReadOptions

CSV = b"a,b\n1,x\n2,y\n"
ROWS = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


def zipped(content: Mapping[str, bytes], **how: int) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", **{"compression": zipfile.ZIP_DEFLATED, **how}) as archive:
        for name, data in content.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return held.getvalue()


def tarred(content: Mapping[str, bytes | tarfile.TarInfo], mode: str = "w") -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in content.items():
            if isinstance(data, tarfile.TarInfo):
                archive.addfile(data)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return held.getvalue()


def zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, codec="zstd", asbytes=True))


def read(
    folder: Path, content: bytes, name: str, **options: object
) -> tuple[Converted, dict[str, list[object]]]:
    source, target = folder / "landed", folder / "converted"
    source.write_bytes(content)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    converted = convert(source, name, target, ReadOptions(**options))  # type: ignore[arg-type]
    return converted, {one.name: pq.read_table(one.path).to_pylist() for one in converted.tables}


def refused(folder: Path, content: bytes, name: str, **options: object) -> UnreadableFile:
    with pytest.raises(UnreadableFile) as caught:
        read(folder, content, name, **options)
    assert list((folder / "converted").iterdir()) == []
    assert str(caught.value).startswith(name)
    return caught.value


PACKED: dict[str, Callable[[Mapping[str, bytes]], bytes]] = {
    "a.zip": zipped,
    "a.tar": tarred,
    "a.tar.gz": lambda content: tarred(content, "w:gz"),
    "a.tgz": lambda content: tarred(content, "w:gz"),
    "a.tar.bz2": lambda content: tarred(content, "w:bz2"),
    "a.tbz2": lambda content: tarred(content, "w:bz2"),
    "a.tar.xz": lambda content: tarred(content, "w:xz"),
    "a.txz": lambda content: tarred(content, "w:xz"),
    "a.tar.zst": lambda content: zstd(tarred(content)),
    "a.tzst": lambda content: zstd(tarred(content)),
    # What is compressed may be an archive though its name does not say so.
    "a.gz": lambda content: gzip.compress(tarred(content)),
}


@pytest.mark.parametrize("name", PACKED)
def test_every_member_is_read_by_its_own_format_and_named_by_its_path(tmp_path: Path, name: str) -> None:
    content = {"./sub/one.csv": CSV, "two.md": b"# Two\n\ntext", "größe 🛫.csv": CSV}
    converted, tables = read(tmp_path, PACKED[name](content), name)
    assert list(tables) == ["sub/one.csv", "two.md", "größe 🛫.csv"]
    assert tables["sub/one.csv"] == tables["größe 🛫.csv"] == ROWS
    assert tables["two.md"][0]["text"] == "text"  # type: ignore[index]
    assert tables["two.md"][0]["document"] == f"{name}/two.md"  # type: ignore[index]
    assert converted.found == {"members": 3}


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.csv.bz2", bz2.compress),
        ("a.csv.xz", lzma.compress),
        ("a.csv.zst", zstd),
        ("a.md.gz", gzip.compress),
    ],
)
def test_a_file_that_was_compressed_alone_is_one_table_without_a_name(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes]
) -> None:
    _, tables = read(tmp_path, pack(CSV), name)
    assert list(tables) == [""]
    if ".csv" in name:
        assert tables[""] == ROWS
    else:
        assert tables[""][0]["document"] == name  # type: ignore[index]


def test_archives_in_archives_are_read_to_a_depth_of_three(tmp_path: Path) -> None:
    inner = zipped({"in.tar.gz": tarred({"x.csv": CSV}, "w:gz"), "y.csv": CSV})
    _, tables = read(tmp_path, zipped({"mid.zip": inner}), "a.zip")
    assert list(tables) == ["mid.zip/in.tar.gz/x.csv", "mid.zip/y.csv"]
    error = refused(tmp_path, zipped({"out.zip": zipped({"mid.zip": inner})}), "a.zip")
    assert isinstance(error, UnsafeArchive)
    assert "out.zip/mid.zip/in.tar.gz" in str(error)


def test_archives_under_names_that_say_nothing_count_as_archives(tmp_path: Path) -> None:
    content = CSV
    for _ in range(4):
        content = zipped({"innocent": content})
    assert isinstance(refused(tmp_path, content, "a.zip"), UnsafeArchive)


@pytest.mark.parametrize(
    "name", ["../a.csv", "x/../../a.csv", "/a.csv", "..\\a.csv", "C:\\a.csv", "\\\\host\\a.csv"]
)
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_path_that_leads_out_of_the_archive_is_refused(
    tmp_path: Path, name: str, pack: Callable[[Mapping[str, bytes]], bytes]
) -> None:
    error = refused(tmp_path, pack({"fine.csv": CSV, name: CSV}), "a.zip" if pack is zipped else "a.tar")
    assert isinstance(error, UnsafeArchive)
    assert "path" in error.reason
    assert name in error.reason


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (tarfile.SYMTYPE, "link"),
        (tarfile.LNKTYPE, "link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.FIFOTYPE, "device"),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes, word: str) -> None:
    info = tarfile.TarInfo("a.csv")
    info.type, info.linkname = kind, "/etc/passwd"
    error = refused(tmp_path, tarred({"a.csv": info}), "a.tar")
    assert isinstance(error, UnsafeArchive)
    assert word in error.reason


@pytest.mark.parametrize(("kind", "word"), [(stat.S_IFLNK, "link"), (stat.S_IFIFO, "device")])
def test_links_and_devices_in_a_zip_are_refused(tmp_path: Path, kind: int, word: str) -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        info = zipfile.ZipInfo("a.csv")
        info.external_attr = (kind | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    error = refused(tmp_path, held.getvalue(), "a.zip")
    assert isinstance(error, UnsafeArchive)
    assert word in error.reason


@pytest.mark.parametrize(
    ("one", "other"), [("A.csv", "a.csv"), ("caf\u00e9.csv", "cafe\u0301.csv"), ("ß.csv", "SS.csv")]
)
def test_names_that_some_disk_takes_for_one_are_refused(tmp_path: Path, one: str, other: str) -> None:
    error = refused(tmp_path, tarred({one: CSV, other: CSV}), "a.tar")
    assert isinstance(error, UnsafeArchive)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("a.csv", CSV)
        archive.writestr("a.csv", "a,b\n3,z\n")
    assert "two members are named a.csv" in refused(tmp_path, held.getvalue(), "a.zip").reason


def test_what_unpacks_to_more_than_is_allowed_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    big = zipped({"a.csv": b"a\n" + b"1\n" * 50_000})
    assert isinstance(refused(tmp_path, big, "a.zip", unpacked=100_000), UnsafeArchive)
    assert isinstance(refused(tmp_path, zipped({"in.zip": big}), "a.zip", unpacked=100_000), UnsafeArchive)
    assert isinstance(
        refused(tmp_path, gzip.compress(tarred({"a.csv": bytes(100_000)})), "a.tar.gz", unpacked=99_999),
        UnsafeArchive,
    )
    read(tmp_path, big, "a.zip", unpacked=100_002)


@pytest.mark.parametrize("name", ["a.zip", "a.csv.bz2", "a.csv.xz", "a.csv.zst", "a.tar.gz", "nested.zip"])
def test_a_bomb_is_refused_by_how_many_times_its_size_it_unpacks_to(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As at 100 MiB, only that making such a file takes seconds.
    monkeypatch.setattr(archives, "RATIO_FROM", 2**20)
    monkeypatch.setattr(archives, "LARGEST_RATIO", 300)
    zeros = bytes(4 * 2**20)
    content = {
        "a.zip": lambda: zipped({"a.csv": zeros}),
        "a.csv.bz2": lambda: bz2.compress(zeros),
        "a.csv.xz": lambda: lzma.compress(zeros),
        "a.csv.zst": lambda: zstd(zeros),
        "a.tar.gz": lambda: tarred({".hidden": zeros, "a.csv": CSV}, "w:gz"),
        "nested.zip": lambda: zipped({"in.zip": zipped({"a.csv": zeros})}),
    }[name]()
    error = refused(tmp_path, content, name)
    assert isinstance(error, UnsafeArchive)
    assert "300 times" in error.reason


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    """As in Fifield's bomb: many entries of the list share one compressed body."""
    body = zlib.compress(bytes(100_000))[2:-4]
    crc = zlib.crc32(bytes(100_000))
    local = (
        struct.pack("<4s5H3I2H", b"PK\x03\x04", 20, 0, 8, 0, 0, crc, len(body), 100_000, 5, 0)
        + b"0.csv"
        + body
    )
    entries = b"".join(
        struct.pack(
            "<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 8, 0, 0, crc, len(body), 100_000, 5, 0, 0, 0, 0, 0, 0
        )
        + f"{number}.csv".encode()
        for number in range(9)
    )
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 9, 9, len(entries), len(local), 0)
    error = refused(tmp_path, local + entries + end, "a.zip")
    assert isinstance(error, UnsafeArchive)
    assert "lies within another" in error.reason


def test_a_list_of_members_that_would_fill_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "LARGEST_DIRECTORY", 1_000)
    assert isinstance(refused(tmp_path, zipped({f"{n}.csv": CSV for n in range(50)}), "a.zip"), UnsafeArchive)
    monkeypatch.setattr(archives, "MOST_MEMBERS", 20)
    assert isinstance(refused(tmp_path, tarred({f"{n}.csv": CSV for n in range(50)}), "a.tar"), UnsafeArchive)


def test_a_tar_that_says_a_gigabyte_of_one_member_is_refused(tmp_path: Path) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2**30
    error = refused(tmp_path, header.tobuf(tarfile.GNU_FORMAT) + bytes(10_240), "a.tar")
    assert "1,073,741,824 bytes are said" in error.reason


def test_holes_of_a_sparse_member_count_as_what_they_unpack_to(tmp_path: Path) -> None:
    header = tarfile.TarInfo("a.csv")
    header.size = 2**40
    header.pax_headers = {
        "GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,0", "GNU.sparse.size": str(2**40)
    }  # fmt: skip
    held = io.BytesIO()
    held.write(header.tobuf(tarfile.PAX_FORMAT) + bytes(10_240))
    assert isinstance(refused(tmp_path, held.getvalue(), "a.tar"), UnreadableFile)


@pytest.mark.parametrize("name", [one for one in PACKED if one != "a.gz"])
def test_an_archive_that_is_cut_off_anywhere_is_refused(tmp_path: Path, name: str) -> None:
    whole = PACKED[name]({"a.csv": CSV, "b.csv": CSV})
    # What follows the end of a TAR says nothing.
    ends = 2 * 1024 if name == "a.tar" else len(whole) - 1
    for end in sorted(
        {*range(1, ends, max(1, ends // 12)), ends, *(512 * n for n in range(1, ends // 512 + 1))}
    ):
        error = refused(tmp_path, whole[:end], name)
        assert isinstance(error, TruncatedFile | UnknownFormat), (end, error)


def test_any_bytes_of_an_archive_are_read_or_refused(tmp_path: Path) -> None:
    dice = random.Random(6)
    for name, pack in PACKED.items():
        whole = pack({"a.csv": CSV, "d/b.csv": CSV})
        for _ in range(12):
            damaged = bytearray(whole)
            for _ in range(dice.choice((1, 3, 30))):
                damaged[dice.randrange(len(damaged))] = dice.randrange(256)
            with contextlib.suppress(UnreadableFile):
                read(tmp_path, bytes(damaged), name)


def test_a_password_is_told(tmp_path: Path) -> None:
    locked = bytearray(zipped({"a.csv": CSV}))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.index(mark) + offset] |= 1
    assert "password" in refused(tmp_path, bytes(locked), "a.zip").reason


def test_a_method_that_nothing_here_unpacks_is_told(tmp_path: Path) -> None:
    strange = bytearray(zipped({"a.csv": CSV}))
    for mark, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        strange[strange.index(mark) + offset] = 9
    assert "packed in a way" in refused(tmp_path, bytes(strange), "a.zip").reason


def test_what_systems_and_programs_hide_in_archives_is_passed_over_and_noted(tmp_path: Path) -> None:
    content = {"a.csv": CSV, "__MACOSX/._a.csv": b"\0", ".git/config": b"x", "Thumbs.db": b"\0", "sub/": b""}
    converted, tables = read(tmp_path, zipped(content), "a.zip")
    assert list(tables) == ["a.csv"]
    for name in ("__MACOSX/._a.csv", ".git/config", "Thumbs.db"):
        assert name in converted.notes[0]
    error = refused(tmp_path, zipped({"__MACOSX/._a.csv": b"\0"}), "a.zip")
    assert isinstance(error, EmptyFile)


def test_an_empty_member_is_noted_and_the_others_are_taken(tmp_path: Path) -> None:
    converted, tables = read(tmp_path, zipped({"a.csv": b"", "b.csv": CSV, "c.csv": b"x,y\n"}), "a.zip")
    assert list(tables) == ["b.csv"]
    assert [note.split(" ")[0] for note in converted.notes] == ["a.csv", "c.csv"]


def test_a_member_that_cannot_be_read_makes_the_archive_unreadable_and_is_named(tmp_path: Path) -> None:
    error = refused(tmp_path, zipped({"a.csv": CSV, "b.csv": b"a,b\n1\n"}), "a.zip")
    assert str(error).startswith("a.zip/b.csv, line 2")
    error = refused(tmp_path, zipped({"a.csv": CSV, "b.exe": b"MZ\0\0" + bytes(60)}), "a.zip")
    assert isinstance(error, UnknownFormat)
    assert "tables" in error.fix


def test_members_that_are_not_asked_for_need_not_be_readable(tmp_path: Path) -> None:
    content = zipped({"a.csv": CSV, "b.exe": b"MZ\0\0" + bytes(60), "c/d.csv": CSV})
    _, tables = read(tmp_path, content, "a.zip", tables=("c/*",))
    assert list(tables) == ["c/d.csv"]


def test_names_without_the_mark_of_utf_8_are_read_as_what_they_are(tmp_path: Path) -> None:
    # As macOS writes them: UTF-8, and nothing says so.
    content = zipped({"ae.csv": CSV}).replace(b"ae.csv", "é.csv".encode())
    _, tables = read(tmp_path, content, "a.zip")
    assert list(tables) == ["é.csv"]


def test_control_characters_in_names_are_shown_as_numbers(tmp_path: Path) -> None:
    _, tables = read(tmp_path, tarred({"a\nb\x1b[31m.csv": CSV}), "a.tar")
    assert list(tables) == ["a\\nb\\x1b[31m.csv"]


def test_a_name_that_is_not_utf_8_is_kept_as_its_bytes(tmp_path: Path) -> None:
    _, tables = read(tmp_path, tarred({os.fsdecode(b"caf\xe9.csv"): CSV}), "a.tar")
    assert list(tables) == ["caf\\udce9.csv"]


def test_a_member_is_gone_when_the_next_is_looked_at(tmp_path: Path) -> None:
    source = tmp_path / "a.zip"
    source.write_bytes(zipped({"a.csv": CSV, "b.csv": CSV}))
    paths = []
    for member in members(source, "a.zip"):
        assert isinstance(member, archives.Member)
        assert not any(path.exists() for path in paths)
        assert member.path.read_bytes() == CSV
        paths.append(member.path)
    assert not paths[0].parent.exists()


def test_an_office_document_is_looked_at_before_a_library_opens_it(tmp_path: Path) -> None:
    source = tmp_path / "a.docx"
    source.write_bytes(zipped({"word/document.xml": bytes(200_000)}))
    check_office(source, "a.docx", largest=200_000)
    with pytest.raises(UnsafeArchive, match=r"word/document\.xml has 200,000"):
        check_office(source, "a.docx", largest=199_999)
    source.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    with pytest.raises(UnreadableFile, match="password"):
        check_office(source, "a.docx", largest=1)


@pytest.mark.parametrize(
    ("name", "wanted"), [("a.ZIP", True), ("a.csv.gz", True), ("a.csv", False), ("zip", False)]
)
def test_archives_are_known_by_their_names(name: str, wanted: bool) -> None:
    assert is_archive(name) is wanted
