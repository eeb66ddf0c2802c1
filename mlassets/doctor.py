"""`mlassets doctor`: is everything that a deployment rests on there, and in order? If not, what mends it?

Every examination really does what a step would do (it writes, reads and deletes), changes nothing that stays, and
says what it found, also where that is that it could not look.
"""

import difflib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal
from uuid import uuid4

import pyarrow as pa
import pyarrow.fs as pafs

from resources.errors import MlassetsError
from resources.lake import Folder, Lake, LakeError, NameTaken, open_lake
from resources.settings import Settings
from resources.store import Store
from resources.things import MANIFEST

FREE_BYTES_WARN, FREE_BYTES_WRONG = 5 << 30, 500 << 20
SKEW_SECONDS_WARN, SKEW_SECONDS_WRONG = 5.0, 60.0
QUARANTINED_SHOWN = 5

State = Literal["ok", "warn", "wrong"]


@dataclass(frozen=True)
class Finding:
    """What one examination found.

    Attributes:
        area: What was examined.
        state: `ok`; `warn`: it works, but somebody should look; `wrong`: steps fail, or will.
        message: What is so, in a sentence.
        remedy: How to mend it; empty where nothing needs mending.
    """

    area: str
    state: State
    message: str
    remedy: str = ""


def examine(settings: Settings, on_start: Callable[[str], None] = lambda area: None) -> Iterator[Finding]:
    """Examine a deployment, one area after the other, and yield what is found.

    Args:
        settings: Its settings.
        on_start: Called with each area before it is looked at.
    """
    for area, look in _AREAS.items():
        on_start(area)
        try:
            for finding in look(settings):
                yield Finding(area, *finding)
        except MlassetsError as error:
            yield Finding(area, "wrong", str(error))
        except Exception as error:  # noqa: BLE001 - a doctor that dies of what it finds helps nobody
            yield Finding(area, "wrong", f"could not be examined: {type(error).__name__}: {error}")


_Found = tuple[State, str] | tuple[State, str, str]


def _settings(settings: Settings) -> Iterator[_Found]:
    known = {f"MLASSETS_{name.upper()}" for name in Settings.model_fields}
    for name in sorted(os.environ):
        if name.startswith("MLASSETS_") and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            yield (
                "warn",
                f"{name} is set, but is no setting",
                f"Did you mean {near[0]}?" if near else "Unset it.",
            )
    yield "ok", f"home {settings.home}, lake {settings.lake}, landing zone {settings.landing}"


def _versions(_settings: Settings) -> Iterator[_Found]:
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    python = ".".join(str(part) for part in sys.version_info[:3])
    wrong = []
    for line in requires("mlassets") or ():
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            found = "missing"
        if found == "missing" or not wanted.specifier.contains(found, prereleases=True):
            wrong.append(f"{wanted.name} is {found}, mlassets needs {wanted.specifier}")
    for one in wrong:
        yield "wrong", one, "Install mlassets anew with its constraints file."
    if not wrong:
        yield "ok", f"mlassets {version('mlassets')} on Python {python}, every package in the range it needs"


def _folders(settings: Settings) -> Iterator[_Found]:
    folders = {
        "home": settings.home,
        "specs": settings.projects,
        "Dagster's instance": settings.dagster_home,
        "quarantine": settings.quarantine,
        "consumption database": settings.consumption.parent,
        "temporary files": Path(tempfile.gettempdir()),
    }
    if "://" not in settings.landing:
        folders["landing zone"] = Path(settings.landing)
    if "://" not in settings.lake:
        folders["lake"] = Path(settings.lake)
    fine = True
    disks: dict[int, tuple[str, Path]] = {}
    for what, folder in folders.items():
        there = next(one for one in (folder, *folder.parents) if one.exists())
        try:
            probe = there / f".mlassets-doctor-{uuid4().hex}"
            probe.write_bytes(b"probe")
            probe.read_bytes()
            probe.unlink()
        except OSError as error:
            fine = False
            yield (
                "wrong",
                f"{there}, for the {what}, cannot be written to: {error.strerror or error}",
                "Give the user that runs mlassets the right to, or choose another folder in the settings.",
            )
            continue
        disks.setdefault(there.stat().st_dev, (what, there))
    for what, there in disks.values():
        free = shutil.disk_usage(there).free
        if free < FREE_BYTES_WARN:
            fine = False
            yield (
                "wrong" if free < FREE_BYTES_WRONG else "warn",
                f"the disk of {there} ({what}) has {free / 2**30:.1f} GiB left",
                "Make room there; `mlassets catalog sweep` removes what killed commits left behind.",
            )
    if fine:
        yield "ok", f"{len(folders)} folders can be written to, and their disks have room"


