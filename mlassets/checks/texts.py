"""What observes the columns of texts of a Thing."""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import pyarrow as pa

from mlassets.expectations import ExpectedTexts
from mlassets.quality.frames import is_text
from mlassets.quality.text_verdicts import LOOKED_AT_FIRST, SAMPLE, TextRows
from resources.things import Thing

if TYPE_CHECKING:
    import pyarrow.dataset as ds


def text_rows(
    thing: Thing,
    expected: ExpectedTexts,
    earlier: Callable[[], Thing | None],
    *,
    new: Collection[str] | None = None,
    label: str | None = None,
    sample: int = SAMPLE,
    seed: int = 0,
) -> TextRows:
    """Return what observes the columns of texts of a Thing's dataset; nothing of it is read before it is asked.

    Args:
        thing: A Thing with a dataset.
        expected: How its texts are looked at.
        earlier: Gives the Thing whose texts its own are compared with, if there is one.
        new: Names of the files whose texts are compared; by default all are.
        label: A column that says what each row is.
        sample: Rows of each side that are looked at.
        seed: Seed of the samples.
    """

    def before() -> "ds.Dataset | None":
        one = earlier()
        return one.scan() if one is not None and one.schema is not None else None

    strings = [
        field.name for field in thing.schema or () if is_text(field.type) or pa.types.is_null(field.type)
    ]
    return TextRows(
        thing.scan,
        thing.rows or 0,
        lambda: thing.first_rows(LOOKED_AT_FIRST, strings),
        new=None if new is None else lambda: _some_files(thing, new),
        earlier=before,
        columns=expected.columns,
        label=label,
        embedding=expected.embedding,
        sample=sample,
        seed=seed,
    )


def _some_files(thing: Thing, names: Collection[str]) -> "ds.Dataset | None":
    import pyarrow.dataset as ds

    chosen = [one for one in thing.files.values() if one.name in names]
    parts = [thing.lake_of(one).dataset([one.path], thing.schema) for one in chosen]
    return ds.dataset(parts) if parts else None
