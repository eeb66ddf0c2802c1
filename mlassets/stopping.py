"""Ending a command at SIGINT and SIGTERM: what is under way is given up cleanly, and nothing new is begun."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_ENDING = (signal.SIGINT, signal.SIGTERM)


class Stopped(BaseException):
    """A signal asked this process to end.

    Attributes:
        number: The signal.
    """

    def __init__(self, number: signal.Signals) -> None:
        """Say which signal it was."""
        super().__init__(number.name)
        self.number = number

    @property
    def exit_code(self) -> int:
        """What a shell expects of a command that a signal ended."""
        return 128 + self.number


class _Signals:
    """Notes every signal, whoever handles it: during a run, Dagster does, which ends that run and says nothing."""

    def __init__(self) -> None:
        self._pipe: int | None = None
        self._first: signal.Signals | None = None

    @contextmanager
    def noted(self) -> Iterator[None]:
        reading, writing = os.pipe()
        for end in (reading, writing):
            os.set_blocking(end, False)
        others = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        handlers = {number: signal.signal(number, signal.default_int_handler) for number in _ENDING}
        self._pipe, self._first = reading, None
        try:
            yield
        finally:
            signal.set_wakeup_fd(others)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            self._pipe = None
            os.close(reading)
            os.close(writing)

    def first(self) -> signal.Signals | None:
        if self._first is None and self._pipe is not None:
            try:
                numbers = os.read(self._pipe, 256)
            except BlockingIOError:
                numbers = b""
            self._first = next((signal.Signals(one) for one in numbers if one in _ENDING), None)
        return self._first


_signals = _Signals()


def stop_if_asked() -> None:
    """Raise `Stopped` if a signal has come since `stopping_at_signals` began, though another may have handled it.

    Raises:
        Stopped: If so.
    """
    if number := _signals.first():
        raise Stopped(number)


@contextmanager
def stopping_at_signals() -> Iterator[None]:
    """Turn SIGINT and SIGTERM, at whatever moment they come, into `Stopped`; in the main thread only.

    Raises:
        Stopped: If one came, and what it interrupted was cleaned up.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with _signals.noted():
        try:
            yield
        except (Exception, Stopped):
            # How a command ends by itself is its own affair, also if a signal made it end.
            raise
        except BaseException:
            stop_if_asked()
            raise
