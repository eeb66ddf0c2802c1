"""Files from elsewhere: an address (HTTP, HTTPS, S3), or the rows of a query to PostgreSQL as a Parquet file."""

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from mlassets.ingestion.formats import Progress
from resources.errors import MlassetsError

if TYPE_CHECKING:
    from requests import Response

_CHUNK = 2**20
_ROWS = 50_000
_CONNECT_SECONDS, _READ_SECONDS = 10, 60
_ATTEMPTS = 4
_NAMED = re.compile(r"filename\*?=(?:UTF-8'')?\"?([^\";]+)", re.IGNORECASE)


_Result = TypeVar("_Result")


class NotFetched(MlassetsError):
    """https://example.org/flights.csv could not be fetched: the server says 404 Not Found. Correct the address."""


@dataclass(frozen=True)
class Origin:
    """What a server says about a file; equal as long as the file has not changed, where it says anything.

    Attributes:
        etag: Its mark of the content.
        modified: When the file changed last, as the server writes it.
        size: Size in bytes.
    """

    etag: str | None = None
    modified: str | None = None
    size: int | None = None

    @property
    def mark(self) -> str | None:
        """All of it as one word; None if the server says nothing by which a change would show."""
        return f"{self.etag}|{self.modified}|{self.size}" if self.etag or self.modified else None


def name_of(url: str) -> str:
    """Return the name of the file at an address.

    >>> name_of("https://example.org/a/fl%C3%BCge.csv?x=1")
    'flüge.csv'
    """
    return unquote(urlsplit(url).path.rstrip("/").rpartition("/")[2])


def probe(url: str) -> Origin:
    """Ask a server about a file without fetching it; all is None where it does not say.

    Raises:
        NotFetched: If the server does not answer, or has no such file.
    """
    if urlsplit(url).scheme == "s3":
        return _probe_s3(url)
    with _asking("HEAD", url, {}) as response:
        if response.status_code in (403, 405, 501):
            # Some servers give files but say nothing about them.
            return Origin()
        _check(response, url)
        return _origin(response)


def fetch_url(
    url: str, folder: Path, *, limit: int, known: Origin | None = None, progress: Progress | None = None
) -> tuple[Path, Origin] | None:
    """Fetch a file into a folder, under the name that it has there.

    Args:
        url: Its address: `https://…`, `http://…` or `s3://bucket/key`.
        folder: Where to put it.
        limit: Most bytes that are fetched.
        known: What the server said of it when it was fetched last.
        progress: Called with "bytes", the bytes that have come and the size of the file.

    Returns:
        Where it is and what the server says about it; None if it has not changed since.

    Raises:
        NotFetched: If the server does not answer, has no such file, or the file is too large or cut off.
    """
    scheme = urlsplit(url).scheme
    if scheme == "s3":
        return _fetch_s3(url, folder, limit)
    if scheme not in ("http", "https"):
        raise NotFetched(
            f"{url} could not be fetched: only https://, http:// and s3:// are. Correct the address"
        )
    # Packed for the way only, a file would not be the bytes that its name says.
    headers = {"Accept-Encoding": "identity"}
    if known and known.etag:
        headers["If-None-Match"] = known.etag
    if known and known.modified:
        headers["If-Modified-Since"] = known.modified

    def once() -> tuple[Path, Origin] | None:
        with _asking("GET", url, headers) as response:
            if response.status_code == 304:
                return None
            _check(response, url)
            return _save(response, url, folder, limit, progress), _origin(response)

    return _patiently(once)


def _save(response: "Response", url: str, folder: Path, limit: int, progress: Progress | None) -> Path:
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    total = _origin(response).size or 0
    if total > limit:
        raise _too_large(url, total, limit)
    named = _NAMED.search(response.headers.get("Content-Disposition", ""))
    # The last part alone: what a server calls a file must not say where it goes.
    name = (
        re.split(r"[/\\]", unquote(named[1]))[-1].strip() if named else name_of(response.url) or name_of(url)
    )
    target = folder / (name.lstrip(".") or "fetched")
    unpack = not target.name.lower().endswith(".gz")
    done = 0
    chunks = response.iter_content(_CHUNK) if unpack else response.raw.stream(_CHUNK, decode_content=False)
    try:
        with target.open("wb") as file:
            for chunk in chunks:
                done += len(chunk)
                if done > limit:
                    raise _too_large(url, done, limit)
                file.write(chunk)
                if progress is not None:
                    progress("bytes", done, max(total, done))
    except (RequestException, HTTPError) as error:
        raise _Interrupted(
            f"{url} could not be fetched: it broke off after {done:,} bytes ({_words(error)})"
        ) from error
    return target


