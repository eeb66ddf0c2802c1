"""Time and memory limits for a step that runs in this process."""

import ctypes
import re
import threading
import time
from types import TracebackType
from typing import Literal, Self

import psutil

from resources.errors import MlassetsError

_LOOK_SECONDS = 0.05
_ASK_AGAIN_SECONDS = 0.5
_UNITS = {
    "": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "KI": 2**10,
    "MI": 2**20,
    "GI": 2**30,
    "TI": 2**40,
}


class StepLimitExceeded(MlassetsError):
    """A step took longer, or needed more memory, than it may."""


class BadLimit(MlassetsError):
    """A limit cannot be understood."""


def parse_memory(text: str | int) -> int:
    """Return an amount of memory in bytes.

    Raises:
        BadLimit: If it is no positive amount.

    >>> parse_memory("2GB"), parse_memory("512 MiB")
    (2000000000, 536870912)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]I?)?B?\s*", str(text).upper())
    size = int(float(found[1]) * _UNITS[found[2] or ""]) if found else 0
    if size <= 0:
        raise BadLimit(f"{text!r} is no amount of memory; write it as in 2GB or 512MiB")
    return size


class limited:  # noqa: N801 - used as a word: `with limited(seconds=60, memory="2GB"):`
    """Stop the block that it guards once it has taken too long, or its process has grown too much.

    A thread watches the clock and the process's resident memory and interrupts the thread that entered the block,
    whichever that is. The interrupt takes effect between two Python bytecodes: one long call into C ends first. It is
    no `Exception`, so that code in the block that carries on after errors does not swallow it; only at the end of
    the block does it become a `StepLimitExceeded`.
    """

    def __init__(self, *, seconds: float | None = None, memory: str | int | None = None, what: str) -> None:
        """Guard a block.

        Args:
            seconds: How long it may take; None for as long as it likes.
            memory: By how much this process's resident memory may grow, as in `2GB`; None for any amount.
            what: What runs in it, for the message (`late-flights|EWR model`).

        Raises:
            BadLimit: If a limit cannot be understood.
        """
        if seconds is not None and not seconds > 0:
            raise BadLimit(f"{seconds!r} is no time limit; give a positive number of seconds")
        self._seconds = seconds
        self._memory = None if memory is None else parse_memory(memory)
        self._what = what
        self._interrupt: type[BaseException] = type("_LimitReached", (BaseException,), {})
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._message = ""

    def __enter__(self) -> Self:
        """Start watching."""
        self._thread = threading.get_ident()
        self._process = psutil.Process()
        self._start = time.monotonic()
        self._start_memory = self._process.memory_info().rss
        threading.Thread(target=self._watch, name=f"limits of {self._what}", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        """Stop watching.

        Raises:
            StepLimitExceeded: If a limit was passed; it says which, by how much, and what to do.
        """
        while not self._ended.is_set():
            try:
                self._stop()
            except self._interrupt:
                continue
        if self._message and (kind is None or issubclass(kind, (Exception, self._interrupt))):
            cause = error if isinstance(error, Exception) else None
            raise StepLimitExceeded(self._message) from cause
        return False

    def _stop(self) -> None:
        with self._lock:
            # An interrupt that was asked for, but has not taken effect, must not strike whoever comes next.
            _ask(self._thread, None)
            self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            message = self._exceeded()
            if message:
                self._message = message
                break
        while not self._ended.is_set():
            with self._lock:
                if not self._ended.is_set():
                    _ask(self._thread, self._interrupt)
            self._ended.wait(_ASK_AGAIN_SECONDS)

    def _exceeded(self) -> str:
        taken = time.monotonic() - self._start
        if self._seconds is not None and taken > self._seconds:
            return (
                f"{self._what} was stopped after {taken:.1f} s: its limit is {self._seconds:g} s. "
                "Give it less to do, or raise `limits.seconds` in the project's spec"
            )
        grown = self._process.memory_info().rss - self._start_memory
        if self._memory is not None and grown > self._memory:
            return (
                f"{self._what} was stopped when it needed {grown / 1e6:,.0f} MB of memory: its limit is "
                f"{self._memory / 1e6:,.0f} MB. Give it less data, or raise `limits.memory` in the project's spec"
            )
        return ""


def _ask(thread: int, interrupt: type[BaseException] | None) -> None:
    """Have `interrupt` raised in a thread as soon as it can be; None takes back what was asked before."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), ctypes.py_object(interrupt) if interrupt else None
    )
