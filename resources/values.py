"""What a step returns becomes a Thing, and a Thing becomes what the next step asks for.

Tables of every kind (pandas, pyarrow, polars) are the Thing's dataset; any other value is its one artifact, whose
name says what it is: `value.npy`, `value.skops`, `value.json`, `value.bin`. Whatever cannot come back as it went in
is refused before a byte is written.
"""

import base64
import datetime as dt
import io
import json
import types
import typing
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import pyarrow as pa

from resources.errors import MlassetsError
from resources.estimators import TREES, UntrustedModel, dump_estimator, load_estimator
from resources.lake import is_text, not_given_back
from resources.things import DamagedThing, Draft, Encoded, Thing, pack, unpack

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow.dataset as ds

NOTES: Final = b"mlassets.pandas"
"""Key of a dataset's schema metadata: what Arrow does not know of a pandas frame."""

_ARRAY, _ESTIMATOR, _JSON, _BYTES = "value.npy", "value.skops", "value.json", "value.bin"
_JSON_TYPES: Final = (dict, list, str, bool, int, float, type(None))
_OBJECTS: Final = (str, bytes, bool, int, Decimal, dt.date, dt.time, list, dict)
_BATCHES_AHEAD = 2
_SHOWN = 10
_FORMS: Final = (
    "resources.things.Thing, pandas.DataFrame, pandas.Series, pyarrow.Table, pyarrow.RecordBatchReader, "
    "pyarrow.dataset.Dataset, polars.DataFrame, polars.LazyFrame, numpy.ndarray, a scikit-learn estimator, dict, list, "
    "str, bytes, int, float, bool"
)


class UnstorableValue(MlassetsError):
    """The step `draw_data` returned a frame whose column 'fare' mixes int and str; make it one type."""


class WrongForm(MlassetsError):
    """The step `report` asks for `model` as pandas.DataFrame, but it holds value.json; annotate the input as dict."""


def draft_of(value: object, where: str, trusted: Collection[str] = ()) -> Draft:
    """Return the draft of a Thing that holds a value; streams are not consumed before the draft is committed.

    Args:
        value: A table, array, estimator, bytes, or what JSON can hold.
        where: Names the step and the partition, for errors.
        trusted: Types that an estimator may hold beside those that skops trusts.

    Raises:
        UnstorableValue: If the value would not come back as it is.
    """
    if isinstance(value, Draft):
        return value
    kind = _kind_of(type(value))
    if kind in _TO_ARROW:
        try:
            return Draft(dataset=_rows(value, kind))
        except _Refused as refused:
            raise UnstorableValue(f"{where} returned a {kind} that cannot be stored: {refused}") from refused
    try:
        if kind == "numpy.ndarray":
            return Draft(artifacts={_ARRAY: _npy(value)})
        if kind == "sklearn.BaseEstimator":
            return Draft(artifacts={_ESTIMATOR: _skops(value, trusted)})
        if type(value) is bytes:
            return Draft(artifacts={_BYTES: value})
        return Draft(artifacts={_JSON: _json(value)})
    except _Refused as refused:
        raise UnstorableValue(
            f"{where} returned a {type(value).__name__} that cannot be stored: {refused}"
        ) from refused


def is_table(value: object) -> bool:
    """Say whether a value is a table of a kind that `rows_in` takes."""
    return _kind_of(type(value)) in _TO_ARROW


def rows_in(value: object, what: str) -> pa.Table | pa.RecordBatchReader:
    """Return a table of any kind as Arrow; streams are not consumed.

    Raises:
        UnstorableValue: If it is no table, or would not come back as it is; the message begins with `what`.
    """
    kind = _kind_of(type(value))
    if kind not in _TO_ARROW:
        raise UnstorableValue(
            f"{what} is a {_name_of(type(value))}, which is no table; give {', '.join(_TO_ARROW)}, or the "
            "pathlib.Path of a Parquet file, and anything else as an artifact"
        )
    try:
        return _rows(value, kind)
    except _Refused as refused:
        raise UnstorableValue(f"{what} cannot be stored: {refused}") from refused


def encoded(value: object, what: str, trusted: Collection[str] = ()) -> bytes | Encoded:
    """Return a value as a file of its own may hold it; bytes are what they are.

    Args:
        value: A table, array, estimator, figure, text, bytes, or what JSON can hold.
        what: Names it, for errors.
        trusted: Types that an estimator may hold beside those that skops trusts.

    Raises:
        UnstorableValue: If it would not come back as it is.
    """
    kind = _kind_of(type(value))
    try:
        if type(value) is bytes:
            return value
        if kind in _TO_ARROW:
            return Encoded(_rows(value, kind), kind)
        if type(value) is str:
            return Encoded(value.encode(), "text")
        if kind in _TO_BYTES:
            return Encoded(_TO_BYTES[kind](value), kind)
        if kind == "sklearn.BaseEstimator":
            return Encoded(_skops(value, trusted, _TRUST_FILE), kind)
        return Encoded(_json(value), "json")
    except UnicodeEncodeError as error:
        raise UnstorableValue(f"{what} is no text that UTF-8 can hold: {error}") from error
    except _Refused as refused:
        raise UnstorableValue(f"{what} cannot be stored: {refused}") from refused


