"""The code and the packages that a Thing was made with, laid out again for a process of its own."""

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mlassets
from resources.errors import MlassetsError
from resources.provenance import CUT, code_state
from resources.things import Thing

_PACKAGES = ("mlassets", "resources")
_SECONDS_OF_GIT = 60
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_WORDS_OF_PIP = 1500


class NoEnvironment(MlassetsError):
    """The recorded packages cannot be installed: pip found no version 1.0 of `ours`. Give pip an index that has it."""


@dataclass(frozen=True)
class Code:
    """The code that a step is run with.

    Attributes:
        folder: Holds the packages `mlassets` and `resources`.
        told: In a sentence: which code it is.
        faithful: Whether it is known to be the recorded code.
    """

    folder: Path
    told: str
    faithful: bool


def lay_out_code(thing: Thing, folder: Path, checkout: Path | None = None) -> Code:
    """Lay out the code that a Thing was made with: its commit and what differed from it, if this checkout has it.

    Git is only read from: nothing is checked out. Where the recorded code is not to be had, the code that runs here
    stands in.

    Args:
        thing: The Thing.
        folder: A new folder for the code.
        checkout: A folder in a git checkout that holds the packages; by default where they run from.
    """
    recorded = thing.provenance.get("code")
    if not recorded:
        return _stand_in(folder, *_without_commit(thing))
    commit, dirty = str(recorded["commit"]), recorded.get("dirty")
    here = code_state() if checkout is None else None
    if here is not None and (here.commit, here.dirty) == (commit, dirty):
        return Code(
            _copy(folder), f"the code of commit {commit[:12]}{_with_changes(dirty)}, which runs here", True
        )
    try:
        place = _extract(commit, folder, checkout or Path(mlassets.__file__ or "").resolve().parent.parent)
    except (OSError, subprocess.SubprocessError, tarfile.TarError, ValueError):
        what = f"commit {commit[:12]}{_with_changes(dirty)}, which this checkout does not have"
        return _stand_in(folder, f"it was made with {what}", False)
    told = f"the code of commit {commit[:12]}"
    if not dirty:
        return Code(place, told, True)
    problem = _apply(thing.patch("code"), folder, place)
    if problem:
        return Code(place, f"{told}, without the uncommitted changes that it was made with: {problem}", False)
    hidden = b" secrets, which are hidden." in (thing.patch("code") or b"").split(b"\n", 1)[0]
    but = ", but for secrets that are hidden in them" if hidden else ""
    return Code(place, f"{told}, with the uncommitted changes that it was made with{but}", not hidden)


def _with_changes(dirty: Any) -> str:
    return " with uncommitted changes" if dirty else ""


def _without_commit(thing: Thing) -> tuple[str, bool]:
    try:
        then = thing.packages().get("mlassets")
    except MlassetsError:
        then = None
    from resources.provenance import packages

    now = packages().get("mlassets")
    if then is not None and then == now and code_state() is None:
        return f"mlassets {now}, as it is installed here and was installed then", True
    return f"it was made with mlassets {then or 'of an unknown version'}, and no commit was recorded", False


def _stand_in(folder: Path, told: str, faithful: bool) -> Code:
    place = _copy(folder)
    return Code(place, told if faithful else f"the code that runs here stands in: {told}", faithful)


