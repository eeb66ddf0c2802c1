"""How others' packages are imported where their own way is slow."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

GRAMMAR_OF_IRIS = "rfc3987_syntax"
"""Optional to jsonschema, which imports it wherever it is installed; that compiles a grammar for about a second,
and none of our schemas asks for an IRI."""


@contextmanager
def without(module: str) -> Iterator[None]:
    """Let what is imported in this block find that an optional package is not installed.

    Args:
        module: Name of the package; one that was imported before stays.
    """
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]