def decoded(form: str | None, name: str, data: bytes, where: str, trusted: Collection[str] = ()) -> Any:
    """Return the value that a file holds.

    Args:
        form: What was written into it, as `encoded` calls it; None goes by the file's suffix.
        name: The file's name.
        data: Its bytes, which match the hash that was committed.
        where: Names whose file it is, for errors.
        trusted: Types that an estimator may hold beside those that skops trusts.

    Raises:
        WrongForm: If the bytes are not what they are said to be.
        UntrustedModel: If an estimator holds a type that is not on the allow-list.
    """
    form = form or _FORM_OF_SUFFIX.get(name.rpartition(".")[2].lower(), "")
    try:
        if form == "sklearn.BaseEstimator":
            return load_estimator(data, (*TREES, *trusted), remedy=_TRUST_FILE)
        if form in _TO_ARROW:
            return _table_as(form, data)
        return _FROM_BYTES[form](data) if form in _FROM_BYTES else data
    except (ValueError, pa.ArrowException, UnicodeError) as error:
        raise WrongForm(
            f"{name} of {where} cannot be read as {form}: {error}; use `read()` for its bytes"
        ) from error


def value_of(
    thing: Thing,
    wanted: Any,
    where: str,
    columns: Sequence[str] | None = None,
    filter: Any = None,
    trusted: Collection[str] = (),
) -> Any:
    """Return what a Thing holds, in the form that is wanted.

    Args:
        thing: The Thing.
        wanted: A type; the Thing itself is returned for `Thing`, `Any` and None.
        where: Names the step that asks and what it asks for.
        columns: The only columns that a table shall have; the others are not read.
        filter: The only rows that it shall have: a pyarrow expression, or tuples as `pyarrow.parquet` takes them.
        trusted: Types that an estimator may hold beside those that skops trusts.

    Raises:
        WrongForm: If the Thing holds nothing that can be given in this form, or no such column.
        DamagedThing: If the bytes are not those that were committed.
    """
    wanted = plain_type(wanted)
    if wanted in (Thing, Any, None, object):
        if columns is not None or filter is not None:
            raise WrongForm(
                f"{where}: `columns` and `filter` need a table; annotate the input with one, such as pyarrow.Table"
            )
        return thing
    kind = _kind_of(wanted) if isinstance(wanted, type) else ""
    if reader := _FROM_DATASET.get(kind):
        if thing.schema is None:
            raise WrongForm(
                f"{where} as {kind}, but {thing} holds {_holds(thing)}; annotate the input with that"
            )
        return reader(_Selection(thing, where, columns, filter))
    if columns is not None or filter is not None:
        raise WrongForm(f"{where}: `columns` and `filter` are for tables, not for {_name_of(wanted)}")
    name = {"numpy.ndarray": _ARRAY, "sklearn.BaseEstimator": _ESTIMATOR}.get(kind)
    name = name or {bytes: _BYTES, **dict.fromkeys(_JSON_TYPES, _JSON)}.get(wanted)
    if name is None:
        raise WrongForm(f"{where} as {_name_of(wanted)}, which is none of {_FORMS}")
    if name not in thing.artifacts:
        raise WrongForm(
            f"{where} as {_name_of(wanted)}, but {thing} holds {_holds(thing)}; annotate the input with that"
        )
    data = thing.artifact(name)
    if name == _BYTES:
        return data
    if name == _ARRAY:
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    if name == _ESTIMATOR:
        value = load_estimator(data, (*TREES, *trusted), remedy=_TRUST)
    else:
        value = unpack(json.loads(data))
        if wanted is float and type(value) is int and value == float(value):
            return float(value)
    if type(value) is not wanted and (name == _JSON or not isinstance(value, wanted)):
        raise WrongForm(
            f"{where} as {_name_of(wanted)}, but {thing} holds a {type(value).__name__}; annotate the input with that"
        )
    return value


def plain_type(wanted: Any) -> Any:
    """Return the class of an annotation: of `list[str]` it is list, of `X | None` it is that of X."""
    if is_optional(wanted):
        (wanted,) = (one for one in typing.get_args(wanted) if one is not type(None))
    origin = typing.get_origin(wanted)
    return origin if isinstance(origin, type) and origin is not types.UnionType else wanted


def is_optional(wanted: Any) -> bool:
    """Say whether an annotation is `X | None`."""
    choices = typing.get_args(wanted)
    union = typing.get_origin(wanted) in (typing.Union, types.UnionType)
    return union and len(choices) == 2 and type(None) in choices


class _Refused(Exception):
    """What is wrong with a value, and what to do about it."""


def _name_of(wanted: Any) -> str:
    return f"{wanted.__module__}.{wanted.__qualname__}" if isinstance(wanted, type) else str(wanted)


_KINDS: Final = {
    *(("pandas", name) for name in ("DataFrame", "Series")),
    *(("pyarrow", name) for name in ("Table", "RecordBatch", "RecordBatchReader", "Dataset")),
    *(("polars", name) for name in ("DataFrame", "LazyFrame")),
    ("numpy", "ndarray"),
    ("sklearn", "BaseEstimator"),
    ("matplotlib", "Figure"),
    ("plotly", "BaseFigure"),
}


