"""Files from elsewhere arrive whole or not at all, and with the types that they had."""

import datetime as dt
import gzip
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlassets.ingestion.fetching import NotFetched, Origin, fetch_query, fetch_url, name_of, probe
from mlassets_tests.ingestion.web import Answer, Web

LIMIT = 10**6


@pytest.fixture
def web() -> Iterator[Web]:
    with Web().running() as running:
        yield running


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _seconds: None)


def test_a_file_arrives_under_its_name_with_what_the_server_says_of_it(web: Web, tmp_path: Path) -> None:
    headers = {"ETag": '"1"', "Last-Modified": "Sun, 06 Nov 2022 08:49:37 GMT"}
    web.answers["/a/fl%C3%BCge%202013.csv"] = Answer(b"k\n1\n", headers=headers)
    told: list[tuple[str, int, int]] = []
    fetched = fetch_url(
        f"{web.url}/a/fl%C3%BCge%202013.csv?x=1",
        tmp_path,
        limit=LIMIT,
        progress=lambda *one: told.append(one),
    )
    assert fetched is not None
    path, origin = fetched
    assert (path.name, path.read_bytes()) == ("flüge 2013.csv", b"k\n1\n")
    assert origin == Origin('"1"', "Sun, 06 Nov 2022 08:49:37 GMT", 4)
    assert told[-1] == ("bytes", 4, 4)
    assert probe(f"{web.url}/a/fl%C3%BCge%202013.csv") == origin


def test_a_file_that_has_not_changed_is_not_fetched_again(web: Web, tmp_path: Path) -> None:
    def answer(request: Any) -> Answer:
        same = request.headers.get("If-None-Match") == '"7"'
        return Answer(status=304) if same else Answer(b"k\n1\n", headers={"ETag": '"7"'})

    web.answers["/x.csv"] = answer
    fetched = fetch_url(f"{web.url}/x.csv", tmp_path, limit=LIMIT)
    assert fetched is not None
    assert fetch_url(f"{web.url}/x.csv", tmp_path, limit=LIMIT, known=fetched[1]) is None


def test_redirects_are_followed_on_the_web_and_nowhere_else(web: Web, tmp_path: Path) -> None:
    web.answers["/x.csv"] = Answer(b"k\n1\n")
    web.answers["/moved"] = Answer(status=302, headers={"Location": f"{web.url}/x.csv"})
    fetched = fetch_url(f"{web.url}/moved", tmp_path, limit=LIMIT)
    assert fetched is not None
    assert fetched[0].name == "x.csv"
    for where in ("file:///etc/passwd", "ftp://example.org/x.csv"):
        web.answers["/away"] = Answer(status=302, headers={"Location": where})
        with pytest.raises(NotFetched, match="could not be fetched"):
            fetch_url(f"{web.url}/away", tmp_path, limit=LIMIT)
    web.answers["/round"] = Answer(status=302, headers={"Location": f"{web.url}/round"})
    with pytest.raises(NotFetched, match="redirects"):
        fetch_url(f"{web.url}/round", tmp_path, limit=LIMIT)
    with pytest.raises(NotFetched, match="only https"):
        fetch_url("file:///etc/passwd", tmp_path, limit=LIMIT)


@pytest.mark.parametrize("says", [None, -1])
def test_no_more_is_fetched_than_the_limit(web: Web, tmp_path: Path, says: int | None) -> None:
    web.answers["/x.csv"] = Answer(b"k\n" + b"1\n" * 5000, says=says)
    with pytest.raises(NotFetched, match="MLASSETS_FETCH_LIMIT"):
        fetch_url(f"{web.url}/x.csv", tmp_path, limit=1000)


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz"])
def test_what_breaks_off_is_tried_again_and_never_taken_for_the_whole(
    web: Web, tmp_path: Path, name: str
) -> None:
    web.answers[f"/{name}"] = Answer(b"k\n1\n", says=100)
    with pytest.raises(NotFetched, match="broke off"):
        fetch_url(f"{web.url}/{name}", tmp_path, limit=LIMIT)
    assert web.asked.count(f"GET /{name}") == 4

    def second_time(_request: Any) -> Answer:
        return Answer(status=503) if len(web.asked) < 6 else Answer(b"k\n2\n")

    web.answers[f"/{name}"] = second_time
    fetched = fetch_url(f"{web.url}/{name}", tmp_path, limit=LIMIT)
    assert fetched is not None
    assert fetched[0].read_bytes() == b"k\n2\n"


