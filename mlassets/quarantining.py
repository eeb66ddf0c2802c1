"""What lies in quarantine: listed, tried again, or taken out of the landing zone for good."""

import shutil
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlassets.home import Home
from mlassets.ingestion.landing import QuarantineNote, dropped_path, quarantine_path, read_notes, remove_note
from mlassets.ingestion.taking import zone_of
from mlassets.runs import Outcome, Runner, instance_of
from mlassets.sections import close_matches, shown
from resources.errors import MlassetsError
from resources.lake import Folder, NotInLake


class NotQuarantined(MlassetsError):
    """No file of that name is in quarantine; there is flights/2013-01.csv."""


@dataclass(frozen=True)
class Tried:
    """What became of files in quarantine.

    Attributes:
        outcomes: The runs, one for each source.
        left: What is still in quarantine of them.
        moved: Where files that were dropped are now, by name.
    """

    outcomes: list[Outcome]
    left: list[QuarantineNote]
    moved: dict[str, str]


def quarantined(home: Home, names: Collection[str] = (), source: str | None = None) -> list[QuarantineNote]:
    """Return what is in quarantine: all of it, or files by their names in the landing zone or their last parts.

    Raises:
        NotQuarantined: If a name is of none of them.
    """
    notes = read_notes(home.settings.quarantine, source)
    unknown = [name for name in names if not any(_is(note, name) for note in notes)]
    if unknown:
        known = [note.file.name for note in notes]
        raise NotQuarantined(f"{shown(unknown[0])} is not in quarantine; {close_matches(unknown[0], known)}")
    return [note for note in notes if not names or any(_is(note, name) for name in names)]


def _is(note: QuarantineNote, name: str) -> bool:
    return name in (note.file.name, note.file.name.rpartition("/")[2])


def retry(home: Home, notes: Sequence[QuarantineNote]) -> Tried:
    """Try files again whose bytes have not changed: a spec, a right or this program may have."""
    outcomes = _take_again(home, notes)
    names = {(note.source, note.file.name) for note in notes}
    left = [one for one in read_notes(home.settings.quarantine) if (one.source, one.file.name) in names]
    return Tried(outcomes, left, {})


def drop(home: Home, notes: Sequence[QuarantineNote]) -> Tried:
    """Move refused files out of the landing zone into the quarantine; nothing is lost, and nothing warns of them more.

    A file that was taken but for some rows stays where it is; the rows and the note on them go.
    """
    moved: dict[str, str] = {}
    sources = home.sources()
    for note in notes:
        name = note.file.name
        if not note.rejected and note.source in sources:
            zone = zone_of(sources[note.source].files, home.settings)
            target = dropped_path(home.settings.quarantine, note.source, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            # If it has gone of itself, there is nothing to move.
            with suppress(NotInLake, FileNotFoundError):
                if isinstance(zone.place, Folder):
                    shutil.move(Path(zone.place.root, name), target)
                else:
                    zone.place.fetch(name, target)
                    zone.place.delete(name)
                moved[name] = str(target)
        remove_note(home.settings.quarantine, note.source, name)
    refused = [note for note in notes if not note.rejected]
    return Tried(_take_again(home, refused), [], moved)


def _take_again(home: Home, notes: Sequence[QuarantineNote]) -> list[Outcome]:
    known = home.sources()
    by_source: dict[str, list[str]] = {}
    for note in notes:
        if note.source in known:
            by_source.setdefault(note.source, []).append(note.file.name)
        else:
            # Nothing takes its files any more.
            remove_note(home.settings.quarantine, note.source, note.file.name)
    if not by_source:
        return []
    with instance_of(home.settings) as instance:
        runner = Runner(home, instance)
        return [
            outcome
            for source, names in by_source.items()
            for outcome in runner.take_sources([source], again=names)
        ]


def note_path(home: Home, note: QuarantineNote) -> Path:
    """Return where the note on a file is that is meant for people."""
    return quarantine_path(home.settings.quarantine, note.source, note.file.name).with_suffix(".txt")