def _kind_of(wanted: type) -> str:
    """Return what a class is to us, by name: importing the packages would make every process wait for all of them."""
    for one in wanted.__mro__:
        kind = (one.__module__.partition(".")[0], one.__name__)
        if kind in _KINDS:
            return ".".join(kind)
    return ""


def _holds(thing: Thing) -> str:
    names = sorted(thing.artifacts)
    held = ["a table"] if thing.schema is not None else []
    if names == [_JSON]:
        held.append(f"a {type(unpack(json.loads(thing.artifact(_JSON)))).__name__}")
    elif names == [_ESTIMATOR]:
        held.append("a scikit-learn estimator")
    elif names == [_ARRAY]:
        held.append("a numpy.ndarray")
    elif names == [_BYTES]:
        held.append("bytes")
    elif names:
        held.append(f"the artifacts {', '.join(names)} (annotate it as Thing)")
    return " and ".join(held) or "parameters, metrics and labels only (annotate it as Thing)"


def _few(names: Collection[object]) -> str:
    shown = ", ".join(repr(name) for name in list(names)[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


# Values that are no tables


_TRUST: Final = "If you trust them, name them in `trusted_types` of the ThingIOManager."


_TRUST_FILE: Final = "If you trust them, name them in `trusted_types`."


def _skops(estimator: object, trusted: Collection[str], remedy: str = _TRUST) -> bytes:
    allowed = (*TREES, *trusted)
    try:
        data = dump_estimator(estimator, allowed, remedy=remedy)
        # What skops cannot read back is found now, not by whoever needs the model.
        load_estimator(data, allowed)
    except UntrustedModel as error:
        raise _Refused(str(error)) from error
    except Exception as error:
        raise _Refused(f"skops cannot hold it ({type(error).__name__}: {error})") from error
    return data


def _npy(array: Any) -> bytes:
    if type(array) not in (np.ndarray, np.memmap):
        raise _Refused("a subclass of numpy.ndarray would come back as a plain array; use numpy.asarray")
    if array.dtype.hasobject or array.dtype.kind == "T":
        raise _Refused(f"its dtype is {array.dtype}; use a dtype of fixed size, or a list")
    descr = np.lib.format.dtype_to_descr(array.dtype)
    if array.dtype.metadata or np.lib.format.descr_to_dtype(descr) != array.dtype:
        raise _Refused(f"the .npy format cannot say its dtype {array.dtype}; use a simpler one")
    sink = io.BytesIO()
    np.lib.format.write_array(sink, np.asarray(array), allow_pickle=False)
    return sink.getvalue()


def _json(value: object) -> bytes:
    try:
        _refuse_non_json(value, "value")
        return json.dumps(pack(value, "value"), allow_nan=False).encode()
    except RecursionError:
        raise _Refused("it is nested too deeply, or holds itself") from None
    except (ValueError, MlassetsError) as error:
        raise _Refused(str(error)) from error


def _refuse_non_json(value: object, place: str) -> None:
    if type(value) not in _JSON_TYPES:
        raise _Refused(
            f"{place} is a {_name_of(type(value))}, which JSON cannot hold; return one of {_FORMS}, "
            "or a resources.things.Draft"
        )
    if isinstance(value, list):
        for number, one in enumerate(value):
            _refuse_non_json(one, f"{place}[{number}]")
    elif isinstance(value, dict):
        for name, one in value.items():
            if type(name) is not str:
                raise _Refused(f"{place} has the key {name!r}, a {type(name).__name__}; keys must be text")
            _refuse_non_json(one, f"{place}[{name!r}]")


def _png(figure: Any) -> bytes:
    sink = io.BytesIO()
    # The version of matplotlib within would make other bytes of an equal picture.
    figure.savefig(sink, format="png", metadata={"Software": None})
    return sink.getvalue()


def _plotly(figure: Any) -> bytes:
    return cast("bytes", figure.to_json().encode())


def _figure(data: bytes) -> Any:
    import plotly.io

    return plotly.io.from_json(data.decode())


def _array(data: bytes) -> Any:
    return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)


_TO_BYTES: Final[dict[str, Callable[[Any], bytes]]] = {
    "numpy.ndarray": _npy,
    "matplotlib.Figure": _png,
    "plotly.BaseFigure": _plotly,
}
_FROM_BYTES: Final[dict[str, Callable[[bytes], Any]]] = {
    "numpy.ndarray": _array,
    "plotly.BaseFigure": _figure,
    "json": lambda data: unpack(json.loads(data)),
    "text": bytes.decode,
}
_FORM_OF_SUFFIX: Final = {
    "skops": "sklearn.BaseEstimator",
    "npy": "numpy.ndarray",
    "parquet": "pyarrow.Table",
    "json": "json",
    "txt": "text",
    "md": "text",
}


# Tables to Arrow


def _rows(value: object, kind: str) -> pa.Table | pa.RecordBatchReader:
    data = _TO_ARROW[kind](value)
    _check_schema(data.schema)
    if isinstance(data, pa.Table):
        _check_rows(data)
    return data


def _table_as(kind: str, data: bytes) -> Any:
    """Return the table in the bytes of a Parquet file as what it was; what was lazy comes back as a whole."""
    import pyarrow.parquet as pq

    table = pq.read_table(pa.BufferReader(data))
    notes = _notes(table.schema)
    if kind.startswith("pandas"):
        frame = _unpack_frame(table, notes) if notes else _foreign_frame(table)
        return frame.iloc[:, 0].rename((notes or {}).get("series")) if kind == "pandas.Series" else frame
    if kind.startswith("polars"):
        import polars as pl

        return pl.from_arrow(table)
    return table


def _check_schema(schema: pa.Schema) -> None:
    """Refuse what Parquet cannot hold, or cannot give back."""
    import pyarrow.parquet as pq

    doubles = sorted(name for name, count in Counter(schema.names).items() if count > 1)
    if doubles:
        raise _Refused(f"the columns {_few(doubles)} occur twice; give each column a name of its own")
    for field in schema:
        if trouble := not_given_back(field.type):
            raise _Refused(f"column {field.name!r} holds {trouble}")
    try:
        pq.write_table(schema.empty_table(), io.BytesIO(), compression="zstd")
    except pa.ArrowException:
        for field in schema:
            try:
                pq.write_table(pa.schema([field]).empty_table(), io.BytesIO())
            except pa.ArrowException as error:
                raise _Refused(f"column {field.name!r}: {error}. Cast it to another type") from error
        raise


def _check_rows(table: pa.Table) -> None:
    """Refuse rows that no Parquet file can hold; those of a stream are found out while it is written."""
    if table.num_rows and not table.num_columns and not _notes(table.schema):
        raise _Refused(f"it has {table.num_rows:,} rows and no columns, and Parquet counts rows by column")
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_timestamp(column.type) and column.type.unit == "s":
            try:
                column.cast(pa.timestamp("ms", column.type.tz))
            except pa.ArrowInvalid as error:
                raise _Refused(
                    f"column {name!r}: Parquet holds no seconds, and as milliseconds: {error}"
                ) from error


def _stream_of_dataset(dataset: Any) -> pa.RecordBatchReader:
    return dataset.scanner(batch_readahead=_BATCHES_AHEAD, fragment_readahead=1).to_reader()


def _from_polars(frame: "pl.DataFrame") -> pa.Table:
    import polars as pl

    _check_polars(frame.schema)
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def _from_lazy(frame: "pl.LazyFrame") -> pa.RecordBatchReader:
    import polars as pl

    found = frame.collect_schema()
    _check_polars(found)
    schema = pl.DataFrame(schema=found).to_arrow(compat_level=pl.CompatLevel.oldest()).schema

    def batches() -> Iterator[pa.RecordBatch]:
        for part in frame.collect_batches(maintain_order=True):
            yield from part.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema).to_batches()

    return pa.RecordBatchReader.from_batches(schema, batches())


