"""Recurring modelling work as a Dagster asset graph of immutable, versioned Things."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlassets.announcing import open_store
    from mlassets.releasing.bundles import load_bundle as load_release

__all__ = ["__version__", "load_release", "open_store"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Looked up when it is asked for: importing the package loads nothing.
    if name == "load_release":
        from mlassets.releasing.bundles import load_bundle

        return load_bundle
    if name == "open_store":
        from mlassets.announcing import open_store

        return open_store
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
