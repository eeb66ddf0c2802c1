"""Making a Thing again from what is recorded of it, in a process of its own, and saying what differs.

A scratch home is laid out with the store as it was when the Thing was made: the recorded inputs with their bytes,
checked by hash, what else the step may have looked up, and the recorded spec. Then the step runs there, with the
recorded code, and what comes out is compared with what was committed.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from blake3 import blake3

from mlassets import remaking
from mlassets.differences import CodeChanges, Differences, changes, diff
from mlassets.ingestion.taking import zone_of
from mlassets.projects import ProjectSpec
from mlassets.recorded import Code, lay_out_code, make_environment
from mlassets.releasing.aliases import BY_HAND
from mlassets.steps import (
    AGGREGATE,
    DRAW_DATA,
    MODEL,
    MODEL_READY,
    PUBLISH,
    REVIEW,
    SOURCES,
    STEPS,
    step_hash,
)
from resources.errors import MlassetsError
from resources.keeping import verdicts_path
from resources.lake import LakeError, NotInLake, open_lake
from resources.settings import Settings
from resources.store import Store
from resources.things import MANIFEST, RETIRED, DamagedThing, Thing, shared_paths

Run = Callable[[Path, Code, Path], str]
"""Runs a step: given the python, the code, and the file that says which, returns how it ended."""

_ABOVE = {
    DRAW_DATA: SOURCES,
    MODEL_READY: DRAW_DATA,
    MODEL: MODEL_READY,
    AGGREGATE: MODEL,
    REVIEW: AGGREGATE,
    PUBLISH: REVIEW,
}
# How far back a step may follow what its Things were made from, and how many of a project's own it may go through.
_GENERATIONS = 8
_NEAR = 4
_OLDER = 20
_FROM_OUTSIDE = ("MLASSETS_", "DAGSTER_", "AWS_", "PYTHON")
_PICTURES = ".png"
_TEXT = 2000


class NotReproducible(MlassetsError):
    """The Thing cannot be made again: its step, its inputs or its spec are not there any more."""


@dataclass(frozen=True)
class Reproduced:
    """What came of making a Thing again.

    Attributes:
        thing: The Thing.
        same_bytes: Whether all its files came out the same, byte for byte.
        same: Whether its parameters, metrics and labels did, too.
        differences: What differs between the recorded one and the new one.
        code: Which code was used.
        reasons: In what the circumstances are known to differ from those that were recorded.
        seconds: How long it took.
        kept: The scratch home, if it was to be kept.
    """

    thing: Thing
    same_bytes: bool
    same: bool
    differences: Differences
    code: str
    reasons: tuple[str, ...]
    seconds: float
    kept: Path | None

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain values that JSON can hold."""
        return {
            "id": self.thing.id,
            "step": self.thing.step,
            "partition": self.thing.partition.key,
            "same_bytes": self.same_bytes,
            "same": self.same,
            "code": self.code,
            "reasons": list(self.reasons),
            "seconds": round(self.seconds, 3),
            "kept": str(self.kept) if self.kept else None,
            "differences": self.differences.as_dict(),
        }