def _check_polars(schema: "pl.Schema") -> None:
    import polars as pl

    for name, dtype in schema.items():
        try:
            empty = pl.DataFrame(schema={name: dtype}).to_arrow(compat_level=pl.CompatLevel.oldest())
            back = cast("pl.DataFrame", pl.from_arrow(empty)).schema[name]
        except (pa.ArrowException, pl.exceptions.PolarsError, ValueError) as error:
            raise _Refused(f"column {name!r} is {dtype}, which Arrow cannot hold: {error}") from error
        if back != dtype:
            raise _Refused(f"column {name!r} is {dtype} and would come back as {back}; cast it")


def _from_pandas(frame: "pd.DataFrame") -> pa.Table:
    import pandas as pd

    if type(frame) is not pd.DataFrame:
        raise _Refused(f"{type(frame).__name__} is a subclass of pandas.DataFrame; make it a plain one")
    table = _pack_frame(frame)
    skeleton = _skeleton(frame)
    if skeleton not in _COME_BACK:
        # Without rows this costs little, and it finds every dtype and index that would come back as another.
        empty = frame.iloc[:0]
        packed = _pack_frame(empty)
        _check_skeleton(empty, _unpack_frame(packed, _notes(packed.schema)))
        if len(_COME_BACK) == _SKELETONS_KEPT:
            _COME_BACK.clear()
        _COME_BACK.add(skeleton)
    return table


_SKELETONS_KEPT = 256
_COME_BACK: set[tuple[Any, ...]] = set()
"""Frames without their rows that are known to come back as they are."""


def _skeleton(frame: "pd.DataFrame") -> tuple[Any, ...]:
    """Return what `frame.iloc[:0]` is made of."""
    index, columns = frame.index, frame.columns
    return (
        tuple(columns),
        tuple(frame.dtypes),
        (type(columns), columns.dtype, columns.name),
        (type(index), tuple(level.dtype for level in _levels(index)), tuple(index.names)),
        getattr(index, "freqstr", None),
    )