def _copy(folder: Path) -> Path:
    """Copy the packages that run here, so that what they are does not change while the step runs."""
    for name in _PACKAGES:
        found = find_spec(name)
        assert found is not None, "this very module is in one of them"
        assert found.origin is not None, "they are packages with an __init__.py"
        shutil.copytree(
            Path(found.origin).parent, folder / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    return folder


def _git(where: Path, *arguments: str, text: bytes | None = None) -> bytes:
    return subprocess.run(  # noqa: S603 - a commit is looked at before it gets here
        ["git", "--no-optional-locks", *arguments],  # noqa: S607
        cwd=where,
        input=text if text is not None else b"",
        capture_output=True,
        timeout=_SECONDS_OF_GIT,
        check=True,
        env={**os.environ, "GIT_CEILING_DIRECTORIES": str(where.parent)} if text is not None else None,
    ).stdout


def _extract(commit: str, folder: Path, checkout: Path) -> Path:
    """Write the packages as a commit has them, and return the folder that they are in.

    Raises:
        ValueError: If this is no commit, or it does not have the packages.
    """
    if not _COMMIT.fullmatch(commit):
        raise ValueError(f"{commit!r} is no commit")
    prefix = _git(checkout, "rev-parse", "--show-prefix").decode().strip("\n")
    archive = _git(checkout, "archive", "--format=tar", commit, *_PACKAGES)
    folder.mkdir(parents=True)
    # `git archive` names files from the folder it is asked in; a patch names them from the top.
    place = folder / prefix
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(place, filter="data")
    return place


def _apply(patch: bytes | None, top: Path, place: Path) -> str:
    """Apply what differed from the commit to the packages, and return what went wrong, if anything did."""
    if patch is None:
        return "they were not stored"
    if any(line.startswith(CUT.encode()) for line in patch.split(b"\n", 2)[:2]):
        return "there were too many to be stored"
    prefix = place.relative_to(top).as_posix()
    below = "" if prefix == "." else f"{prefix}/"
    only = [f"--include={below}{name}/*" for name in _PACKAGES]
    try:
        _git(top, "apply", "--whitespace=nowarn", *only, "-", text=patch)
    except subprocess.CalledProcessError as error:
        return f"git cannot apply them ({error.stderr.decode(errors='replace').strip()[:200]})"
    except (OSError, subprocess.SubprocessError) as error:
        return f"git cannot apply them ({error})"
    return ""


def requirements(packages: Mapping[str, str]) -> list[str]:
    """Return what pip is asked for: every recorded package in its recorded version, but for ours.

    >>> requirements({"mlassets": "0.1.0", "numpy": "2.4.0", "odd name": "1"})
    ['numpy==2.4.0']
    """
    named = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
    version = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]*")
    return [
        f"{name}=={number}"
        for name, number in sorted(packages.items())
        if name not in _PACKAGES and named.fullmatch(name) and version.fullmatch(number)
    ]


def make_environment(
    recorded: Mapping[str, Any], folder: Path, options: Sequence[str] = ()
) -> tuple[Path, list[str]]:
    """Make a virtual environment with the recorded packages, each in its recorded version.

    pip is used as it is set up here (its index, its proxies).

    Args:
        recorded: What `Thing.environment` says.
        folder: A new folder for the environment.
        options: More options for pip.

    Returns:
        Its python, and what of it is not as recorded.

    Raises:
        NoEnvironment: If pip cannot install them.
    """
    notes = []
    python, note = _python(str(recorded.get("python", "")))
    if note:
        notes.append(note)
    own = folder / "bin/python"
    # An installer of ours fills it, if there is one: that takes a second, and one of its own several.
    pip = [sys.executable, "-m", "pip", "--python", str(own)] if find_spec("pip") else [str(own), "-m", "pip"]
    made = _ran([python, "-m", "venv", *(["--without-pip"] if find_spec("pip") else []), str(folder)])
    if made:
        raise NoEnvironment(f"a virtual environment cannot be made with {python}: {made}")
    wanted = folder / "recorded.txt"
    wanted.write_text("\n".join(requirements(recorded["packages"])) + "\n", encoding="utf-8")
    # All versions are known, so that there is nothing to resolve, and what contradicts itself is installed as it was.
    failed = _ran(
        [
            *(*pip, "install", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--requirement", str(wanted), *options),
        ]
    )
    if failed:
        raise NoEnvironment(
            f"the recorded packages cannot be installed: {failed}. Give pip an index that has them (`pip config`), or "
            "reproduce without `--environment`"
        )
    return own, notes


def _python(wanted: str) -> tuple[str, str]:
    """Return the python to make an environment with, and a note if it is not the recorded one."""
    here = ".".join(map(str, sys.version_info[:3]))
    if wanted == here:
        return sys.executable, ""
    minor = ".".join(wanted.split(".")[:2])
    found = shutil.which(f"python{minor}") if re.fullmatch(r"3\.\d{1,2}", minor) else None
    python = found or sys.executable
    asked = subprocess.run([python, "-V"], capture_output=True, text=True, check=False)  # noqa: S603
    version = asked.stdout.removeprefix("Python ").strip()
    return python, "" if version == wanted else f"python {version} stands in for {wanted or 'an unknown one'}"


def _ran(command: Sequence[str]) -> str:
    """Run a command, and return what it said if it failed."""
    done = subprocess.run(  # noqa: S603 - names and versions have been looked at
        list(command), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return ""
    return (
        " ".join((done.stderr or done.stdout).split())[:_WORDS_OF_PIP] or f"it ended with {done.returncode}"
    )
