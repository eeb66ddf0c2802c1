"""What rows are compared with beyond themselves: the newest versions of other sources."""

from collections.abc import Iterable

from mlassets.home import Home
from mlassets.quality.rows import Rows, rows_of
from mlassets.steps import SOURCES
from resources.errors import MlassetsError
from resources.things import Partition


def rows_of_sources(home: Home, names: Iterable[str]) -> tuple[dict[str, Rows], dict[str, str]]:
    """Return the rows of sources as they are now; and, of those that cannot be read, why.

    A source that nothing has landed for is no reason to stop: whatever is compared with it says so in its verdict.
    """
    rows: dict[str, Rows] = {}
    unknown: dict[str, str] = {}
    for name in names:
        try:
            rows[name] = rows_of(home.store.require(SOURCES, Partition.source(name)))
        except MlassetsError as error:
            unknown[name] = str(error)
    return rows, unknown