@pytest.mark.parametrize(
    ("status", "words"), [(404, "404 Not Found. Correct"), (401, "netrc"), (403, "netrc"), (500, "500")]
)
def test_a_refusal_is_told_with_what_would_mend_it(web: Web, tmp_path: Path, status: int, words: str) -> None:
    web.answers["/x.csv"] = Answer(status=status)
    with pytest.raises(NotFetched, match=words):
        fetch_url(f"{web.url}/x.csv", tmp_path, limit=LIMIT)


def test_a_server_that_is_not_there_is_told_of_without_the_password(tmp_path: Path) -> None:
    with pytest.raises(NotFetched) as caught:
        fetch_url("http://127.0.0.1:9/x.csv", tmp_path, limit=LIMIT)
    assert "could not be fetched" in str(caught.value)


@pytest.mark.parametrize(
    "name", ["../../evil.csv", "/etc/evil.csv", "..\\evil.csv", "%2e%2e%2fevil.csv", ".evil.csv"]
)
def test_a_server_does_not_say_where_its_file_goes(web: Web, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "deep" / "folder"
    folder.mkdir(parents=True)
    web.answers["/get"] = Answer(b"k\n1\n", headers={"Content-Disposition": f'attachment; filename="{name}"'})
    fetched = fetch_url(f"{web.url}/get", folder, limit=LIMIT)
    assert fetched is not None
    assert fetched[0].parent == folder
    assert fetched[0].name.endswith("evil.csv")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [fetched[0]]


def test_a_packed_file_stays_packed_and_one_packed_for_the_way_does_not(web: Web, tmp_path: Path) -> None:
    packed = gzip.compress(b"k\n1\n")
    web.answers["/x.csv.gz"] = Answer(packed, headers={"Content-Encoding": "gzip"})
    web.answers["/x.csv"] = Answer(packed, headers={"Content-Encoding": "gzip"})
    found = [fetch_url(f"{web.url}/{name}", tmp_path, limit=LIMIT) for name in ("x.csv.gz", "x.csv")]
    assert [one[0].read_bytes() for one in found if one] == [packed, b"k\n1\n"]


def test_a_server_that_says_nothing_of_a_file_is_no_trouble(web: Web) -> None:
    web.answers["/x.csv"] = Answer(status=405)
    assert probe(f"{web.url}/x.csv").mark is None
    web.answers["/y.csv"] = Answer(b"k\n")
    assert probe(f"{web.url}/y.csv").mark is None


def test_an_object_of_s3_is_fetched_like_any_other_file(tmp_path: Path, bucket: str) -> None:
    import boto3

    boto3.client("s3").put_object(Bucket=bucket, Key="a/ü.csv", Body=b"k\n1\n")
    fetched = fetch_url(f"s3://{bucket}/a/ü.csv", tmp_path, limit=LIMIT)
    assert fetched is not None
    assert (fetched[0].name, fetched[0].read_bytes()) == ("ü.csv", b"k\n1\n")
    assert probe(f"s3://{bucket}/a/ü.csv") == fetched[1]
    with pytest.raises(NotFetched, match="no such object"):
        fetch_url(f"s3://{bucket}/a/none.csv", tmp_path, limit=LIMIT)
    with pytest.raises(NotFetched, match="at most 2"):
        fetch_url(f"s3://{bucket}/a/ü.csv", tmp_path, limit=2)


def test_the_name_of_an_address_is_its_last_part() -> None:
    assert name_of("https://example.org/a/b.csv#part") == "b.csv"
    assert name_of("https://example.org/") == ""


TABLE = """
CREATE TABLE things (
  small smallint, whole integer, big bigint, single real, double double precision, flag boolean, words text,
  code varchar(5), day date, clock time, at timestamp, instant timestamptz, raw bytea, price numeric(10, 2),
  free numeric, about jsonb, id uuid, list integer[]
);
INSERT INTO things VALUES
  (1, 2, 9007199254740993, 1.5, 0.1, true, 'ä,"\n', '007', '2024-02-29', '01:02:03.000004',
   '2024-02-29 01:02:03.000004', '2024-02-29 01:02:03+02', '\\x00ff', 12.30, 123456789012345678.123456789, '{"a": [1]}',
   'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{1,2}'),
  (NULL, NULL, NULL, NULL, NULL, NULL, '', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
"""


@pytest.fixture
def filled(database: str) -> str:
    with psycopg2.connect(database.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        cursor.execute(TABLE)
    connection.close()
    return database


def test_the_rows_of_a_query_keep_their_types(filled: str, tmp_path: Path) -> None:
    target = tmp_path / "rows.parquet"
    assert fetch_query(filled, "SELECT * FROM things ORDER BY whole;", target) == 2
    table = pq.read_table(target)
    assert {field.name: field.type for field in table.schema} == {
        "small": pa.int16(),
        "whole": pa.int32(),
        "big": pa.int64(),
        "single": pa.float32(),
        "double": pa.float64(),
        "flag": pa.bool_(),
        "words": pa.string(),
        "code": pa.string(),
        "day": pa.date32(),
        "clock": pa.time64("us"),
        "at": pa.timestamp("us"),
        "instant": pa.timestamp("us", "UTC"),
        "raw": pa.binary(),
        "price": pa.decimal128(10, 2),
        "free": pa.decimal128(27, 9),
        "about": pa.string(),
        "id": pa.string(),
        "list": pa.string(),
    }
    first, second = table.to_pylist()
    assert (first["big"], first["code"], first["words"], first["raw"]) == (
        2**53 + 1,
        "007",
        'ä,"\n',
        b"\x00\xff",
    )
    assert first["day"] == dt.date(2024, 2, 29)
    assert first["instant"] == dt.datetime(2024, 2, 28, 23, 2, 3, tzinfo=dt.UTC)
    assert (first["price"], first["free"]) == (Decimal("12.30"), Decimal("123456789012345678.123456789"))
    assert (first["about"], first["list"]) == ('{"a": [1]}', "{1,2}")
    assert {name: value for name, value in second.items() if value is not None} == {"words": ""}


def test_a_query_can_change_nothing(filled: str, tmp_path: Path) -> None:
    for query in (
        "DELETE FROM things RETURNING *",
        "WITH gone AS (DELETE FROM things RETURNING *) SELECT * FROM gone",
        "SELECT 1; DROP TABLE things",
        "SELECT 1; COMMIT; DROP TABLE things; SELECT 1",
    ):
        with pytest.raises(NotFetched, match="failed"):
            fetch_query(filled, query, tmp_path / "rows.parquet")
    assert fetch_query(filled, "SELECT count(*) AS n FROM things", tmp_path / "rows.parquet") == 1
    assert pq.read_table(tmp_path / "rows.parquet")["n"].to_pylist() == [2]


def test_a_wrong_query_is_told_with_what_the_database_says(filled: str, tmp_path: Path) -> None:
    with pytest.raises(NotFetched, match="does not exist"):
        fetch_query(filled, "SELECT nothing FROM things", tmp_path / "x.parquet")
    with pytest.raises(NotFetched, match="Name them apart"):
        fetch_query(filled, "SELECT 1 AS a, 2 AS a", tmp_path / "x.parquet")
    with pytest.raises(NotFetched, match="Cast it in the query"):
        fetch_query(filled, "SELECT 'infinity'::timestamp AS t", tmp_path / "x.parquet")
    with pytest.raises(NotFetched, match=r"127\.0\.0\.1") as caught:
        fetch_query("postgresql://u:secret@127.0.0.1:9/none", "SELECT 1", tmp_path / "x.parquet")
    assert "secret" not in str(caught.value)


def test_many_rows_are_streamed(filled: str, tmp_path: Path) -> None:
    told: list[int] = []
    query = "SELECT g AS k, g / 3.0 AS third FROM generate_series(1, 120000) AS g"
    target = tmp_path / "rows.parquet"
    assert (
        fetch_query(filled, query, target, progress=lambda _what, done, _total: told.append(done)) == 120_000
    )
    assert told == [50_000, 100_000, 120_000]
    assert sum(pq.read_table(target)["k"].to_pylist()) == 120_000 * 120_001 // 2
