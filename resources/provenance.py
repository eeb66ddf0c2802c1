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
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from importlib.metadata import distributions
from typing import Any

_HIDING = (
    r"(?:pass(?:word|wd|phrase)?|pwd|secret|token|api[-_]?key|access[-_]?key|key"
    r"|auth(?:orization)?|credentials?|bearer)"
)
_SECRET_OPTION = re.compile(rf"^-{{1,2}}(?:[\w-]*[-_])?{_HIDING}$", re.IGNORECASE)
_SECRET_ASSIGNMENT = re.compile(
    rf"((?:^|[^A-Za-z0-9])(?:[\w-]*[-_])?{_HIDING}\s*[=:]\s*)[^\s&;,]+", re.IGNORECASE
)
_URL_USER = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/\s@]*@", re.IGNORECASE)
_TOKEN_SHAPES = re.compile(
    r"\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{20,}|xox[a-z]-[\w-]{10,}|sk-[\w-]{20,}"
    r"|A[KS]IA[A-Z0-9]{16}|hf_\w{20,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"
)
_HIDDEN = "***"


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
    return hashlib.sha256(text).hexdigest()[:32], text


@cache
def git_state(folder: str) -> dict[str, Any] | None:
    """Return the commit checked out at `folder` and a hash of what differs from it; None outside of git."""

    def git(*arguments: str) -> bytes:
        return subprocess.run(  # noqa: S603 - the arguments are those below
            ["git", "--no-optional-locks", *arguments],  # noqa: S607
            cwd=folder,
            capture_output=True,
            timeout=5,
            check=True,
            stdin=subprocess.DEVNULL,
        ).stdout

    try:
        commit = git("rev-parse", "HEAD").decode().strip()
        changes = git("diff", "HEAD", "--no-ext-diff", "--no-color")
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "dirty": hashlib.sha256(changes).hexdigest()[:32] if changes else None}


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
        "git": git_state(os.getcwd()),  # noqa: PTH109
        "environment": environment()[0],
        "started_at": started_at.isoformat() if started_at else None,
        "ended_at": ended_at.isoformat(),
        "peak_memory_bytes": peak if sys.platform == "darwin" else peak * 1024,
    }