def reproduce(
    store: Store,
    settings: Settings,
    reference: Thing | str,
    *,
    environment: bool = False,
    keep: Path | None = None,
    run: Run | None = None,
    progress: Callable[[str], None] = lambda doing: None,
) -> Reproduced:
    """Make a Thing again from its recorded inputs, spec and code, and say whether it comes out the same.

    Args:
        store: The store.
        settings: Its settings: a source is made again from the files in its landing zone.
        reference: The Thing, or what `Store.get` takes.
        environment: Install the recorded packages into a virtual environment, and use that.
        keep: A new folder for the scratch home, which is kept then.
        run: How the step is run; `in_own_process` by default.
        progress: Called with what is being done.

    Raises:
        UnknownThing: If there is no such Thing.
        NotReproducible: If no step makes it, or what it was made from is not there any more.
        DamagedThing: If an input's bytes are not what they were.
        NoEnvironment: If the recorded packages cannot be installed.
    """
    begun = time.monotonic()
    thing = store.get(reference) if isinstance(reference, str) else reference
    _refuse(thing)
    reasons: list[str] = []
    with _scratch(keep) as folder:
        scratch = _Scratch(store, settings, thing, folder / "home")
        progress("laying out what it was made from")
        scratch.lay_out(reasons)
        code = lay_out_code(thing, folder / "code")
        if not code.faithful:
            reasons.append(code.told)
        python = Path(sys.executable)
        if environment:
            progress("installing the packages that it was made with")
            python, notes = make_environment(thing.environment(), folder / "environment")
            reasons += notes
        progress(f"running {thing.step} of {thing.partition.key} with {code.told}")
        _run(scratch, code, python, folder, run or in_own_process)
        again = scratch.made()
        progress("comparing")
        # What the code was is known better than by whoever looks for git where it was laid out.
        found = replace(diff(store, thing, again), code=CodeChanges(note=code.told))
        reasons += _circumstances(thing, again)
        return Reproduced(
            thing,
            found.same_content,
            found.same_content and not (found.parameters or found.metrics or found.labels),
            found,
            code.told,
            tuple(dict.fromkeys(reasons)),
            time.monotonic() - begun,
            keep,
        )


def _refuse(thing: Thing) -> None:
    if thing.step not in (SOURCES, *STEPS):
        raise NotReproducible(
            f"{thing} was not made by a step: somebody logged or uploaded it, and only they know how it was made"
        )
    by_hand = thing.parameters.get("action")
    if thing.step == PUBLISH and by_hand in BY_HAND:
        raise NotReproducible(
            f"{thing} was {str(by_hand).replace('_', ' ')} by hand and holds the files of "
            f"{thing.parameters.get('release_of')}; reproduce that one"
        )


@contextmanager
def _scratch(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="mlassets-reproduce-") as folder:
            yield Path(folder)
        return
    if keep.exists() and any(keep.iterdir()):
        raise NotReproducible(f"{keep} is not empty; name a new folder")
    keep.mkdir(parents=True, exist_ok=True)
    yield keep.resolve()


