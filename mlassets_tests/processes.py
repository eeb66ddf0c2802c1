"""Ports, deadlines and whole families of processes, for tests that start servers."""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

_Found = TypeVar("_Found")


def free_port(also: int = 0) -> int:
    """Return a port of 127.0.0.1 that nobody listens on, the `also` ports after it included."""
    while True:
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
        if all(_free(port + step) for step in range(also + 1)):
            return port


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
    return True


def wait_until(look: Callable[[], _Found], what: str, seconds: float, every: float = 0.25) -> _Found:
    """Look again and again until there is something to see, and return it."""
    until = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < until, f"after {seconds:.0f} s still not: {what}"
        time.sleep(every)
    return found


def processes_of_session(session: int) -> list[int]:
    """Return the processes of a session that are alive; what has ended and was not yet collected is not."""
    alive = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # pid (name) state parent group session …; the name may hold anything.
            state, _, _, its_session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(its_session) == session and state not in "ZX":
            alive.append(int(folder.name))
    return sorted(alive)