def _lake(settings: Settings) -> Iterator[_Found]:
    lake = open_lake(settings.lake, endpoint=settings.s3_endpoint, patience=settings.patience)
    if isinstance(lake, Folder) and not Path(lake.root).is_dir():
        yield "ok", f"{lake.uri} is made by the first commit"
        return
    yield from _storage(lake)
    # Past the manifests' own client: scans have a connection of their own.
    path = f"tmp/doctor-{uuid4().hex}"
    try:
        lake.write_table(path, pa.table({"probe": [1]}))
        with lake.scanning(path):
            rows = lake.dataset([path]).to_table().to_pylist()
    finally:
        lake.delete(path)
    if rows != [{"probe": 1}]:
        yield "wrong", f"a table that was written to {lake.uri} was read back as {rows}", "Check the storage."
        return
    yield "ok", f"a table was written to {lake.uri}, scanned and deleted"
    if settings.release_lock is not None:
        yield _locking(lake, settings.lock_releases)


def _locking(lake: Lake, wanted: str | None) -> _Found:
    from resources.s3 import Bucket

    if isinstance(lake, Bucket) and lake.locks():
        return "ok", f"{lake.uri} is in a bucket with Object Lock; releases are locked for {wanted}"
    return (
        "wrong",
        f"releases are to be locked for {wanted} (MLASSETS_LOCK_RELEASES), and {lake.uri} cannot lock anything: "
        "publishing fails",
        "Keep the lake in an S3 bucket that was made with Object Lock, or unset the variable.",
    )


def _storage(lake: Lake) -> Iterator[_Found]:
    """Write, claim, read, list and delete a file, and compare the clocks."""
    path = f"tmp/doctor-{uuid4().hex}"
    try:
        lake.put_bytes(path, b"probe")
        if lake.read_bytes(path) != b"probe":
            yield "wrong", f"{path} in {lake.uri} does not read back as it was written", "Check the storage."
        listed = [entry for entry in lake.files("tmp") if entry.path == path]
        if not listed:
            yield (
                "wrong",
                f"{path} in {lake.uri} was written, but a listing does not show it",
                "The storage must list what it holds at once; S3 itself does since December 2020.",
            )
        try:
            lake.put_bytes(path, b"another")
            yield (
                "wrong",
                f"{lake.uri} lets two writers take one name: it ignores `If-None-Match: *`",
                "Use a storage, or a version of it, that supports conditional PUT.",
            )
        except NameTaken:
            pass
        skew = _skew(lake, listed[0].modified if listed else None)
    finally:
        lake.delete(path)
    yield from _clock(f"the clock of {lake.uri}", skew)
    yield "ok", f"{lake.uri} was written to, read, listed and deleted from; a name there is given once"


def _skew(lake: Lake, modified: datetime | None) -> float:
    if isinstance(lake, Folder):
        return (modified - datetime.now(UTC)).total_seconds() if modified else 0.0
    from resources.s3 import Bucket

    return lake.clock_skew() if isinstance(lake, Bucket) else 0.0


def _clock(what: str, skew: float) -> Iterator[_Found]:
    if abs(skew) > SKEW_SECONDS_WARN:
        yield (
            "wrong" if abs(skew) > SKEW_SECONDS_WRONG else "warn",
            f"{what} is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's",
            "Have both set by NTP: versions of several machines sort by their clocks.",
        )


