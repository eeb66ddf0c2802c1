"""Who, when, where, and with what code a Thing was made, captured without anyone having to say so."""

import getpass
import hashlib
import json
import os
import platform
import re
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

_HIDING = (
    r"(?:pass(?:word|wd|phrase)?|pwd|secret|token|api[-_]?key|access[-_]?key|key"
    r"|auth(?:orization)?|credentials?|bearer)"
)
_SECRET_OPTION = re.compile(rf"^-{{1,2}}(?:[\w-]*[-_])?{_HIDING}$", re.IGNORECASE)
_SECRET_ASSIGNMENT = re.compile(rf"((?:^|[^A-Za-z0-9]){_HIDING}\s*[=:]\s*)[^\s&;,]+", re.IGNORECASE)
_URL_USER = re.compile(r"(\b[a-z][a-z0-9+.-]{0,30}://)[^/\s@]*@", re.IGNORECASE)
_TOKEN_SHAPES = re.compile(
    r"\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{20,}|xox[a-z]-[\w-]{10,}|sk-[\w-]{20,}"
    r"|A[KS]IA[A-Z0-9]{16}|hf_\w{20,}|eyJ[\w-]{8,1000}\.[\w-]{8,}\.[\w-]*)"
)
_HIDDEN = "***"

# In program text a bare `key` or `auth` is mostly none, and what is not quoted is mostly an expression.
_HIDING_IN_TEXT = (
    r"(?:pass(?:word|wd|phrase)?|pwd|secret|token|credentials?|bearer|authorization"
    r"|(?:api|access|account|encryption|private|secret|signing|storage)[-_]?key)"
)
_QUOTED_SECRET = re.compile(
    rf"""((?:^|[^A-Za-z0-9]){_HIDING_IN_TEXT}["']?\]?\s*(?::[^=\n"']{{0,80}})?[=:]\s*[a-z]{{0,2}})"""
    r"""(["'])(?!\2)(?:\\.|(?!\2).)*(\2|$)""",
    re.IGNORECASE,
)
_PLAIN_SECRET = re.compile(
    rf"""((?:^|[^A-Za-z0-9]){_HIDING_IN_TEXT}["']?\s*[=:]\s*)(?!["'*$\s])[^\s,;&]+""",
    re.IGNORECASE,
)
_PRIVATE_KEY = re.compile(r"-----(BEGIN|END) [A-Z ]*PRIVATE KEY-----")
_PROGRAM_SUFFIXES = (".py", ".pyi", ".ipynb", ".js", ".ts", ".md")
_PATCH_BYTES = 1_000_000
_NEW_FILE_BYTES = 100_000
_NEW_FILES = 200
_NEW_FILE_SUFFIXES = (".py", ".sql", ".toml")  # data and pages may lie about by the thousand
_AS_APPLY_TAKES_IT = (
    "--no-ext-diff", "--no-textconv", "--no-color", "--no-relative", "--src-prefix=a/", "--dst-prefix=b/"
)  # fmt: skip
CUT = "# cut:"
"""A stored patch whose first lines hold this is not whole."""


def scrub(argv: Sequence[str]) -> list[str]:
    """Return command-line arguments with passwords, tokens and keys replaced by `***`.

    >>> scrub(["run", "--password", "tiger", "--db=postgresql://ann:tiger@host/db", "token=abc"])
    ['run', '--password', '***', '--db=postgresql://***@host/db', 'token=***']
    """
    scrubbed = []
    hide_next = False
    for argument in argv:
        if hide_next and not argument.startswith("-"):
            scrubbed.append(_HIDDEN)
            hide_next = False
            continue
        hide_next = bool(_SECRET_OPTION.match(argument))
        text = _URL_USER.sub(rf"\1{_HIDDEN}@", argument)
        text = _SECRET_ASSIGNMENT.sub(rf"\1{_HIDDEN}", text)
        scrubbed.append(_TOKEN_SHAPES.sub(_HIDDEN, text))
    return scrubbed


