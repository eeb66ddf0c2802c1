"""Where the files of a source come from, and under which name they land."""

import tempfile
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path

from mlassets.ingestion.fetching import Origin, fetch_query, fetch_url, probe
from mlassets.ingestion.formats import Progress
from mlassets.ingestion.landing import matches, reason_to_ignore
from mlassets.ingestion.taking import land
from mlassets.sources import LANDING, SourceSpec
from resources.errors import MlassetsError
from resources.settings import Settings


class CannotLand(MlassetsError):
    """flights: its files are `landing/flights/*.csv`, and 2013.xlsx is none of them. Change `files:` of the source."""


def place_of(source: str, spec: SourceSpec, file: str) -> str:
    """Return where in the landing zone a file of a source belongs, as in `flights/2013-01.csv`.

    Args:
        source: Name of the source.
        spec: What is known about it.
        file: Name of the file, with `/` between folders.

    Raises:
        CannotLand: If it would not be taken there.
    """
    glob = spec.with_place(source).files
    zone, *pattern = glob.split("/")
    if zone != LANDING or not pattern:
        raise CannotLand(
            f"{source}: its files are {glob}, which is not in the landing zone. Put {file} there, or change `files:` "
            "of the source"
        )
    fixed = takewhile(lambda part: not any(character in part for character in "*?["), pattern[:-1])
    name = "/".join([*fixed, file])
    if {"", ".."} & set(file.split("/")) or "\0" in name:
        raise CannotLand(f"{source}: {file!r} is no name that a file can land under. Rename it")
    if any(len(part.encode("utf-8", "surrogateescape")) > 255 for part in name.split("/")):
        raise CannotLand(f"{source}: the name {file[:60]}… is longer than file systems allow. Rename it")
    if reason := reason_to_ignore(name):
        raise CannotLand(f"{source}: {file} would never be taken: {reason}")
    if not matches(name.split("/"), pattern):
        raise CannotLand(
            f"{source}: its files are {glob}, and {file} would be none of them. Rename it, or change `files:` of the "
            "source"
        )
    return name


def fetch_origin(
    source: str,
    spec: SourceSpec,
    settings: Settings,
    now: datetime | None = None,
    progress: Progress | None = None,
) -> str:
    """Fetch what the source's spec says, and land it.

    Args:
        source: Name of the source.
        spec: What is known about it.
        settings: Where the landing zone is.
        now: The time, for names that say it.
        progress: Called with what was fetched, how much of it, and how much there is.

    Returns:
        Where it landed in the landing zone.

    Raises:
        CannotLand: If the spec says nothing of that, or the file would not be taken.
        NotFetched: If it cannot be fetched.
    """
    if spec.fetch is None:
        raise CannotLand(
            f"{source}: its spec does not say where its files come from. Name a file, or add `fetch: {{url: …}}`"
        )
    origin, at = spec.fetch, now or datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="mlassets-") as folder:
        if origin.url is not None:
            fetched = fetch_url(origin.url, Path(folder), limit=settings.fetch_limit, progress=progress)
            assert fetched is not None, "nothing was known of it before"
            path, default = fetched[0], fetched[0].name
        else:
            assert origin.database is not None, "a spec gives one of both"
            assert origin.query is not None, "a database goes with a query"
            path, default = Path(folder, "rows.parquet"), f"{source}.parquet"
            fetch_query(origin.database, origin.query, path, progress=progress)
        name = place_of(source, spec, at.strftime(origin.name) if origin.name else default)
        land(path, settings, name)
    return name


def origin_of(spec: SourceSpec) -> Origin:
    """Return what can be known about a source's origin without fetching it.

    Raises:
        NotFetched: If the server does not answer, or has no such file.
    """
    url = spec.fetch.url if spec.fetch else None
    return probe(url) if url is not None else Origin()