def _check_skeleton(frame: "pd.DataFrame", back: "pd.DataFrame") -> None:
    for name, dtype, found in zip(frame.columns, frame.dtypes, back.dtypes, strict=True):
        if dtype != found or repr(dtype) != repr(found):
            raise _Refused(f"column {name!r} is {dtype!r} and would come back as {found!r}; cast it")
    for what, one, other in (
        ("index", frame.index, back.index),
        ("columns' index", frame.columns, back.columns),
    ):
        levels = [level for index in (one, other) for level in _levels(index)]
        half = len(levels) // 2
        same = [
            first.dtype == second.dtype for first, second in zip(levels[:half], levels[half:], strict=True)
        ]
        if type(one) is not type(other) or one.names != other.names or not all(same):
            raise _Refused(
                f"the {what} {one[:0]!r} would come back as {other[:0]!r}; use reset_index to make it columns"
            )


def _levels(index: "pd.Index") -> list["pd.Index"]:
    return [index.get_level_values(number) for number in range(index.nlevels)]


def _pack_frame(frame: "pd.DataFrame") -> pa.Table:
    """Return a frame as Arrow, with notes on what Arrow does not know of it."""
    import pandas as pd

    _check_names(frame)
    ranged = type(frame.index) is pd.RangeIndex
    levels = [] if ranged else _levels(frame.index)
    stored = [
        f"__index_level_{number}__" if level.name is None or level.name in frame.columns else level.name
        for number, level in enumerate(levels)
    ]
    series = [part for _, part in frame.items()]
    series += [pd.Series(level.array, dtype=level.dtype) for level in levels]
    parts = dict(zip([*frame.columns, *stored], series, strict=True))
    if len(parts) < len(series):
        raise _Refused("a level of the index and a column, or two levels, have one name; rename one of them")
    tags = {name: tag for name, part in parts.items() if (tag := _tag(name, part))}
    try:
        table = pa.Table.from_pandas(frame, preserve_index=None)
    except (pa.ArrowException, OverflowError, ValueError, TypeError, UnicodeError) as error:
        raise _Refused(f"Arrow cannot hold it: {' '.join(str(one) for one in error.args)}") from error
    if table.column_names != list(parts):
        raise _Refused("a level of its index has the name of a column; rename one of them")
    columns = dict(zip(parts, table.columns, strict=True))
    for name, tag in tags.items():
        if "category" in tag and not is_text(columns[name].type.value_type):
            columns[name] = columns[name].cast(columns[name].type.value_type)
        if "object" in tag and not _same_objects(columns[name], tag, parts[name]):
            raise _Refused(
                f"column {name!r} holds objects that would come back as others; convert it to a dtype of its own"
            )
    if any("category" in tag for tag in tags.values()):
        table = pa.table(columns, metadata=table.schema.metadata)
    notes = {
        "index": [{"stored": one, "name": level.name} for one, level in zip(stored, levels, strict=True)],
        "range": [frame.index.start, frame.index.stop, frame.index.step] if ranged else None,
        "names": list(frame.index.names),
        "freq": getattr(frame.index, "freqstr", None),
        "columns": {
            "name": frame.columns.name,
            "dtype": "range" if type(frame.columns) is pd.RangeIndex else str(frame.columns.dtype),
        },
        "attrs": json.loads(_attributes(frame.attrs)),
        "tags": tags,
    }
    return table.replace_schema_metadata({**(table.schema.metadata or {}), NOTES: json.dumps(notes).encode()})


def _attributes(attrs: Mapping[Any, Any]) -> bytes:
    try:
        return _json(dict(attrs))
    except _Refused as refused:
        raise _Refused(f"its attrs cannot be stored: {refused}. Remove them from `attrs`") from refused


def _check_names(frame: "pd.DataFrame") -> None:
    odd = [name for name in frame.columns if type(name) is not str]
    if odd:
        raise _Refused(
            f"the columns {_few(odd)} have no text as their names, and Parquet knows no other; rename them, for "
            "example with `frame.columns.map(str)`"
        )
    doubles = sorted(frame.columns[frame.columns.duplicated()].unique())
    if doubles:
        raise _Refused(f"the columns {_few(doubles)} occur twice; give each column a name of its own")
    odd = [
        name for name in (*frame.index.names, frame.columns.name) if not isinstance(name, (str, type(None)))
    ]
    if odd:
        raise _Refused(f"the index has the name {_few(odd)}; use text")


def _tag(name: str, part: "pd.Series") -> dict[str, Any] | None:
    """Return what Arrow's types do not say of a column's dtype; None for numpy's dtypes and pandas' own text."""
    import pandas as pd

    dtype = part.dtype
    if isinstance(dtype, np.dtype):
        return _tag_objects(name, part) if dtype.kind == "O" else None
    if isinstance(dtype, pd.DatetimeTZDtype):
        return None
    if isinstance(dtype, pd.CategoricalDtype):
        try:
            categories = _pack_frame(dtype.categories.to_frame(index=False, name="category"))
        except _Refused as refused:
            raise _Refused(f"the categories of column {name!r}: {refused}") from refused
        if not isinstance(dtype.categories.name, (str, type(None))):
            raise _Refused(
                f"the categories of column {name!r} have the name {dtype.categories.name!r}; use text"
            )
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, categories.schema) as writer:
            writer.write_table(categories)
        encoded = base64.b64encode(sink.getvalue()).decode()
        return {"category": encoded, "name": dtype.categories.name, "ordered": bool(dtype.ordered)}
    if isinstance(dtype, pd.StringDtype):
        return {"text": dtype.storage, "missing": "nan" if dtype.na_value is np.nan else "NA"}
    if isinstance(dtype, pd.ArrowDtype):
        return {"arrow": str(dtype)}
    if str(dtype) in (
        "boolean",
        "Float32",
        "Float64",
        *(f"{u}Int{n}" for u in ("", "U") for n in (8, 16, 32, 64)),
    ):
        return {"nullable": str(dtype)}
    raise _Refused(
        f"column {name!r} is {dtype!r}, which Parquet cannot hold; convert it, for example to text"
    )