@cache
def packages() -> dict[str, str]:
    """Return the versions of all installed packages, by lower-case name; looked up once per process."""
    found = {}
    for distribution in distributions():
        name = distribution.metadata["Name"]
        if name:
            found[str(name).lower()] = distribution.version
    return dict(sorted(found.items()))


@cache
def environment() -> tuple[str, bytes]:
    """Return the process's software environment as a short hash and the JSON text that it is the hash of."""
    record = {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "packages": packages(),
    }
    text = json.dumps(record, indent=1, sort_keys=True).encode()
    return content_name(text), text


def scrub_patch(patch: str) -> tuple[str, int]:
    r"""Return a patch with what looks like a secret replaced by `***`, line by line, and how many lines that were.

    In programs only quoted values count, for `token = next(tokens)` gives nothing away.

    >>> scrub_patch("+++ b/app.py\n+PASSWORD = 'tiger'\n+token = next(tokens)")
    ("+++ b/app.py\n+PASSWORD = '***'\n+token = next(tokens)", 1)
    """
    lines = []
    hidden = 0
    plain_too = within_key = False
    for line in patch.split("\n"):
        if line.startswith(("+++ ", "--- ", "diff --git ")):
            plain_too = not line.endswith(_PROGRAM_SUFFIXES)
            lines.append(line)
            continue
        text = _QUOTED_SECRET.sub(rf"\1\2{_HIDDEN}\3", line)
        if plain_too:
            text = _PLAIN_SECRET.sub(rf"\1{_HIDDEN}", text)
        text = _TOKEN_SHAPES.sub(_HIDDEN, _URL_USER.sub(rf"\1{_HIDDEN}@", text))
        mark = _PRIVATE_KEY.search(text)
        if mark:
            within_key = mark[1] == "BEGIN"
        elif within_key and line[:1] in ("+", "-", " "):
            text = line[0] + _HIDDEN
        else:
            within_key = False
        hidden += text != line
        lines.append(text)
    return "\n".join(lines), hidden


def content_name(content: bytes) -> str:
    """Return the name under which a lake stores a text that many Things share: a hash of it."""
    return hashlib.sha256(content).hexdigest()[:32]


@dataclass(frozen=True)
class GitState:
    """What is checked out in a folder.

    Attributes:
        commit: The commit.
        dirty: Hash of what differs from it; None if nothing does.
        patch: What differs, as `git apply` takes it: scrubbed, and cut where it is very long.
    """

    commit: str
    dirty: str | None
    patch: bytes | None

    def as_record(self) -> dict[str, Any]:
        """Return what provenance says of it; the patch is stored once, under its name."""
        record = {"commit": self.commit, "dirty": self.dirty}
        return {**record, "diff": content_name(self.patch)} if self.patch else record


def _git(folder: str | Path, *arguments: str) -> bytes:
    return subprocess.run(  # noqa: S603 - the arguments are those of this module
        ["git", "--no-optional-locks", *arguments],  # noqa: S607
        cwd=folder,
        capture_output=True,
        timeout=5,
        check=True,
        stdin=subprocess.DEVNULL,
    ).stdout


@cache
def git_state(folder: str) -> GitState | None:
    """Return the commit checked out at `folder` and what differs from it, new source files too; None outside of git."""
    try:
        return _state_of(_git(folder, "rev-parse", "--show-toplevel").decode().rstrip("\n"))
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None


@cache
def _state_of(top: str) -> GitState:
    commit = _git(top, "rev-parse", "HEAD").decode().strip()
    changes = _git(top, "diff", "HEAD", *_AS_APPLY_TAKES_IT)
    others = b""
    with suppress(OSError, subprocess.SubprocessError):
        others = _git(top, "ls-files", "--others", "--exclude-standard", "-z")
    names = others.decode(errors="replace").split("\0")
    new = sorted(name for name in names if name.endswith(_NEW_FILE_SUFFIXES))
    changes += "".join(_patches_of_new(Path(top), new[:_NEW_FILES])).encode()
    if not changes:
        return GitState(commit, None, None)
    return GitState(commit, content_name(changes), _stored_patch(changes))