def _lakes(settings: Settings) -> Iterator[_Found]:
    """Look into the lakes that Things are copied to, or point into."""
    for name, uri in settings.lakes:
        lake = open_lake(uri, endpoint=settings.s3_endpoint, patience=settings.patience)
        remedy = "Mend it, or its location in MLASSETS_LAKES: what points into it cannot be read until then."
        if isinstance(lake, Folder) and not Path(lake.root).is_dir():
            yield "warn", f"{name} is to be at {uri}, and there is no such folder", remedy
            continue
        try:
            next(iter(lake.files("things")), None)
        except LakeError as error:
            yield "wrong", f"{name}: {error}", remedy
        else:
            yield "ok", f"{name}, {uri}, can be listed"
    if not settings.lakes:
        yield "ok", "no other lake is named (MLASSETS_LAKES)"


def _landing(settings: Settings) -> Iterator[_Found]:
    place = open_lake(settings.landing, endpoint=settings.s3_endpoint, patience=settings.patience)
    if isinstance(place, Folder):
        if not Path(place.root).is_dir():
            yield "warn", f"{place.uri} does not exist yet", "It is made by `mlassets new` or `mlassets run`."
            return
    else:
        # A landing zone is only read, but for what `mlassets new` lands.
        _skew(place, None)
        with place.scanning(""):
            place.fs.get_file_info(pafs.FileSelector(place.root, allow_not_found=True))
    yield "ok", f"{place.uri} can be listed"


def _catalog(settings: Settings) -> Iterator[_Found]:
    from resources.database import HEAD, Database

    database = Database(settings.catalog, settings.patience)
    try:
        revision = database.revision()
        if revision is None:
            yield "ok", f"{database.shown} is empty, and is laid out when it is first used"
            return
        if revision != HEAD:
            # Says what is wrong with it: older, newer, or another program's. Nothing is laid out.
            database.lay_out()
        for problem in database.examine():
            yield "wrong", f"{database.shown}: {problem}", _REBUILD
        yield from _clock(f"the clock of {database.shown}", database.clock_skew())
        yield "ok", f"{database.shown} can be read and written, and has revision {revision}"
    finally:
        database.close()


_REBUILD = (
    "Stop what uses it, remove the file with its -wal and -shm files, and run `mlassets catalog rebuild`, which makes "
    "it anew from the lake."
)


def _commits(settings: Settings) -> Iterator[_Found]:
    from resources.catalog import Catalog
    from resources.database import HEAD

    if Catalog.revision(settings.catalog, settings.patience) != HEAD:
        yield "warn", "not looked at: there is no catalog of this version to compare the lake with"
        return
    store = Store.open(settings)
    try:
        without_row, without_manifest = _apart(store)
        if without_row:
            yield (
                "warn",
                f"{len(without_row):,} committed Things are in the lake but not in the catalog ({without_row[0]}, …)",
                "Run `mlassets catalog sync`, which adopts them.",
            )
        if without_manifest:
            yield (
                "wrong",
                f"{len(without_manifest):,} Things are in the catalog but not in the lake ({without_manifest[0]}, …)",
                "Restore the lake from a backup, or run `mlassets catalog rebuild` to forget them.",
            )
        garbage = store.garbage(timedelta(days=1))
        if garbage:
            size = sum(entry.size for entry in garbage)
            yield (
                "warn",
                f"{len(garbage):,} files ({size / 2**20:.1f} MiB) are left of commits that were killed",
                "Run `mlassets catalog sweep`, which removes them.",
            )
        if not (without_row or without_manifest or garbage):
            yield "ok", "lake and catalog hold the same Things, and nothing is left of killed commits"
    finally:
        store.catalog.close()


def _apart(store: Store) -> tuple[list[str], list[str]]:
    """Return ids of Things that are in the lake alone, and of those that are in the catalog alone."""
    before = datetime.now(UTC) - timedelta(minutes=1)  # a commit that is just going on is in order
    manifests = {
        entry.path.split("/")[-2]: entry.modified
        for entry in store.lake.files("things")
        if entry.path.endswith(f"/{MANIFEST}")
    }
    rows = store.catalog.ids()
    without_row = sorted(one for one in set(manifests) - rows if manifests[one] < before)
    # What was committed since the listing is in both.
    gone = [
        one for one in rows - set(manifests) if not store.lake.exists(f"{store.get(one).folder}/{MANIFEST}")
    ]
    return without_row, sorted(gone)