class _Scratch:
    """A home with the store as it was when a Thing was made, as far as its step may have looked."""

    def __init__(self, store: Store, settings: Settings, thing: Thing, home: Path) -> None:
        self.home, self.thing = home, thing
        self.known: dict[str, list[str]] = {}
        self._store, self._settings = store, settings
        self._lake = home / "lake"
        self._things: dict[str, Thing] = {}

    def lay_out(self, reasons: list[str]) -> None:
        """Write all of it."""
        self._projects(reasons)
        inputs = [self._input(one) for one in self.thing.based_on]
        before = self._of_then(self.thing.step, self.thing.partition.key, 1)
        for one in before if self.thing.step == SOURCES else inputs:
            self._bring_files(one)
        if self.thing.step == REVIEW:
            for one in self._follow(inputs, _NEAR):
                # The evidence shows them, which does not count as reading the models.
                self._bring_files(one, lambda name: name.endswith(_PICTURES))
        self._look_around(inputs, before)
        for one in self._things.values():
            self._bring(one)
        self._bring_shared()
        self._verdicts()
        self.known = self._partitions()
        if self.thing.step == SOURCES:
            self._land(before[0] if before else None, reasons)

    def _input(self, thing_id: str) -> Thing:
        try:
            return self._store.get(thing_id)
        except MlassetsError as error:
            raise NotReproducible(
                f"{self.thing} was made from {thing_id}, which is not there: {error}"
            ) from error

    def _look_around(self, inputs: Iterable[Thing], before: Iterable[Thing]) -> None:
        """Find what the step may have looked up: what its inputs were made from, and the newest of each then."""
        partition = self.thing.partition
        if project := partition.get("project"):
            for step in (AGGREGATE, REVIEW, PUBLISH):
                before = [*before, *self._of_then(step, project, _OLDER)]
        near = self._follow([*inputs, *before], _NEAR)
        newest = [
            one
            for step, key in dict.fromkeys((one.step, one.partition.key) for one in near)
            for one in self._of_then(step, key, 1)
        ]
        found = {one.id: one for one in self._follow([*near, *newest], _GENERATIONS)}
        self._things = {name: one for name, one in found.items() if not self._too_new(one)}

    def _of_then(self, step: str, partition: str, count: int) -> list[Thing]:
        """Return the newest versions of a step and partition when the Thing was made, newest first."""
        query = {"step": step, "partition": partition, "id": {"$lt": self.thing.id}}
        return self._store.find(query, sort="-id", limit=count, retired=True).things()

    def _follow(self, things: Iterable[Thing], generations: int) -> list[Thing]:
        found = {one.id: one for one in things}
        front = list(found.values())
        for _ in range(generations):
            ids = dict.fromkeys(other for one in front for other in one.based_on if other not in found)
            texts = self._store.catalog.manifests_of(list(ids))
            front = [Thing.from_json(text, self._store.lake) for text in texts.values()]
            found |= {one.id: one for one in front}
        return list(found.values())

    def _too_new(self, one: Thing) -> bool:
        """Say whether a version came after the one that the step has read, while it ran."""
        if one.id >= self.thing.id:
            return True
        if one.step != _ABOVE.get(self.thing.step):
            return False
        read = [other for other in map(self._input, self.thing.based_on) if other.step == one.step]
        same = [other.id for other in read if other.partition == one.partition]
        return bool(same) and one.id > max(same)

    def _bring(self, thing: Thing) -> None:
        """Write a Thing's manifest, its mark of retirement if it was retired then, and what was claimed of it."""
        manifest = json.loads(json.dumps(thing.manifest))
        for component in manifest["components"]:
            component.pop("lake", None)  # its bytes are here
        self._write(f"{thing.folder}/{MANIFEST}", json.dumps(manifest).encode())
        if thing.step not in (AGGREGATE, REVIEW) and thing.retired_at is None:
            return
        for entry in self._store.lake.files(thing.folder):
            name = entry.path.removeprefix(f"{thing.folder}/")
            if "/" in name or not name.endswith(".json") or name in (MANIFEST, "removed.json"):
                continue
            data = self._store.lake.read_bytes(entry.path)
            if name == RETIRED:
                then = datetime.fromisoformat(json.loads(data)["retired_at"]) < self.thing.created_at
            else:
                then = entry.modified < self.thing.created_at
            if then:
                self._write(entry.path, data)

    def _bring_shared(self) -> None:
        """Bring the texts that these Things share: packages, specs, patches."""
        for path in sorted({path for one in self._things.values() for path in shared_paths(one.manifest)}):
            with suppress(NotInLake):
                self._write(path, self._store.lake.read_bytes(path))

    def _bring_files(self, thing: Thing, wanted: Callable[[str], bool] = lambda name: True) -> None:
        """Bring a Thing's files, linked where they lie on the same disk, and check each by its hash."""
        if thing.retired_at is not None and thing.removed is not None:
            raise NotReproducible(f"{self.thing} was made from {thing}, whose data was removed")
        for component in thing.components:
            target = self._lake / component.path
            if target.exists() or not wanted(component.name):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            lake = thing.lake_of(component)
            try:
                if lake.local:
                    os.link(lake.full(component.path), target)
                    content = blake3().update_mmap(target).hexdigest()
                else:
                    content = lake.fetch(component.path, target)
            except FileNotFoundError:
                content = ""
            except OSError:
                content = lake.fetch(component.path, target)
            if content != component.hash:
                raise DamagedThing(
                    f"{self.thing} was made from {thing}, whose file {component.path} is not what was committed; "
                    "`mlassets catalog verify` names all that is damaged. Restore it from a backup"
                )

    def _verdicts(self) -> None:
        """Bring what was known of these Things then."""
        rows = self._store.catalog.verdicts(sorted(self._things))
        runs = {
            (row["thing_id"], row["check_run"])
            for row in rows
            if datetime.fromisoformat(row["created_at"]) < self.thing.created_at
        }
        for thing_id, run in sorted(runs):
            path = verdicts_path(thing_id, run)
            self._write(path, self._store.lake.read_bytes(path))

    def _write(self, path: str, data: bytes) -> None:
        target = self._lake / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    def _projects(self, reasons: list[str]) -> None:
        """Write the recorded spec; that of today where none was stored and today's is known to mean the same."""
        folder = self.home / "projects"
        folder.mkdir(parents=True)
        if self.thing.step == SOURCES:
            spec = _spec_of_source(self.thing)
        else:
            spec = self.thing.spec() or self._spec_of_today(reasons)
            names = self.thing.parameters.get("coverage", {}).get("expected")
            if self.thing.step == AGGREGATE and names:
                # They were found in the source, whose rows are not needed for anything else.
                spec = {**spec, "segments": names}
        (folder / "recorded.yaml").write_text(json.dumps(spec, ensure_ascii=False), encoding="utf-8")

    def _spec_of_today(self, reasons: list[str]) -> dict[str, Any]:
        from mlassets.projects import load_projects, named_project

        spec: ProjectSpec = named_project(
            load_projects(self._settings.projects), self.thing.partition["project"]
        )
        if step_hash(spec, self.thing.step) != self.thing.spec_hash:
            raise NotReproducible(
                f"the spec of {self.thing} was not stored, and today's differs in what concerns {self.thing.step}; "
                "put the spec of then into the projects folder"
            )
        reasons.append("the spec was not stored; today's says the same of what concerns this step")
        whole: dict[str, Any] = json.loads(spec.text())
        return whole

    def _partitions(self) -> dict[str, list[str]]:
        found: dict[str, dict[str, None]] = {"project": {}, "segment": {}, "source": {}}
        for one in (self.thing, *self._things.values()):
            for dimension, value in one.partition.dimensions:
                found.setdefault(dimension, {})[one.partition.encode(value)] = None
        return {name: list(values) for name, values in found.items()}

    def _land(self, before: Thing | None, reasons: list[str]) -> None:
        """Copy the landed files that this version took, with the times that they had."""
        parameters = self.thing.parameters
        held = {one["hash"] for one in before.parameters["files"]} if before else set()
        # A file is named once for each of its tables; where others are read otherwise now, all of them are new.
        again = before is not None and before.parameters.get("options") != parameters.get("options")
        files = {one["name"]: one for one in parameters["files"] if again or one["hash"] not in held}
        new = list(files.values())
        pattern, place = str(parameters["pattern"]), parameters.get("place")
        globs = [f"{place.rstrip('/')}/{pattern}"] if place else [f"landing/{pattern}", pattern]
        zones = [zone_of(glob, self._settings) for glob in globs]
        gone = []
        for one in [*new, *parameters["quarantined"]]:
            target = self.home / "landing" / one["name"]
            target.parent.mkdir(parents=True, exist_ok=True)
            for zone in zones:
                try:
                    content = zone.place.fetch(one["name"], target)
                except LakeError:
                    continue
                if content == one["hash"]:
                    os.utime(target, ns=(one["mtime_ns"], one["mtime_ns"]))
                    break
            else:
                target.unlink(missing_ok=True)
                if one in new:
                    gone.append(one["name"])
                else:
                    reasons.append(f"the file {one['name']}, which was refused, is gone or has changed since")
        if gone:
            raise NotReproducible(
                f"{self.thing} was made from landed files that are gone or have changed since: {', '.join(gone)}. "
                "Put the same bytes back into the landing zone to make it again"
            )

    def made(self) -> Thing:
        """Return what the step has made.

        Raises:
            NotReproducible: If it has made nothing.
        """
        lake = open_lake(str(self._lake))
        folder = self.thing.folder.rpartition("/")[0]
        for path in sorted(self._lake.glob(f"{folder}/*/{MANIFEST}"), reverse=True):
            if path.parent.name not in self._things:
                return Thing.from_json(path.read_bytes(), lake)
        raise NotReproducible(
            f"{self.thing.step} of {self.thing.partition.key} ran and made nothing, though it made {self.thing.id}"
        )