def forget_git() -> None:
    """Look at git again at the next commit of a Thing, as a new process does."""
    for one in (git_state, _state_of, code_state, _states):
        one.cache_clear()


def _patches_of_new(top: Path, names: Sequence[str]) -> Iterator[str]:
    """Yield, as patches, small source files that git does not know yet; git itself would write them to its objects."""
    for name in names:
        try:
            path = top / name
            if (
                path.is_symlink()
                or path.stat().st_size > _NEW_FILE_BYTES
                or not re.fullmatch(r"[\w./+@-]+", name)
            ):
                continue
            text = path.read_bytes().decode()
        except (OSError, UnicodeDecodeError):
            continue
        if "\0" in text:
            continue
        lines = text.split("\n")
        ended = lines[-1] == ""
        lines = lines[:-1] if ended else lines
        head = f"diff --git a/{name} b/{name}\nnew file mode 100644\n"
        if not lines:
            yield head
            continue
        body = "".join(f"+{line}\n" for line in lines) + ("" if ended else "\\ No newline at end of file\n")
        yield f"{head}--- /dev/null\n+++ b/{name}\n@@ -0,0 +1,{len(lines)} @@\n{body}"


def _stored_patch(changes: bytes) -> bytes:
    text, hidden = scrub_patch(changes[:_PATCH_BYTES].decode(errors="replace"))
    head = f"# {hidden} lines held what looked like secrets, which are hidden.\n" if hidden else ""
    if len(changes) > _PATCH_BYTES:
        head += f"{CUT} the first {_PATCH_BYTES:,} of {len(changes):,} bytes\n"
    return (head + text).encode()


@cache
def code_state() -> GitState | None:
    """Return the state of the checkout that this code runs from; None if it was installed as a package."""
    here = Path(__file__).resolve()
    try:
        # Whether git knows this very file: it may lie in a folder that git ignores.
        _git(here.parent, "ls-files", "--error-unmatch", here.name)
    except (OSError, subprocess.SubprocessError):
        return None
    return git_state(str(here.parent))


@cache
def _states(folder: str) -> tuple[dict[str, dict[str, Any] | None], dict[str, bytes]]:
    """Return what provenance says of a folder and of the code, and the patches by the names that it gives them."""
    found = {"git": git_state(folder), "code": code_state()}
    patches = {content_name(one.patch): one.patch for one in found.values() if one and one.patch}
    return {name: one.as_record() if one else None for name, one in found.items()}, patches


def patches() -> dict[str, bytes]:
    """Return what differs from the commits that `capture` names, by name."""
    return _states(os.getcwd())[1]  # noqa: PTH109


@cache
def user() -> str:
    """Return the name of the user that runs this process, or the number if there is no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


@cache
def _machine() -> dict[str, Any]:
    return {
        "user": user(),
        "host": socket.gethostname(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
    }


def capture(started_at: datetime | None, ended_at: datetime) -> dict[str, Any]:
    """Return the provenance of what this process has just made.

    No environment variable is ever looked at, and arguments that look like secrets are replaced by `***`.

    Args:
        started_at: When the work began, if the caller knows.
        ended_at: When the work ended.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        **_machine(),
        "pid": os.getpid(),
        "argv": scrub(sys.argv),
        **_states(os.getcwd())[0],  # noqa: PTH109
        "environment": environment()[0],
        "started_at": started_at.isoformat() if started_at else None,
        "ended_at": ended_at.isoformat(),
        "peak_memory_bytes": peak if sys.platform == "darwin" else peak * 1024,
    }