def _specs(settings: Settings) -> Iterator[_Found]:
    from mlassets.projects import load_projects
    from mlassets.sources import load_sources

    described = load_sources(settings.sources)
    loaded = load_projects(settings.projects, described.specs)
    for error in (*loaded.errors, *described.errors):
        yield "wrong", str(error)
    if not loaded.errors:
        yield "ok", f"{len(loaded.specs)} project specs load"
    if described.specs and not described.errors:
        yield "ok", f"{len(described.specs)} source specs load"


def _dagster(settings: Settings) -> Iterator[_Found]:
    import dagster as dg

    if not (settings.dagster_home / "dagster.yaml").exists():
        yield "ok", f"{settings.dagster_home} is laid out by the first `mlassets run` or `mlassets ui`"
        return
    started = time.perf_counter()
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        instance.get_runs(limit=1)
        pools = instance.get_concurrency_config().pool_config
        watched = instance.run_monitoring_enabled and instance.run_launcher.supports_check_run_worker_health
    seconds = time.perf_counter() - started
    if pools.default_pool_limit != 1:
        yield (
            "warn",
            f"Dagster's pools let {pools.default_pool_limit or 'any number of'} runs in at once; publishing needs one",
            "Set `concurrency: {pools: {default_limit: 1}}` in dagster.yaml.",
        )
    if not watched:
        yield (
            "warn",
            "a run that is killed together with the daemon would count as started for ever, and hold a slot",
            f"An older version wrote {settings.dagster_home / 'dagster.yaml'}: remove it, and the next `mlassets ui` "
            "or `mlassets run` writes one that has such runs found and done again.",
        )
    yield "ok", f"Dagster's instance answers ({seconds:.1f} s)"


def _consumption(settings: Settings) -> Iterator[_Found]:
    if not settings.consumption.exists():
        yield "ok", f"{settings.consumption} is written by the first release"
        return
    import duckdb

    try:
        with duckdb.connect(str(settings.consumption), read_only=True) as connection:
            tables = connection.sql("SHOW TABLES").fetchall()
    except duckdb.Error as error:
        yield (
            "wrong",
            f"{settings.consumption} cannot be opened: {str(error).splitlines()[0]}",
            "End the program that holds it open for writing; or remove it, and publish any project again.",
        )
        return
    yield "ok", f"{settings.consumption} opens and has {len(tables)} tables"


def _quarantine(settings: Settings) -> Iterator[_Found]:
    from mlassets.ingestion.landing import read_notes

    notes = read_notes(settings.quarantine)
    for note in notes[:QUARANTINED_SHOWN]:
        yield "warn", f"{note.file.name} of {note.source} was refused: {note.reason}", f"{note.fix}."
    if len(notes) > QUARANTINED_SHOWN:
        yield "warn", f"and {len(notes) - QUARANTINED_SHOWN:,} more, noted in {settings.quarantine}"
    if not notes:
        yield "ok", "no landed file was refused"


def _alerts(settings: Settings) -> Iterator[_Found]:
    from mlassets.alerting.channels import NotSent, channels_of

    channels = channels_of(settings.alerts)
    if not channels:
        yield "ok", "no channel is set, so nobody is told of what fails or waits (MLASSETS_ALERTS)"
    for channel in channels:
        try:
            channel.probe()
            yield "ok", f"{channel.name} can be written to; `mlassets alerts --test` sends a test alert"
        except NotSent as error:
            yield (
                "wrong",
                str(error),
                "Mend the server or its URL in MLASSETS_ALERTS; what is open is sent then.",
            )


_AREAS: dict[str, Callable[[Settings], Iterable[_Found]]] = {
    "settings": _settings,
    "versions": _versions,
    "folders": _folders,
    "lake": _lake,
    "other lakes": _lakes,
    "landing zone": _landing,
    "catalog": _catalog,
    "commits": _commits,
    "specs": _specs,
    "Dagster": _dagster,
    "consumption": _consumption,
    "quarantine": _quarantine,
    "alerts": _alerts,
}
