"""The one base class of every error that a user of mlassets may see, and how one names what was meant."""

from collections.abc import Iterable
from difflib import get_close_matches


class MlassetsError(Exception):
    """An error whose message names the culprit, what was wrong with it, and what to do."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ". Did you mean a or b?" with what of `known` comes near to `name`; empty if nothing does.

    >>> did_you_mean("tikcet", ["ticket", "owner"])
    '. Did you mean ticket?'
    """
    by_lower = {one.lower(): one for one in known}
    near = get_close_matches(name.lower(), list(by_lower), n=3)
    return f". Did you mean {' or '.join(by_lower[one] for one in near)}?" if near else ""