class _Interrupted(NotFetched):
    """The next attempt may succeed."""


def _too_large(url: str, size: int, limit: int) -> NotFetched:
    return NotFetched(
        f"{url} was not fetched: it has {size:,} bytes or more, and at most {limit:,} are fetched. "
        "Raise MLASSETS_FETCH_LIMIT if it is meant to be that large"
    )


@contextmanager
def _asking(method: str, url: str, headers: Mapping[str, str]) -> "Iterator[Response]":
    """Ask a server; redirects are followed to HTTP and HTTPS only."""
    import requests

    with requests.Session() as session:
        session.max_redirects = 10
        try:
            response = session.request(
                method,
                url,
                headers=dict(headers),
                stream=True,
                timeout=(_CONNECT_SECONDS, _READ_SECONDS),
                allow_redirects=True,
            )
        except (requests.ConnectionError, requests.Timeout) as error:
            raise _Interrupted(
                f"{url} could not be fetched: {_words(error)}. Try again, or correct the address"
            ) from None
        except (requests.RequestException, ValueError) as error:
            raise NotFetched(f"{url} could not be fetched: {_words(error)}. Correct the address") from None
        with response:
            yield response


def _check(response: "Response", url: str) -> None:
    if response.ok:
        return
    text = f"{url} could not be fetched: the server says {response.status_code} {response.reason}"
    if response.status_code in (408, 425, 429, 500, 502, 503, 504):
        raise _Interrupted(f"{text}. Try again later")
    fix = (
        "Put the user and password into ~/.netrc"
        if response.status_code in (401, 403)
        else "Correct the address"
    )
    raise NotFetched(f"{text}. {fix}")


def _origin(response: "Response") -> Origin:
    headers = response.headers
    size = headers.get("Content-Length", "")
    return Origin(headers.get("ETag"), headers.get("Last-Modified"), int(size) if size.isdigit() else None)


def _patiently(once: Callable[[], _Result]) -> _Result:
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

    retrying = Retrying(
        retry=retry_if_exception_type(_Interrupted),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_exponential_jitter(multiplier=0.2, max=5),
        reraise=True,
    )
    return retrying(once)


def _words(error: BaseException) -> str:
    """Return an error in one line, without what may hold a secret."""
    text = " ".join(str(error).split())
    return re.sub(r"//[^/@\s]+@", "//", re.sub(r"0x[0-9a-f]+", "…", text))[:200]


def _probe_s3(url: str) -> Origin:
    place, key = _s3(url)
    with place.scanning(key):
        info = place.fs.get_file_info(place.full(key))
    return Origin(modified=str(info.mtime_ns), size=info.size)


def _fetch_s3(url: str, folder: Path, limit: int) -> tuple[Path, Origin]:
    place, key = _s3(url)
    size = place.size_of(key)
    if size is None:
        raise NotFetched(f"{url} could not be fetched: there is no such object. Correct the address")
    if size > limit:
        raise _too_large(url, size, limit)
    target = folder / name_of(url)
    place.fetch(key, target)
    return target, _probe_s3(url)


def _s3(url: str) -> tuple[Any, str]:
    from resources.lake import open_lake

    prefix, _, key = url.rpartition("/")
    if prefix.count("/") < 2 or not key:
        raise NotFetched(f"{url} could not be fetched: it names no object. Write s3://bucket/key")
    return open_lake(prefix), key


# What PostgreSQL calls its types, by their numbers in its catalog, which never change.
_PLAIN: Mapping[int, pa.DataType] = {
    16: pa.bool_(),
    17: pa.binary(),
    20: pa.int64(),
    21: pa.int16(),
    23: pa.int32(),
    26: pa.int64(),
    700: pa.float32(),
    701: pa.float64(),
    1082: pa.date32(),
    1083: pa.time64("us"),
    1114: pa.timestamp("us"),
    1184: pa.timestamp("us", "UTC"),
}
_NUMERIC = 1700


