"""Sending what is open and was not sent: to every channel by itself, at least once, and never for long.

What was sent is all that is remembered, as one text that does not grow without end: marks of what is still open, by
channel. An alert that is no longer open is forgotten, so that it is told again should it come back.
"""

import json
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from mlassets.alerting.alerts import Alert, length, prefix_of
from mlassets.alerting.channels import Channel, NotSent

ONE_BY_ONE = 5
"""More alerts than this at once go out as one message."""
SECONDS_PER_LOOK = 25.0
"""All channels are written to at the same time; what has not answered by then is tried again later."""
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=30), timedelta(minutes=15)


@dataclass
class _Told:
    """What one channel was told.

    Attributes:
        marks: Marks of the alerts that it took and that are still open.
        failures: How often in a row it took none.
        tried_at: When it last failed (UTC).
    """

    marks: set[str] = field(default_factory=set)
    failures: int = 0
    tried_at: datetime | None = None

    def is_due(self, now: datetime) -> bool:
        """Say whether it is tried again: each time after twice as long, or at once where the clock was set back."""
        if not self.failures or self.tried_at is None:
            return True
        wait = min(FIRST_WAIT * 2 ** min(self.failures - 1, 10), LONGEST_WAIT)
        return not timedelta(0) <= now - self.tried_at < wait


@dataclass(frozen=True)
class Delivered:
    """What came of one look.

    Attributes:
        memory: What to remember until the next look.
        sent: How many alerts each channel took.
        troubles: What kept channels from taking theirs.
        waiting: How many alerts are still to be taken, counted for each channel.
    """

    memory: str
    sent: Mapping[str, int]
    troubles: tuple[str, ...]
    waiting: int

    @property
    def text(self) -> str:
        """Say it in one line."""
        parts = [f"{count} to {name}" for name, count in self.sent.items() if count]
        if self.waiting:
            parts.append(f"{self.waiting} still to be sent")
        return "; ".join([*parts, *self.troubles]) or "nothing new"


def deliver(
    alerts: Sequence[Alert],
    channels: Sequence[Channel],
    memory: str | None,
    now: datetime | None = None,
    *,
    seen: Collection[str] | None = None,
    seconds: float = SECONDS_PER_LOOK,
) -> Delivered:
    """Send every channel what is open and what it was not told yet.

    Args:
        alerts: All that is open.
        channels: Where it goes.
        memory: What the last look returned; None, or what cannot be read, means that nothing was told.
        now: The time.
        seen: The projects that were looked at; None means all. What was told of another one may be open still, and
            is not forgotten.
        seconds: After which a channel that takes its time is left alone until the next look.
    """
    now = now or datetime.now(UTC)
    told = _read(memory)
    still = {one.mark for one in alerts}
    known = None if seen is None else {prefix_of(project) for project in ("", *seen)}
    jobs: list[_Job] = []
    for channel in channels:
        mine = told.setdefault(channel.id, _Told())
        mine.marks = {mark for mark in mine.marks if mark in still or (known and mark[:6] not in known)}
        new = [one for one in alerts if one.mark not in mine.marks]
        if new and mine.is_due(now):
            jobs.append(_Job(channel, new))
    _run(jobs, seconds)
    troubles = []
    for job in jobs:
        mine = told[job.channel.id]
        taken, trouble = job.outcome(seconds)
        mine.marks |= {one.mark for one in taken}
        mine.failures, mine.tried_at = (mine.failures + 1, now) if trouble else (0, None)
        if trouble:
            again = min(FIRST_WAIT * 2 ** min(mine.failures - 1, 10), LONGEST_WAIT)
            troubles.append(f"{trouble} (tried again in {length(again)})")
    used = {channel.id: told[channel.id] for channel in channels}
    return Delivered(
        _written(used),
        {job.channel.name: len(job.taken) for job in jobs},
        tuple(troubles),
        sum(one.mark not in used[channel.id].marks for channel in channels for one in alerts),
    )


def was_told(alert: Alert, channels: Sequence[Channel], memory: str | None) -> bool:
    """Say whether every channel was told of an alert."""
    told = _read(memory)
    return all(channel.id in told and alert.mark in told[channel.id].marks for channel in channels)


class _Job:
    """What is sent to one channel, in a thread of its own."""

    def __init__(self, channel: Channel, new: Sequence[Alert]) -> None:
        self.channel = channel
        self.taken: list[Alert] = []
        self._new = new
        self._trouble = ""
        self._done = threading.Event()

    def run(self) -> None:
        try:
            groups = [[one] for one in self._new] if len(self._new) <= ONE_BY_ONE else [list(self._new)]
            for group in groups:
                self.channel.send(group)
                self.taken += group
        except NotSent as error:
            self._trouble = str(error)
        except Exception as error:  # noqa: BLE001 - whatever a server does, others are told, and it is tried again
            # Without its text, which may hold anything.
            self._trouble = f"{self.channel.name}: {type(error).__name__}"
        finally:
            self._done.set()

    def wait(self, seconds: float) -> None:
        self._done.wait(seconds)

    def outcome(self, seconds: float) -> tuple[list[Alert], str]:
        if not self._done.is_set():
            return list(self.taken), f"{self.channel.name}: took more than {seconds:g} s"
        return self.taken, self._trouble


def _run(jobs: Sequence[_Job], seconds: float) -> None:
    until = time.monotonic() + seconds
    for job in jobs:
        # A thread that hangs must not keep the process from ending.
        threading.Thread(target=job.run, name=f"alerts to {job.channel.name}", daemon=True).start()
    for job in jobs:
        job.wait(max(0.0, until - time.monotonic()))


def _read(memory: str | None) -> dict[str, _Told]:
    try:
        found: Any = json.loads(memory or "{}")
        return {
            str(name): _Told(
                set(one["told"]),
                int(one["failures"]),
                datetime.fromisoformat(one["tried_at"]) if one["tried_at"] else None,
            )
            for name, one in found["channels"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _written(told: Mapping[str, _Told]) -> str:
    return json.dumps(
        {
            "channels": {
                name: {
                    "told": sorted(one.marks),
                    "failures": one.failures,
                    "tried_at": one.tried_at.isoformat() if one.tried_at else None,
                }
                for name, one in told.items()
            }
        },
        separators=(",", ":"),
    )