def _spec_of_source(thing: Thing) -> dict[str, Any]:
    """Return a spec that does nothing but name the source and where its files land."""
    name = thing.partition["source"]
    options = thing.parameters.get("options", {})
    return {
        "project": "reproduced",
        "sources": {name: {"files": f"landing/{thing.parameters['pattern']}", **options}},
        "draw": {"sql": f'SELECT * FROM "{name}"'},  # noqa: S608 - it is never run
        "target": {"column": "none", "task": "regression"},
    }


def in_own_process(python: Path, code: Code, asked: Path) -> str:
    """Run a step in a process of its own, which inherits no setting of ours and reaches nothing but the scratch home.

    Args:
        python: The interpreter, with the packages that the step is to be run with.
        code: The code to run.
        asked: What to run, for `remaking.main`.

    Returns:
        How the process ended.
    """
    script = asked.with_name("remake.py")
    shutil.copyfile(Path(remaking.__file__), script)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_FROM_OUTSIDE)}
    environment |= {"PYTHONPATH": str(code.folder), "PYTHONDONTWRITEBYTECODE": "1", "DO_NOT_TRACK": "1"}
    done = subprocess.run(  # noqa: S603 - our own script
        [str(python), str(script), str(asked)],
        cwd=asked.parent,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return f"it ended with {done.returncode}: {done.stderr.strip()[-_TEXT:]}"


def _run(scratch: _Scratch, code: Code, python: Path, folder: Path, run: Run) -> None:
    """Run the step.

    Raises:
        NotReproducible: If the step raises, or its code has no such step.
    """
    thing, asked = scratch.thing, folder / "run/asked.json"
    asked.parent.mkdir()
    wanted = {"step": thing.step, "partition": thing.partition.key, "known": scratch.known}
    asked.write_text(json.dumps({"home": str(scratch.home), **wanted}), encoding="utf-8")
    ended = run(python, code, asked)
    try:
        told: Mapping[str, str] = json.loads(asked.with_name("done.json").read_text("utf-8"))
    except (OSError, ValueError):
        told = {"error": ended}
    if told["error"]:
        raise NotReproducible(
            f"{thing.step} of {thing.partition.key} cannot be run again with {code.told}: {told['error'][:_TEXT]}"
        )


def _circumstances(thing: Thing, again: Thing) -> list[str]:
    """Say in what the process that made a Thing and the one that made it again are known to differ."""
    reasons = []
    try:
        then, now = thing.environment(), again.environment()
    except (MlassetsError, KeyError) as error:
        reasons.append(f"the packages that it was made with are not known: {error}")
    else:
        for one in changes(then["packages"], now["packages"], deep=False):
            if one.name == "mlassets":
                continue  # its code is told of by itself
            before, after = (value or "not installed" for value in (one.before, one.after))
            reasons.append(f"package {one.name}: {before} then, {after} now")
        reasons += [
            f"{name}: {then.get(name)} then, {now.get(name)} now"
            for name in ("python", "implementation", "platform")
            if then.get(name) != now.get(name)
        ]
    for name in ("machine", "cpus"):
        old, new = thing.provenance.get(name), again.provenance.get(name)
        if old != new:
            reasons.append(f"{name}: {old} then, {new} now")
    for made, when in ((thing, "then"), (again, "now")):
        if made.parameters.get("stopped_by") == "seconds":
            reasons.append(
                f"the search was stopped by the clock {when}: how far it comes depends on the machine"
            )
    if thing.code_version != again.code_version:
        reasons.append(f"code version of {thing.step}: {thing.code_version} then, {again.code_version} now")
    return reasons