def fetch_query(database: str, query: str, target: Path, *, progress: Progress | None = None) -> int:
    """Write the rows of a query to a Parquet file, with the types that they have in the database.

    The query runs in a transaction that cannot write and sees one state of the database, and its rows are streamed.
    Types that Arrow does not know (JSON, UUIDs, arrays, intervals) become the text that PostgreSQL writes.

    Args:
        database: `postgresql://user@host/database`; the password comes from `PGPASSWORD` or `~/.pgpass`.
        query: One SELECT.
        target: The file.
        progress: Called with "rows" and how many have come.

    Returns:
        Number of rows.

    Raises:
        NotFetched: If the database does not answer, or refuses the query.
    """
    import psycopg2
    import pyarrow.parquet as pq

    address = re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", database)
    query = query.strip().rstrip(";")
    connection = None
    try:
        connection = psycopg2.connect(
            address,
            connect_timeout=_CONNECT_SECONDS,
            options="-c default_transaction_read_only=on -c timezone=UTC -c datestyle=ISO -c bytea_output=hex",
        )
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        connection.set_client_encoding("UTF8")
        with connection.cursor("mlassets") as cursor:
            cursor.itersize = _ROWS
            _as_text(cursor)
            cursor.execute(query)
            first = cursor.fetchmany(_ROWS)
            kinds = _types(connection, query, cursor.description)
            schema = pa.schema([pa.field(name, kind) for name, kind in kinds])
            rows = 0
            with pq.ParquetWriter(target, schema, compression="zstd") as writer:
                part = first
                while part:
                    columns = [
                        _column(name, kind, [row[at] for row in part])
                        for at, (name, kind) in enumerate(kinds)
                    ]
                    writer.write_table(pa.Table.from_arrays(columns, schema=schema))
                    rows += len(part)
                    if progress is not None:
                        progress("rows", rows, rows)
                    part = cursor.fetchmany(_ROWS)
    except psycopg2.Error as error:
        said = _words(error)
        raise NotFetched(
            f"the query to {_shown(database)} failed: {said}. Correct the query or the address"
        ) from None
    finally:
        if connection is not None:
            connection.close()
    return rows


def _shown(database: str) -> str:
    parts = urlsplit(database)
    return f"{parts.hostname or 'the local server'}{parts.path}"


def _as_text(cursor: Any) -> None:
    """Have values as the text that PostgreSQL writes: Arrow parses it column by column, and no type is lost."""
    from psycopg2.extensions import new_type, register_type, string_types

    raw = new_type(tuple(string_types), "TEXT", lambda value, _cursor: value)
    register_type(raw, cursor)


def _types(connection: Any, query: str, described: Sequence[Any]) -> list[tuple[str, pa.DataType]]:
    names = [column.name for column in described]
    twice = sorted({name for name in names if [one.casefold() for one in names].count(name.casefold()) > 1})
    if twice:
        raise NotFetched(f"the query gives several columns the name {twice[0]}. Name them apart with AS")
    kinds = {}
    free = []
    for column in described:
        kind = _PLAIN.get(column.type_code, pa.string())
        if column.type_code == _NUMERIC:
            precision, scale = column.precision, column.scale
            if precision and scale is not None and 0 < precision <= 38 and 0 <= scale <= precision:
                kind = pa.decimal128(precision, scale)
            else:
                free.append(column.name)
        kinds[column.name] = kind
    if free:
        kinds |= _numerics(connection, query, free)
    return list(kinds.items())


def _numerics(connection: Any, query: str, names: Sequence[str]) -> Mapping[str, pa.DataType]:
    """Return the decimals that hold numerics which are declared without a size; text where none does."""
    from psycopg2 import sql

    measures = [
        sql.SQL(
            "max(scale({0})), max(abs(trunc({0})))::text, bool_or({0} IN ('NaN', 'Infinity', '-Infinity'))"
        ).format(sql.Identifier(name))
        for name in names
    ]
    asked = sql.SQL("SELECT {} FROM ({}) AS rows").format(
        sql.SQL(", ").join(measures), sql.SQL(query.replace("%", "%%"))
    )
    with connection.cursor() as cursor:
        cursor.execute(asked)
        found = cursor.fetchone()
    kinds = {}
    for at, name in enumerate(names):
        scale, largest, special = found[3 * at : 3 * at + 3]
        digits = len(largest or "0") + (scale or 0)
        kinds[name] = pa.string() if special or digits > 38 else pa.decimal128(max(digits, 1), scale or 0)
    return kinds


def _column(name: str, kind: pa.DataType, values: list[str | None]) -> pa.Array:
    if pa.types.is_binary(kind):
        return pa.array([None if one is None else bytes.fromhex(one[2:]) for one in values], kind)
    texts = pa.array(values, pa.string())
    if pa.types.is_string(kind):
        return texts
    if pa.types.is_boolean(kind):
        return pc.equal(texts, "t")
    try:
        if pa.types.is_time(kind):
            return pa.array([None if one is None else dt.time.fromisoformat(one) for one in values], kind)
        return cast("pa.Array", pc.cast(texts, kind))
    except ValueError as error:  # Arrow's own are among these
        raise NotFetched(
            f"the column {name} holds what no {kind} can hold ({_words(error)}). "
            f"Cast it in the query, such as {name}::text"
        ) from None