def _tag_objects(name: str, part: "pd.Series") -> dict[str, Any]:
    """Return which object stands for a missing value in a column of objects, which must be of one type."""
    import pandas as pd

    values = part.to_numpy()
    kinds = set(map(type, values))
    found: list[Any] = []
    for missing, type_ in (("None", type(None)), ("NA", type(pd.NA)), ("NaT", type(pd.NaT))):
        if type_ in kinds:
            kinds.discard(type_)
            found.append(missing)
    if float in kinds and all(value != value for value in values if type(value) is float):
        kinds.discard(float)
        found.append("nan")
    if len(kinds) > 1 or len(found) > 1:
        names = sorted([*(one.__name__ for one in kinds), *found])
        raise _Refused(f"column {name!r} mixes {', '.join(names)}; make it one type")
    if kinds - set(_OBJECTS):
        (kind,) = kinds
        raise _Refused(
            f"column {name!r} holds objects of the type {_name_of(kind)}; convert it to a dtype of its own, "
            "or to text"
        )
    return {"object": found[0] if found else "None"}


def _same_objects(column: pa.ChunkedArray, tag: dict[str, Any], part: "pd.Series") -> bool:
    """Say whether objects come back as they are; of text and bytes Arrow holds every one."""
    if is_text(column.type) or pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return True
    back = _objects(column, tag["object"])
    return all(_same(one, other) for one, other in zip(part.to_numpy(), back, strict=True))


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(map(_same, one.values(), other.values()))
    return bool(one is other or one == other or (one != one and other != other))


def _from_series(series: "pd.Series") -> pa.Table:
    import pandas as pd

    if type(series) is not pd.Series:
        raise _Refused(f"{type(series).__name__} is a subclass of pandas.Series; make it a plain one")
    if not isinstance(series.name, (str, type(None))):
        raise _Refused(f"its name is {series.name!r}; use text")
    table = _from_pandas(series.to_frame("value" if series.name is None else series.name))
    metadata = table.schema.metadata
    notes = json.loads(metadata[NOTES]) | {"series": series.name}
    return table.replace_schema_metadata({**metadata, NOTES: json.dumps(notes).encode()})


_TO_ARROW: Final[dict[str, Callable[[Any], pa.Table | pa.RecordBatchReader]]] = {
    "pandas.DataFrame": _from_pandas,
    "pandas.Series": _from_series,
    "pyarrow.Table": lambda table: table,
    "pyarrow.RecordBatch": lambda batch: pa.Table.from_batches([batch]),
    "pyarrow.RecordBatchReader": lambda reader: reader,
    "pyarrow.Dataset": _stream_of_dataset,
    "polars.DataFrame": _from_polars,
    "polars.LazyFrame": _from_lazy,
}


# Arrow to tables


