"""What is told to people: one alert, and several as one message."""

import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from blake3 import blake3

TITLE_LENGTH, TEXT_LENGTH = 200, 2_500
TITLES_LISTED = 40
_STEERING = ("Cc", "Cf", "Cs", "Zl", "Zp")

Kind = Literal["failed_run", "blocked", "waiting_review", "stale_source", "test"]


@dataclass(frozen=True)
class Alert:
    """One thing that needs a person.

    Attributes:
        key: Equal for the same thing, and another one when it comes back: by it nothing is told twice.
        kind: What kind of thing it is.
        project: The project that it concerns; empty if none does.
        title: What happened, where: one line.
        text: Since when, why, and what to do.
        link: Where to look; empty if no page is known.
        at: Since when it is so (UTC).
    """

    key: str
    kind: Kind
    project: str
    title: str
    text: str
    link: str
    at: datetime

    @property
    def mark(self) -> str:
        """Project and key, short: what is remembered of an alert that was sent."""
        return prefix_of(self.project) + _short(self.key, 16)

    def as_dict(self) -> dict[str, Any]:
        """Return the alert as plain JSON-serialisable values."""
        return {**asdict(self), "at": self.at.astimezone(UTC).isoformat(timespec="seconds")}


@dataclass(frozen=True)
class Message:
    """What is sent at once: one alert, or many of them in short.

    Attributes:
        id: Equal for the same alerts.
        title: One line.
        text: Any number of lines.
        link: Where to look; empty for several alerts.
        alerts: The alerts.
    """

    id: str
    title: str
    text: str
    link: str
    alerts: tuple[Alert, ...]


def alert(
    key: str, kind: Kind, project: str, title: str, text: str, link: str = "", at: datetime | None = None
) -> Alert:
    """Make an alert of whatever texts came up: titles on one line, nothing too long, no control characters."""
    at = at or datetime.now(UTC)
    return Alert(
        key, kind, project, one_line(title, TITLE_LENGTH), _clean(text, TEXT_LENGTH), link.strip(), at
    )


def message_of(alerts: Sequence[Alert]) -> Message:
    """Put alerts into one message; a single one is its own."""
    if len(alerts) == 1:
        (only,) = alerts
        return Message(only.mark, only.title, only.text, only.link, (only,))
    listed = [f"- {one.title}" for one in alerts[:TITLES_LISTED]]
    if len(alerts) > TITLES_LISTED:
        listed.append(f"- and {len(alerts) - TITLES_LISTED:,} more")
    listed.append("`mlassets alerts` lists all that is open, with what to do.")
    projects = sorted({one.project for one in alerts if one.project})
    where = ", ".join(projects[:3]) + (f" and {len(projects) - 3} more" if len(projects) > 3 else "")
    title = f"{len(alerts):,} alerts" + (f" of {where}" if where else "")
    mark = _short("".join(sorted(one.mark for one in alerts)), 22)
    return Message(mark, title, "\n".join(listed), "", tuple(alerts))


def prefix_of(project: str) -> str:
    """Return how the marks of a project's alerts begin."""
    return _short(project, 6)


def since(at: datetime, now: datetime) -> str:
    """Say when something began, and how long that is ago."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC ({length(now - at)} ago)"


def length(span: timedelta) -> str:
    """Say a span of time in its largest unit: `3 days`, `2 hours`, `5 minutes`."""
    seconds = max(0, int(span.total_seconds()))
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= 2 * size or (unit != "day" and seconds >= size):
            count = seconds // size
            return f"{count:,} {unit}{'s' if count > 1 else ''}"
    return f"{seconds} seconds" if seconds != 1 else "1 second"


def one_line(text: str, limit: int) -> str:
    """Return a text as one line without control characters, cut at a limit."""
    return _cut(" ".join(_clean(text, 4 * limit).split()), limit)


def _clean(text: str, limit: int) -> str:
    """Drop what could steer a header, a terminal or the direction of reading; keep line breaks."""
    kept = (
        character
        if character == "\n" or (category := unicodedata.category(character)) not in _STEERING
        else " " * (category == "Cc")
        for character in text[: 4 * limit].replace("\r\n", "\n")
    )
    return _cut("".join(kept).strip(), limit)


def _short(text: str, digits: int) -> str:
    return str(blake3(text.encode("utf-8", "replace")).hexdigest()[:digits])


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
