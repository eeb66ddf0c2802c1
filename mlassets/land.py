"""Landing by hand: a file, a folder, an address, a query becomes a source, described and taken at once."""

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlassets.home import Home
from mlassets.ingestion.errors import SeveralTables, UnreadableFile
from mlassets.ingestion.fetching import fetch_url
from mlassets.ingestion.formats import Progress, convert, suffix_of
from mlassets.ingestion.landing import read_notes, reason_to_ignore
from mlassets.ingestion.taking import land, tables_together, watching
from mlassets.origins import CannotLand, fetch_origin, place_of
from mlassets.runs import Outcome, Runner, instance_of, lay_out
from mlassets.sections import slugify
from mlassets.sources import LANDING, SourceSpec, name_trouble, together
from mlassets.steps import SOURCES
from resources.things import Partition

# A file of these is one table; of all others it is found out before they land.
_ONE_TABLE = re.compile(
    r"\.(csv|tsv|psv|txt|jsonl|ndjson|parquet|feather|arrow|ipc|orc|avro)(\.\w+)?", re.IGNORECASE
)


@dataclass(frozen=True)
class Given:
    """One file that is to land.

    Attributes:
        path: Where it is on this machine.
        name: Name under which it lands.
    """

    path: Path
    name: str


@dataclass
class Landing:
    """What became of what was to land.

    Attributes:
        sources: Sources that the files are of, with the names that they landed under.
        specs: Files that now describe a source.
        notes: For people: what was passed over, and why.
        taken: What became of each source, once its files were taken.
    """

    sources: dict[str, list[str]] = field(default_factory=dict)
    specs: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether all of it was taken."""
        return all(one["state"] == "done" and not one["quarantined"] for one in self.taken)


def land_given(
    home: Home,
    given: Sequence[str],
    *,
    source: str | None = None,
    described: SourceSpec | None = None,
    take: bool = True,
    progress: Progress | None = None,
) -> Landing:
    """Land files and take them in.

    Args:
        home: The home.
        given: Files, folders and addresses; none of them fetches what the source's spec says.
        source: The source; by default named after the one thing that is given.
        described: What is to be known about the source from now on; it is kept in a spec of its own.
        take: Whether to take what has landed.
        progress: Called with "bytes", how many were read, and how many there are.

    Raises:
        CannotLand: If the files could not be taken where they would land, or it is not clear what they are.
        SpecError: If the source's own spec cannot be used.
        NotFetched: If an address does not give its file.
    """
    settings = home.settings
    name = source or _name_for(given)
    if wrong := name_trouble(name):
        raise CannotLand(f"{wrong}, with --source")
    lay_out(settings)
    landing = Landing()
    spec = _described(home, name, described or SourceSpec(), landing)
    if not given:
        landing.sources[name] = [fetch_origin(name, spec, settings, progress=progress)]
    else:
        with _on_this_machine(given, settings.fetch_limit, landing, progress) as files:
            if not files:
                words = [f"{' '.join(given)[:200]}: there is no file to land.", *landing.notes]
                raise CannotLand(" ".join(words))
            names = [place_of(name, spec, file.name) for file in files]
            split = _sources_of_tables(home, name, spec, files[0], landing)
            for file, where in zip(files, names, strict=True):
                land(file.path, settings, where)
        landing.sources |= dict.fromkeys(split or [name], names)
    if take:
        _take(home, landing, progress)
    return landing


def _name_for(given: Sequence[str]) -> str:
    if len(given) != 1:
        raise CannotLand("it is not clear which source this is. Name one with --source")
    last = re.split(r"[/\\]", given[0].rstrip("/").partition("?")[0])[-1]
    return slugify(last.removesuffix(suffix_of(last) or Path(last).suffix)).replace("-", "_")


def _described(home: Home, name: str, described: SourceSpec, landing: Landing) -> SourceSpec:
    """Return what is known about a source, having kept what is new about it."""
    loaded = home.load_sources()
    if name in loaded.unreadable:
        raise next(error for error in loaded.errors if error.file.stem == name)
    known = loaded.specs.get(name, SourceSpec().with_place(name))
    if described == SourceSpec():
        return known
    whole = described.with_place(name)
    if known == whole:
        return known
    if together(name, known, whole) is None:
        at = loaded.files.get(name, "the spec of a project")
        raise CannotLand(
            f"{name} is described otherwise in {at}. Change it there, or give the source another name"
        )
    landing.specs.append(write_spec(home, name, whole))
    return home.source(name)


def write_spec(home: Home, name: str, spec: SourceSpec) -> Path:
    """Write the spec of a source into a file of its own, in the form that a person would."""
    from ruamel.yaml import YAML

    values: Any = spec.model_dump(mode="json")
    path = home.settings.sources / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{path.name}.part")
    with hidden.open("w", encoding="utf-8") as file:
        file.write(f"# How the files of {name} are read; docs/how-to/land-files.md tells what can be said.\n")
        YAML().dump({"files": values} if isinstance(values, str) else values, file)
    hidden.replace(path)
    return path


@contextmanager
def _on_this_machine(
    given: Sequence[str], limit: int, landing: Landing, progress: Progress | None
) -> Iterator[list[Given]]:
    """Give what is to land as files, fetching what is elsewhere."""
    files: list[Given] = []
    with tempfile.TemporaryDirectory(prefix="mlassets-") as folder:
        for number, one in enumerate(given):
            path = Path(one)
            if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", one):
                own = Path(folder, str(number))
                own.mkdir()
                fetched = fetch_url(one, own, limit=limit, progress=progress)
                assert fetched is not None, "nothing was known of it before"
                files.append(Given(fetched[0], fetched[0].name))
            elif path.is_dir():
                files += _files_below(path, landing)
            elif path.is_file():
                files.append(Given(path, path.name))
            else:
                raise CannotLand(f"{one}: there is no such file or folder. Correct its name")
        yield files


def _files_below(folder: Path, landing: Landing) -> list[Given]:
    found = []
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            below = path.relative_to(folder).as_posix()
            if reason := reason_to_ignore(below):
                landing.notes.append(
                    f"{below.encode('utf-8', 'backslashreplace').decode()} did not land: {reason}."
                )
            elif path.is_file():
                found.append(Given(path, below))
            else:
                landing.notes.append(f"{below} did not land: it is no file.")
    return found


def _sources_of_tables(
    home: Home, name: str, spec: SourceSpec, file: Given, landing: Landing
) -> list[str] | None:
    """Make a source of each table, if the first file of a new source holds different ones; return their names."""
    one_table = _ONE_TABLE.fullmatch(suffix_of(file.name) or "") is not None
    if one_table or spec.tables is not None or home.store.latest(SOURCES, Partition.source(name)):
        return None
    with tempfile.TemporaryDirectory(prefix="mlassets-") as folder:
        try:
            converted = convert(file.path, file.name, Path(folder), spec.options)
            tables_together(file.name, converted, spec.options)
            return None
        except SeveralTables:
            names = {_named(name, table.name): table.name for table in converted.tables}
        except UnreadableFile:
            # It is told of where it has landed.
            return None
    # What was said about the whole file stands in the spec of every table.
    for path in landing.specs:
        path.unlink()
    landing.specs.clear()
    for one, table in names.items():
        own = spec.model_copy(update={"tables": (table,), "files": f"{LANDING}/{name}/**"})
        landing.specs.append(write_spec(home, one, own))
    landing.notes.append(f"{file.name} holds {len(names):,} tables with different columns: each is a source.")
    return list(names)


def _named(source: str, table: str) -> str:
    last = re.split(r"[/\\]", table)[-1]
    return f"{source}_{slugify(last).replace('-', '_')}"[:63].rstrip("_")


def _take(home: Home, landing: Landing, progress: Progress | None) -> None:
    with instance_of(home.settings) as instance, watching(progress):
        runner = Runner(home, instance)
        outcomes = runner.take_sources(landing.sources)
    landing.taken += [became(home, outcome, landing.sources[outcome.partition]) for outcome in outcomes]


def became(home: Home, outcome: Outcome, names: Sequence[str]) -> dict[str, Any]:
    """Return what became of the files of one source, as plain values."""
    thing = home.store.latest(SOURCES, Partition.source(outcome.partition))
    notes = {note.file.name: note for note in read_notes(home.settings.quarantine, outcome.partition)}
    records: list[Mapping[str, Any]] = thing.parameters["files"] if thing else []
    return {
        "source": outcome.partition,
        "state": outcome.state,
        "error": outcome.error,
        "version": thing.id if thing else None,
        "rows": (thing.rows or 0) if thing else 0,
        "files": [
            {key: one.get(key) for key in ("name", "table", "rows", "rejected", "format", "found")}
            for one in records
            if one["name"] in names
        ],
        "quarantined": [
            {"name": name, "reason": notes[name].reason, "fix": notes[name].fix}
            for name in names
            if name in notes and not notes[name].rejected
        ],
        "rejected": [
            {"name": name, "rows": notes[name].rejected, "reason": notes[name].reason}
            for name in names
            if name in notes and notes[name].rejected
        ],
    }