@dataclass(frozen=True)
class _Selection:
    """Some columns and rows of a Thing's dataset."""

    thing: Thing
    where: str
    columns: Sequence[str] | None
    filter: Any

    @property
    def schema(self) -> pa.Schema:
        return cast("pa.Schema", self.thing.schema)

    def names(self) -> list[str]:
        """Return the selected columns.

        Raises:
            WrongForm: If the dataset has no such column.
        """
        if self.columns is None:
            return cast("list[str]", self.schema.names)
        if isinstance(self.columns, str) or not all(isinstance(name, str) for name in self.columns):
            raise WrongForm(f"{self.where}: `columns` is {self.columns!r}; give a list of names")
        self._check(self.columns, "columns")
        return list(self.columns)

    def _check(self, names: Sequence[str], what: str) -> None:
        missing = sorted(set(names) - set(self.schema.names))
        if missing:
            raise WrongForm(
                f"{self.where}: `{what}` names {_few(missing)}, and {self.thing} has no such column; "
                f"it has {_few(self.schema.names)}"
            )

    def expression(self) -> "ds.Expression | None":
        """Return the rows' condition.

        Raises:
            WrongForm: If it is none, or about a column that the dataset does not have.
        """
        import pyarrow.dataset as ds
        import pyarrow.parquet as pq

        if self.filter is None:
            return None
        expression = self.filter
        if not isinstance(expression, ds.Expression):
            try:
                terms = [
                    tuple(term) if _is_term(term) else [tuple(one) for one in term] for term in expression
                ]
                flat = [one for term in terms for one in (term if isinstance(term, list) else [term])]
                self._check([column for column, _, _ in flat], "filter")
                expression = pq.filters_to_expression(terms)
            except (ValueError, TypeError, pa.ArrowException) as error:
                raise WrongForm(
                    f"{self.where}: `filter` is {self.filter!r}: {error}. Give a pyarrow expression, or a list of "
                    "tuples (column, operator, value)"
                ) from error
        try:
            self.schema.empty_table().filter(expression)
        except (pa.ArrowException, TypeError) as error:
            raise WrongForm(
                f"{self.where}: `filter` does not fit {self.thing}, which has {_few(self.schema.names)}: {error}"
            ) from error
        return expression

    def table(self, also: Sequence[str] = ()) -> pa.Table:
        names = self.names()
        names += [name for name in also if name not in names]
        table = self.thing.table(columns=names, filter=self.expression())
        return table.replace_schema_metadata(self.schema.metadata)

    def batches(self, names: Sequence[str], expression: "ds.Expression | None") -> Iterator[pa.RecordBatch]:
        """Yield the rows a batch at a time, exactly under the schema that was committed."""
        exact = pa.schema([self.schema.field(name) for name in names], self.schema.metadata)
        scanner = self.thing.scan().scanner(
            columns=list(names),
            filter=expression,
            batch_readahead=_BATCHES_AHEAD,
            fragment_readahead=1,
        )
        try:
            for batch in scanner.to_batches():
                if batch.schema.types == exact.types:
                    yield pa.RecordBatch.from_arrays(batch.columns, schema=exact)
                else:
                    yield from pa.Table.from_batches([batch]).cast(exact).to_batches()
        except (pa.ArrowException, OSError) as error:
            raise DamagedThing(f"the dataset of {self.thing} cannot be read: {error}") from error

    def reader(self) -> pa.RecordBatchReader:
        names = self.names()
        exact = pa.schema([self.schema.field(name) for name in names], self.schema.metadata)
        return pa.RecordBatchReader.from_batches(exact, self.batches(names, self.expression()))

    def dataset(self) -> "ds.Dataset":
        names, expression, dataset = self.names(), self.expression(), self.thing.scan()
        if self.columns is not None:
            exact = pa.schema([self.schema.field(name) for name in names], self.schema.metadata)
            dataset = dataset.replace_schema(exact)
        if expression is None:
            return dataset
        try:
            filtered = dataset.filter(expression)
            filtered.head(0)
        except pa.ArrowException as error:
            raise WrongForm(
                f"{self.where}: a lazily scanned dataset can only be filtered by the columns that it has; add "
                f"those of `filter` to `columns`: {error}"
            ) from error
        return filtered

    def frame(self) -> "pd.DataFrame":
        notes = _notes(self.schema)
        kept = [one["stored"] for one in notes["index"]] if notes else []
        table = self.table(also=kept)
        return _unpack_frame(table, notes) if notes else _foreign_frame(table)

    def series(self) -> "pd.Series":
        notes = _notes(self.schema)
        kept = [one["stored"] for one in notes["index"]] if notes else []
        names = [name for name in self.names() if name not in kept]
        if len(names) != 1:
            raise WrongForm(
                f"{self.where} as pandas.Series, but {self.thing} has {len(names)} columns: {_few(names)}; name one "
                "in `columns`"
            )
        series = self.frame().iloc[:, 0]
        return series.rename(notes["series"]) if notes and "series" in notes else series

    def polars(self) -> "pl.DataFrame":
        import polars as pl

        try:
            return cast("pl.DataFrame", pl.from_arrow(self.table()))
        except (pl.exceptions.PolarsError, pa.ArrowException, ValueError) as error:
            raise WrongForm(
                f"{self.where} as polars.DataFrame, but polars cannot hold {self.thing}: {error}"
            ) from error

    def lazy(self) -> "pl.LazyFrame":
        import polars as pl
        from polars.io.plugins import register_io_source

        names, expression = self.names(), self.expression()
        try:
            empty = pa.schema([self.schema.field(name) for name in names]).empty_table()
            schema = cast("pl.DataFrame", pl.from_arrow(empty)).schema
        except (pl.exceptions.PolarsError, pa.ArrowException, ValueError) as error:
            raise WrongForm(
                f"{self.where} as polars.LazyFrame, but polars cannot hold {self.thing}: {error}"
            ) from error

        def source(
            with_columns: list[str] | None, predicate: Any, rows: int | None, _size: int | None
        ) -> Iterator[pl.DataFrame]:
            left = rows
            for batch in self.batches(with_columns or names, expression):
                part = cast("pl.DataFrame", pl.from_arrow(pa.Table.from_batches([batch])))
                if left is not None:
                    part = part.head(left)
                    left -= part.height
                yield part if predicate is None else part.filter(predicate)
                if left == 0:
                    return

        return register_io_source(source, schema=dict(schema), is_pure=True)


def _is_term(term: Any) -> bool:
    return len(term) == 3 and isinstance(term[0], str) and isinstance(term[1], str)


def _notes(schema: pa.Schema) -> dict[str, Any] | None:
    text = (schema.metadata or {}).get(NOTES)
    return cast("dict[str, Any]", json.loads(text)) if text else None


def _foreign_frame(table: pa.Table) -> "pd.DataFrame":
    """Return rows that never were a pandas frame; whole numbers with nulls stay whole, as pandas' nullable ones."""
    import pandas as pd

    nullable = {
        column.type for column in table.columns if pa.types.is_integer(column.type) and column.null_count > 0
    }
    names = {type_: str(type_).replace("uint", "UInt").replace("int", "Int") for type_ in nullable}
    return table.to_pandas(
        types_mapper=lambda type_: pd.api.types.pandas_dtype(names[type_]) if type_ in names else None
    )


def _unpack_frame(table: pa.Table, notes: Any) -> "pd.DataFrame":
    """Return the frame, or the part of it, that a table was made of."""
    import pandas as pd

    tags = notes["tags"]
    plain = [name for name in table.column_names if name not in tags]
    frame = table.select(plain).replace_schema_metadata(None).to_pandas()
    if len(plain) < table.num_columns:
        parts = dict(zip(plain, (frame.iloc[:, number] for number in range(len(plain))), strict=True))
        for name, column in zip(table.column_names, table.columns, strict=True):
            if name in tags:
                parts[name] = pd.Series(_special(column, tags[name]), copy=False)
        frame = pd.DataFrame({name: parts[name] for name in table.column_names}, copy=False)
    levels = {one["stored"]: frame[one["stored"]] for one in notes["index"]}
    if levels:
        frame = frame.drop(columns=list(levels))
        indexes = [pd.Index(level.array, dtype=level.dtype) for level in levels.values()]
        frame.index = (
            pd.MultiIndex.from_arrays(indexes, names=notes["names"])
            if len(indexes) > 1
            else indexes[0].rename(notes["names"][0])
        )
        if notes["freq"]:
            _restore_freq(frame.index, notes["freq"])
    elif notes["range"] is not None:
        kept = pd.RangeIndex(*notes["range"])
        # Rows that a filter left out leave no trace in a range; those that remain are counted anew.
        if len(kept) != len(frame) and table.num_columns:
            kept = pd.RangeIndex(len(frame))
        frame.index = kept.rename(notes["names"][0])
    names, dtype = list(frame.columns), notes["columns"]["dtype"]
    frame.columns = pd.RangeIndex(0) if dtype == "range" else pd.Index(names, dtype=dtype)
    frame.columns.name = notes["columns"]["name"]
    frame.attrs = unpack(notes["attrs"])
    return frame


def _restore_freq(index: Any, freq: str) -> None:
    try:
        index.freq = freq
    except ValueError:
        # A filter has left rows out.
        return


def _special(column: pa.ChunkedArray, tag: dict[str, Any]) -> Any:
    """Return a column whose dtype is not the one that Arrow's type stands for."""
    import pandas as pd

    if "object" in tag:
        return pd.Series(_objects(column, tag["object"]), dtype=object)
    if "arrow" in tag:
        return pd.arrays.ArrowExtensionArray(column)
    if "text" in tag:
        missing = np.nan if tag["missing"] == "nan" else pd.NA
        return pd.StringDtype(tag["text"], na_value=missing).__from_arrow__(column)
    if "nullable" in tag:
        if tag["nullable"].startswith("Float"):
            # By hand: `__from_arrow__` takes NaN for a missing value.
            mask = column.is_null().to_numpy()
            return pd.arrays.FloatingArray(column.fill_null(0).to_numpy().copy(), mask)
        return pd.api.types.pandas_dtype(tag["nullable"]).__from_arrow__(column)
    return _categorical(column, tag)


def _objects(column: pa.ChunkedArray, missing: str) -> Any:
    import pandas as pd

    if is_text(column.type) or pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        values = column.to_numpy()
    else:
        values = np.empty(len(column), dtype=object)
        values[:] = column.to_pylist()
    if missing != "None" and column.null_count:
        values = values.copy()
        values[column.is_null().to_numpy()] = {"NA": pd.NA, "NaT": pd.NaT, "nan": np.nan}[missing]
    return values


def _categorical(column: pa.ChunkedArray, tag: dict[str, Any]) -> "pd.Categorical":
    import pandas as pd
    import pyarrow.compute as pc

    with pa.ipc.open_stream(base64.b64decode(tag["category"])) as stream:
        packed = stream.read_all()
    values = _unpack_frame(packed, _notes(packed.schema))["category"]
    categories = pd.Index(values.array, dtype=values.dtype, name=tag["name"])
    dtype = pd.CategoricalDtype(categories, ordered=tag["ordered"])
    known = packed.column("category").combine_chunks()
    if pa.types.is_dictionary(column.type):
        whole = column.unify_dictionaries().combine_chunks()
        whole = whole.chunk(0) if isinstance(whole, pa.ChunkedArray) and whole.num_chunks else whole
        places = pc.index_in(whole.dictionary.cast(known.type), value_set=known)
        codes = pc.take(places, whole.indices)
    else:
        codes = pc.index_in(column.cast(known.type), value_set=known, skip_nulls=True)
    return pd.Categorical.from_codes(codes.fill_null(-1).to_numpy(zero_copy_only=False), dtype=dtype)


_FROM_DATASET: Final[dict[str, Callable[[_Selection], Any]]] = {
    "pandas.DataFrame": _Selection.frame,
    "pandas.Series": _Selection.series,
    "pyarrow.Table": _Selection.table,
    "pyarrow.RecordBatchReader": _Selection.reader,
    "pyarrow.Dataset": _Selection.dataset,
    "polars.DataFrame": _Selection.polars,
    "polars.LazyFrame": _Selection.lazy,
}
