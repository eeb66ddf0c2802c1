"""Whatever a step returns comes back exactly as it was, in every supported type, or is refused before it is written."""

import datetime as dt
import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal as assert_polars_equal
from polars.testing.parametric import dataframes
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from resources.estimators import UntrustedModel
from resources.settings import Settings
from resources.store import Store
from resources.things import DamagedThing, Draft, Partition, Thing
from resources.values import UnstorableValue, WrongForm, draft_of, value_of

few = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


class Kept:
    """A store in which every value has a partition of its own."""

    def __init__(self, home: Path) -> None:
        self.store = Store.open(Settings(home=home))
        self.numbers = count()

    def put(self, value: Any, **options: Any) -> Thing:
        draft = draft_of(value, "The step `made`, partition p,", **options)
        return self.store.commit("made", Partition({"partition": str(next(self.numbers))}), draft)

    def back(self, value: Any, wanted: Any = None, **options: Any) -> Any:
        return self.get(self.put(value), wanted or type(value), **options)

    def get(self, thing: Thing, wanted: Any, **options: Any) -> Any:
        return value_of(thing, wanted, "The step `reader` asks for `made` of p", **options)

    def refuses(self, value: Any, match: str) -> None:
        before = sorted(self.store.lake.files("things"), key=lambda file: file.path)
        with pytest.raises(UnstorableValue, match=match) as refused:
            self.put(value)
        assert "The step `made`, partition p, returned a" in str(refused.value)
        assert sorted(self.store.lake.files("things"), key=lambda file: file.path) == before


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return Kept(tmp_path_factory.mktemp("kept"))


def objects(*values: Any) -> pd.Series:
    return pd.Series(values, dtype=object)


def assert_same_frame(frame: pd.DataFrame, back: pd.DataFrame) -> None:
    """Equal in every value's type, every dtype, every kind of missing value, index, names and attrs."""
    pd.testing.assert_frame_equal(
        frame, back, check_index_type=True, check_column_type=True, check_freq=True, check_exact=True
    )
    assert [repr(one) for one in frame.dtypes] == [repr(one) for one in back.dtypes]
    assert (type(back.index), back.index.names) == (type(frame.index), frame.index.names)
    assert [level.dtype for level in levels(back)] == [level.dtype for level in levels(frame)]
    assert (back.columns.dtype, back.columns.name) == (frame.columns.dtype, frame.columns.name)
    assert repr(back.attrs) == repr(frame.attrs)
    for number in range(frame.shape[1]):
        ours, theirs = (list(one.iloc[:, number].array) for one in (back, frame))
        assert [(type(one), repr(one)) for one in ours] == [(type(one), repr(one)) for one in theirs]


def levels(frame: pd.DataFrame) -> list[pd.Index]:
    return [frame.index.get_level_values(number) for number in range(frame.index.nlevels)]


NAN_AND_NULL = pd.arrays.FloatingArray(np.array([1.0, np.nan, 0.0]), np.array([False, False, True]))
COLUMNS: dict[str, Any] = {
    "int64": pd.Series([1, 2**63 - 1]),
    "uint64": pd.Series([2**64 - 1], dtype="uint64"),
    "float": pd.Series([1.5, np.nan, -0.0, np.inf]),
    "float16": pd.Series([1, 2], dtype="float16"),
    "Int64": pd.Series([2**63 - 1, 2**53 + 1, None], dtype="Int64"),
    "Float64 with NaN and NA": pd.Series(NAN_AND_NULL),
    "boolean": pd.Series([True, None], dtype="boolean"),
    "str": pd.Series(["a", None, ""]),
    "string python": pd.Series(["a", None], dtype="string[python]"),
    "string pyarrow": pd.Series(["a", None], dtype="string[pyarrow]"),
    "string python nan": pd.Series(["a", None], dtype=pd.StringDtype("python", na_value=np.nan)),
    "object text None": objects("a", None),
    "object text nan": objects("a", np.nan),
    "object text NA": objects("a", pd.NA),
    "object int": objects(1, None),
    "object bool": objects(True, None),
    "object bytes": objects(b"a\xff", None),
    "object decimal": objects(Decimal("1.10"), None),
    "object date": objects(dt.date(2020, 1, 1), None),
    "object time": objects(dt.time(1, 2, 3, 4), None),
    "object list": objects([1, 2], [], None),
    "object dict": objects({"a": [1]}, {"a": []}, None),
    "object None": objects(None, None),
    "category ordered, one unused": pd.Series(
        pd.Categorical(["a", None, "b"], categories=["z", "b", "a"], ordered=True)
    ),
    "category int": pd.Series(pd.Categorical([3, None, 1], categories=[5, 3, 1])),
    "category time": pd.Series(pd.Categorical(pd.to_datetime(["2020-01-01", None]))),
    "category bool": pd.Series(pd.Categorical([True, False])),
    "category none": pd.Series(pd.Categorical([], categories=[])),
    "category all null": pd.Series(pd.Categorical([None], categories=["a"])),
    "category object": pd.Series(pd.Categorical(objects("a", "b"))),
    "category named": pd.Series(pd.Categorical(["a"], categories=pd.Index(["a", "b"], name="level"))),
    "datetime s": pd.Series(np.array(["2020-01-01", "NaT"], "M8[s]")),
    "datetime ns": pd.Series(np.array(["2020-01-01T00:00:00.000000001", "NaT"], "M8[ns]")),
    "zone": pd.Series(pd.to_datetime(["2020-07-01", None])).dt.tz_localize("Europe/Berlin"),
    "offset": pd.Series(pd.to_datetime(["2020-01-01"])).dt.tz_localize("+02:00"),
    "timedelta s": pd.Series(np.array([1, "NaT"], "m8[s]")),
    "timedelta ns": pd.Series(np.array([1, "NaT"], "m8[ns]")),
    "arrow int": pd.Series([1, None], dtype="int64[pyarrow]"),
    "arrow NaN and null": pd.Series(pd.arrays.ArrowExtensionArray(pa.array([1.0, float("nan"), None]))),
    "arrow list": pd.Series([[1], None], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
    "arrow struct": pd.Series([{"a": 1}, None], dtype=pd.ArrowDtype(pa.struct([("a", pa.int64())]))),
    "arrow map": pd.Series([[("a", 1)]], dtype=pd.ArrowDtype(pa.map_(pa.string(), pa.int64()))),
    "arrow time": pd.Series([dt.datetime(2020, 1, 1), None], dtype=pd.ArrowDtype(pa.timestamp("s", "UTC"))),
    "arrow decimal": pd.Series([Decimal("1.1")], dtype=pd.ArrowDtype(pa.decimal128(38, 9))),
}
THREE = pd.DataFrame({"x": [1, 2, 3]})
FRAMES: dict[str, pd.DataFrame] = {
    "named index": THREE.set_index(pd.Index([3, 4, 5], name="i")),
    "text index": THREE.set_index(pd.Index(["a", "b", "c"])),
    "object index": THREE.set_index(pd.Index(["a", "b", None], dtype=object)),
    "time index with its frequency": THREE.set_index(pd.date_range("2020", periods=3, tz="UTC")),
    "timedelta index": THREE.set_index(pd.timedelta_range("1D", periods=3)),
    "two levels": THREE.set_index(
        pd.MultiIndex.from_tuples([("a", 1), ("b", 2), (None, 3)], names=["u", None])
    ),
    "range from 5 by 2": THREE.set_index(pd.RangeIndex(5, 11, 2, name="r")),
    "category index": THREE.set_index(pd.CategoricalIndex(["a", "b", "a"], categories=["b", "a"])),
    "index named as a column": THREE.set_index(pd.Index([1, 2, 3], name="x")),
    "named columns": THREE.rename_axis(columns="c"),
    "object columns": pd.DataFrame([[1]], columns=pd.Index(["a"], dtype=object)),
    "no rows": THREE.iloc[:0],
    "no rows, two levels": THREE.set_index(pd.MultiIndex.from_tuples([("a", 1), ("b", 2), ("b", 3)])).iloc[
        :0
    ],
    "no columns": THREE[[]],
    "no columns but an index": pd.DataFrame(index=pd.Index(["a", "b"])),
    "nothing": pd.DataFrame(),
    "no values of any type": pd.DataFrame({"o": objects()}),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_pandas_column_comes_back_exactly(kept: Kept, name: str) -> None:
    frame = pd.DataFrame({"x": COLUMNS[name], "row": range(len(COLUMNS[name]))})
    assert_same_frame(frame, kept.back(frame))
    assert_same_frame(frame.iloc[:0], kept.back(frame.iloc[:0]))


@pytest.mark.parametrize("name", FRAMES)
def test_a_pandas_frame_comes_back_with_its_index_and_names(kept: Kept, name: str) -> None:
    assert_same_frame(FRAMES[name], kept.back(FRAMES[name]))


def test_attrs_come_back_if_json_can_hold_them_and_are_refused_otherwise(kept: Kept) -> None:
    frame = THREE.copy()
    frame.attrs = {"unit": "m", "limits": [1, {"high": float("inf")}]}
    assert_same_frame(frame, kept.back(frame))
    frame.attrs = {"limits": (1, 2)}
    kept.refuses(frame, r"attrs cannot be stored: value\['limits'\] is a builtins.tuple")


@pytest.mark.parametrize(
    ("column", "match"),
    [
        (objects("a", 1), "column 'x' mixes int, str"),
        (objects("a", None, np.nan), "column 'x' mixes None, nan, str"),
        (objects(1.5, 2.0), "column 'x' holds objects of the type builtins.float"),
        (objects({1}), "type builtins.set"),
        (objects((1,), (2,)), "type builtins.tuple"),
        (objects(np.array([1])), "type numpy.ndarray"),
        (objects({"a": 1}, {"b": 1}), "column 'x' holds objects that would come back as others"),
        (objects(2**70), "too large"),
        (objects("\ud800"), "surrogates"),
        (pd.Series(pd.period_range("2020", periods=2, freq="M")), r"column 'x' is period\[M\]"),
        (pd.Series(pd.cut([1, 2], 2)), "the categories of column 'x'"),
        (pd.Series(pd.arrays.SparseArray([0, 1])), "column 'x' is Sparse"),
        (pd.Series([1j]), "complex128"),
        (pd.Series(pd.arrays.ArrowExtensionArray(pa.array([1]).dictionary_encode())), "dictionary of int64"),
    ],
)
def test_a_pandas_column_that_would_change_is_refused_by_name(
    kept: Kept, column: pd.Series, match: str
) -> None:
    kept.refuses(pd.DataFrame({"x": column}), match)


class Subclass(pd.DataFrame):
    pass


@pytest.mark.parametrize(
    ("frame", "match"),
    [
        (pd.DataFrame(np.eye(2)), "columns 0, 1 have no text as their names"),
        (pd.DataFrame({("a", "b"): [1]}), "have no text"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "columns 'a' occur twice"),
        (THREE.rename_axis(5), "the index has the name 5"),
        (THREE.set_index(pd.interval_range(0, 3)), "interval"),
        (
            pd.DataFrame({"__index_level_0__": [1]}, index=pd.Index([2])),
            "one name",
        ),
        (Subclass({"x": [1]}), "Subclass is a subclass"),
        (pd.Series([1], name=3), "its name is 3"),
    ],
)
def test_a_frame_whose_names_or_index_would_change_is_refused(kept: Kept, frame: Any, match: str) -> None:
    kept.refuses(frame, match)


def test_ten_thousand_columns_come_back(kept: Kept) -> None:
    frame = pd.DataFrame(np.arange(20_000).reshape(2, -1), columns=[f"c{number}" for number in range(10_000)])
    thing = kept.put(frame)
    pd.testing.assert_frame_equal(kept.get(thing, pd.DataFrame), frame)
    assert kept.get(thing, pl.DataFrame, columns=["c9999"]).columns == ["c9999"]


@pytest.mark.parametrize(
    "series", [pd.Series([1, None], name="n", dtype="Int64"), pd.Series(["a"], index=["k"])]
)
def test_a_series_comes_back_with_its_name_and_index(kept: Kept, series: pd.Series) -> None:
    thing = kept.put(series)
    pd.testing.assert_series_equal(kept.get(thing, pd.Series), series)
    assert kept.get(thing, pd.DataFrame).columns.tolist() == [series.name or "value"]


SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "int64": st.lists(st.integers(-(2**63), 2**63 - 1)).map(lambda v: pd.Series(v, dtype="int64")),
    "Int64": st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)).map(
        lambda v: pd.Series(v, dtype="Int64")
    ),
    "UInt8": st.lists(st.none() | st.integers(0, 255)).map(lambda v: pd.Series(v, dtype="UInt8")),
    "float64": st.lists(st.floats()).map(lambda v: pd.Series(v, dtype="float64")),
    "float32": st.lists(st.floats(width=32)).map(lambda v: pd.Series(v, dtype="float32")),
    "bool": st.lists(st.booleans()).map(lambda v: pd.Series(v, dtype="bool")),
    "boolean": st.lists(st.none() | st.booleans()).map(lambda v: pd.Series(v, dtype="boolean")),
    "str": st.lists(st.none() | st.text()).map(lambda v: pd.Series(v, dtype="str")),
    "string": st.lists(st.none() | st.text()).map(lambda v: pd.Series(v, dtype="string[python]")),
    "object": st.lists(
        st.sampled_from([None, np.nan, pd.NA, "a", 1, True, b"b", Decimal("1.5"), [1], {"a": None}, 1.5]),
        max_size=3,
    ).map(lambda v: pd.Series(v, dtype="object")),
    "category": st.lists(st.none() | st.sampled_from("abc")).map(
        lambda v: pd.Series(pd.Categorical(v, categories=["c", "unused", "b", "a"], ordered=len(v) % 2 == 0))
    ),
    "datetime": st.tuples(
        st.sampled_from(["s", "ms", "us", "ns"]), st.lists(st.none() | st.integers(-(2**60), 2**60))
    ).map(lambda v: pd.Series(np.array(["NaT" if one is None else one for one in v[1]], f"M8[{v[0]}]"))),
    "zone": st.tuples(
        st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "+05:30"]),
        st.lists(st.none() | st.integers(0, 2**40)),
    ).map(
        lambda v: (
            pd.Series(np.array(["NaT" if one is None else one for one in v[1]], "M8[ms]"))
            .dt.tz_localize("UTC")
            .dt.tz_convert(v[0])
        )
    ),
    "timedelta": st.lists(st.none() | st.integers(-(2**60), 2**60)).map(
        lambda v: pd.Series(np.array(["NaT" if one is None else one for one in v], "m8[us]"))
    ),
    "arrow": st.lists(st.none() | st.lists(st.none() | st.floats(), max_size=2)).map(
        lambda v: pd.Series(pd.arrays.ArrowExtensionArray(pa.array(v, pa.large_list(pa.float64()))))
    ),
}


@st.composite
def pandas_frames(draw: st.DrawFn) -> pd.DataFrame:
    kinds = draw(st.lists(st.sampled_from(sorted(SCALARS)), max_size=4))
    columns = [draw(SCALARS[kind]) for kind in kinds]
    rows = min((len(one) for one in columns), default=0)
    names = draw(st.lists(st.text(max_size=5), min_size=len(kinds), max_size=len(kinds), unique=True))
    frame = pd.DataFrame({name: one.iloc[:rows] for name, one in zip(names, columns, strict=True)})
    if columns and draw(st.booleans()):
        # pandas itself finds that an index of lists with NaN in them does not equal itself.
        plain = [one for one, kind in zip(columns, kinds, strict=True) if kind != "arrow"] or [
            pd.Series(range(rows))
        ]
        index = draw(st.sampled_from(plain)).iloc[:rows]
        frame.index = pd.Index(index.array, dtype=index.dtype, name=draw(st.none() | st.text(max_size=3)))
    return frame


@few
@given(frame=pandas_frames())
def test_any_pandas_frame_comes_back_exactly_or_is_refused(kept: Kept, frame: pd.DataFrame) -> None:
    try:
        thing = kept.put(frame)
    except UnstorableValue:
        return
    assert_same_frame(frame, kept.get(thing, pd.DataFrame))


def decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    return st.integers(-(10**precision) + 1, 10**precision - 1).map(lambda one: Decimal(one).scaleb(-scale))


NAMES = st.text(min_size=1, max_size=4)
PLAIN: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    *((type_, st.integers(-128, 127)) for type_ in (pa.int8(), pa.int16(), pa.int32())),
    *((type_, st.integers(0, 255)) for type_ in (pa.uint8(), pa.uint16(), pa.uint32())),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.float16(), st.floats(width=16).map(np.float16)),
    (pa.float32(), st.floats(width=32)),
    (pa.float64(), st.floats()),
    (pa.bool_(), st.booleans()),
    *((type_, st.text(max_size=5)) for type_ in (pa.string(), pa.large_string(), pa.string_view())),
    *((type_, st.binary(max_size=5)) for type_ in (pa.binary(), pa.large_binary(), pa.binary_view())),
    (pa.binary(3), st.binary(min_size=3, max_size=3)),
    *((pa.timestamp(unit), st.integers(-(2**33), 2**33)) for unit in ("s", "ms", "us", "ns")),
    (pa.timestamp("us", "Asia/Kathmandu"), st.integers(0, 2**50)),
    *((pa.duration(unit), st.integers(-(2**33), 2**33)) for unit in ("s", "ms", "us", "ns")),
    (pa.date32(), st.integers(-10_000, 10_000)),
    (pa.date64(), st.integers(-10_000, 10_000).map(lambda day: day * 86_400_000)),
    *((pa.time32(unit), st.integers(0, 86_399)) for unit in ("s", "ms")),
    *((pa.time64(unit), st.integers(0, 10**10)) for unit in ("us", "ns")),
    (pa.decimal32(7, 2), decimals(7, 2)),
    (pa.decimal64(15, 3), decimals(15, 3)),
    (pa.decimal128(20, 4), decimals(20, 4)),
    (pa.decimal256(30, 4), decimals(20, 4)),
    (pa.null(), st.none()),
    (pa.month_day_nano_interval(), st.none()),
]


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def of_lists(pair: Any) -> st.SearchStrategy[Any]:
        type_, values = pair
        either = st.lists(st.none() | values, max_size=3)
        return st.sampled_from(
            [
                (pa.list_(type_), either),
                (pa.large_list(type_), either),
                (pa.list_(type_, 2), st.lists(st.none() | values, min_size=2, max_size=2)),
                (
                    pa.map_(pa.string(), type_),
                    st.dictionaries(st.text(max_size=3), st.none() | values, max_size=2).map(
                        lambda one: list(one.items())
                    ),
                ),
            ]
        )

    def of_structs(pairs: list[Any]) -> tuple[Any, Any]:
        names = [f"f{number}" for number in range(len(pairs))]
        type_ = pa.struct([pa.field(name, one[0]) for name, one in zip(names, pairs, strict=True)])
        return type_, st.fixed_dictionaries(
            {name: st.none() | one[1] for name, one in zip(names, pairs, strict=True)}
        )

    return inner.flatmap(of_lists) | st.lists(inner, max_size=3).map(of_structs)


@st.composite
def arrow_tables(draw: st.DrawFn) -> pa.Table:
    kinds = st.recursive(st.sampled_from(PLAIN), nested, max_leaves=3)
    columns = {}
    rows = draw(st.integers(0, 4))
    fields = []
    for name in draw(st.lists(NAMES, max_size=4, unique=True)):
        type_, values = draw(kinds)
        array = pa.array([draw(st.none() | values) for _ in range(rows)], type_)
        if type_ in (pa.string(), pa.int32()) and draw(st.booleans()):
            array = array.dictionary_encode()
        columns[name] = array
        fields.append(pa.field(name, array.type, metadata=draw(st.sampled_from([None, {"unit": "m"}]))))
    metadata = draw(st.sampled_from([None, {"made": "by hand"}]))
    return pa.table(list(columns.values()), schema=pa.schema(fields, metadata=metadata))


def rows_of(table: pa.Table) -> str:
    """All rows, in which NaN, -0.0 and null differ, and categories are their values."""
    return repr([column.to_pylist() for column in table.columns])


@few
@given(table=arrow_tables())
def test_any_arrow_table_comes_back_exactly_or_is_refused(kept: Kept, table: pa.Table) -> None:
    try:
        thing = kept.put(table)
    except UnstorableValue:
        return
    for back in (
        kept.get(thing, pa.Table),
        kept.get(thing, pa.RecordBatchReader).read_all(),
    ):
        assert back.schema.equals(table.schema, check_metadata=True)
        assert rows_of(back) == rows_of(table)
    assert rows_of(kept.get(thing, ds.Dataset).to_table()) == rows_of(table)


@pytest.mark.parametrize(
    ("column", "match"),
    [
        (pa.array([1]).dictionary_encode(), "column 'x' holds a dictionary of int64"),
        (pa.ListArray.from_arrays([0, 1], pa.array([1.0]).dictionary_encode()), "dictionary of double"),
        (pa.array([["a"]], pa.list_(pa.string_view())), "column 'x' holds string_view within another type"),
        (pa.array([pa.MonthDayNano([1, 2, 3])]), "column 'x': Unhandled type"),
        (pa.array([{}], pa.struct([])), "column 'x': Cannot write struct"),
        (pa.RunEndEncodedArray.from_arrays([1], [1]), "run_end_encoded"),
    ],
)
def test_an_arrow_type_that_parquet_cannot_give_back_is_refused_by_column(
    kept: Kept, column: pa.Array, match: str
) -> None:
    kept.refuses(pa.table({"fine": [1], "x": column}), match)
    kept.refuses(pa.record_batch({"x": column}), match)
    schema = pa.schema([("x", column.type)])
    kept.refuses(pa.RecordBatchReader.from_batches(schema, iter([])), match)


def test_columns_of_one_name_are_refused(kept: Kept) -> None:
    kept.refuses(pa.table([[1], [2]], names=["a", "a"]), "columns 'a' occur twice")


@few
@given(frame=dataframes(max_cols=4, max_size=4))
def test_any_polars_frame_comes_back_exactly_or_is_refused(kept: Kept, frame: pl.DataFrame) -> None:
    for value in (frame, frame.lazy()):
        try:
            thing = kept.put(value)
        except UnstorableValue:
            continue
        for back in (kept.get(thing, pl.DataFrame), kept.get(thing, pl.LazyFrame).collect()):
            assert back.schema == frame.schema
            assert_polars_equal(back, frame, check_exact=True, categorical_as_str=True)


@pytest.mark.parametrize(
    "column",
    [
        pl.Series(["b", None], dtype=pl.Enum(["a", "b", "unused"])),
        pl.Series(["b", "a"], dtype=pl.Categorical),
        pl.Series([[1, None], None], dtype=pl.Array(pl.Int64, 2)),
        pl.Series([{"a": [1.0, float("nan"), None]}, None]),
        pl.Series(["1.10"]).cast(pl.Decimal(20, 2)),
        pl.Series([dt.time(1, 2, 3)]),
        pl.Series([dt.timedelta(1), None], dtype=pl.Duration("ns")),
        pl.Series([dt.datetime(2020, 1, 1)], dtype=pl.Datetime("ms", "Europe/Berlin")),
        pl.Series([None, None]),
    ],
    ids=lambda column: str(column.dtype),
)
def test_a_polars_column_comes_back_exactly(kept: Kept, column: pl.Series) -> None:
    frame = pl.DataFrame({"x": column})
    for back in (kept.back(frame), kept.back(frame.lazy()).collect()):
        assert back.schema == frame.schema
        assert_polars_equal(back, frame, check_exact=True)


@pytest.mark.parametrize("column", [pl.Series([2**100], dtype=pl.Int128), pl.Series([object()])])
def test_a_polars_type_that_arrow_cannot_hold_is_refused_by_name(kept: Kept, column: pl.Series) -> None:
    kept.refuses(pl.DataFrame({"x": column}), "column 'x' is (Int128|Object)")
    kept.refuses(pl.DataFrame({"x": column}).lazy(), "column 'x' is (Int128|Object)")


def test_rows_without_columns_are_refused(kept: Kept) -> None:
    kept.refuses(pa.table({"x": [1, 2]}).select([]), "2 rows and no columns")


@pytest.mark.parametrize(
    "array",
    [
        np.array(3.5),
        np.arange(6, dtype=np.int8).reshape(2, 3),
        np.asfortranarray(np.ones((2, 3), dtype=np.float16)),
        np.array([1 + 2j, np.nan]),
        np.array(["a", "bcd"]),
        np.array([b"a"]),
        np.array(["2020-01-01", "NaT"], "M8[D]"),
        np.array([(1, "a")], dtype=[("n", "<i4"), ("t", "U3")]),
        np.array([1], dtype=">i8"),
        np.empty((0, 5)),
        np.arange(10)[::2],
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_an_array_comes_back_with_dtype_and_shape(kept: Kept, array: np.ndarray) -> None:
    back = kept.back(array)
    assert (back.dtype, back.shape, back.flags.f_contiguous) == (
        array.dtype,
        array.shape,
        np.ascontiguousarray(array).flags.f_contiguous if array.ndim < 2 else array.flags.f_contiguous,
    )
    assert repr(back) == repr(array)


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.array([1, "a"], dtype=object), "its dtype is object"),
        (np.array(["a"], dtype=np.dtypes.StringDType()), "its dtype is StringDType"),
        (np.array([(1, None)], dtype=[("a", "i4"), ("b", "O")]), "its dtype is"),
        (np.ma.masked_array([1, 2], [True, False]), "subclass of numpy.ndarray"),
        (np.float64(1.5), "numpy.float64, which JSON cannot hold"),
    ],
)
def test_an_array_that_would_need_pickle_or_lose_its_mask_is_refused(
    kept: Kept, array: Any, match: str
) -> None:
    kept.refuses(array, match)


plain_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@few
@given(value=plain_json | st.dictionaries(st.sampled_from(["$float", "$dict", "a"]), st.text()))
def test_what_json_can_hold_comes_back_equal_and_of_the_same_type(kept: Kept, value: Any) -> None:
    assert repr(kept.back(value)) == repr(value)


def test_bytes_come_back_as_they_were(kept: Kept) -> None:
    assert kept.back(b"\x00\xff") == b"\x00\xff"


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ({"a": (1, 2)}, r"value\['a'\] is a builtins.tuple"),
        ([{1, 2}], r"value\[0\] is a builtins.set"),
        ({1: "a"}, "has the key 1, a int"),
        ({"t": dt.date(2020, 1, 1)}, "datetime.date"),
        ({"n": np.int64(1)}, "numpy.int64"),
        (bytearray(b"a"), "bytearray"),
        (object(), "builtins.object"),
        (lambda: 1, "function"),
    ],
)
def test_what_json_would_change_is_refused_with_its_place(kept: Kept, value: Any, match: str) -> None:
    kept.refuses(value, match)


def test_a_value_that_holds_itself_is_refused(kept: Kept) -> None:
    value: list[Any] = []
    value.append(value)
    kept.refuses(value, "holds itself")


X = np.random.default_rng(0).normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)


@pytest.mark.parametrize(
    "estimator",
    [
        LinearRegression(),
        SVC(probability=False),
        RandomForestClassifier(3, random_state=0),
        HistGradientBoostingClassifier(max_iter=3, random_state=0),
        make_pipeline(StandardScaler(), LogisticRegression()),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_an_estimator_comes_back_and_predicts_the_same(kept: Kept, estimator: Any) -> None:
    thing = kept.put(estimator.fit(X, Y))
    for wanted in (type(estimator), BaseEstimator):
        assert (kept.get(thing, wanted).predict(X) == estimator.predict(X)).all()
    assert kept.put(estimator).data_version == thing.data_version
    with pytest.raises(WrongForm, match="holds a scikit-learn estimator"):
        kept.get(thing, dict)


class Own(BaseEstimator):
    def fit(self, x: Any, y: Any = None) -> "Own":
        return self


def test_a_type_that_skops_does_not_trust_is_refused_until_it_is_named(kept: Kept) -> None:
    name = f"{__name__}.Own"
    kept.refuses(Own(), rf"{name}.*trusted_types")
    thing = kept.put(Own(), trusted=[name])
    assert isinstance(kept.get(thing, BaseEstimator, trusted=[name]), Own)
    with pytest.raises(UntrustedModel, match=f"{name}.*trusted_types"):
        kept.get(thing, BaseEstimator)
    kept.refuses(FunctionTransformer(os.system), "system")


def test_an_artifact_that_was_changed_is_not_loaded(kept: Kept) -> None:
    thing = kept.put(LinearRegression())
    path = Path(thing.artifact_path("value.skops"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DamagedThing, match="do not match their hash"):
        kept.get(thing, LinearRegression)


@pytest.mark.parametrize(
    ("value", "wanted", "match"),
    [
        (THREE, dict, "asks for `made` of p as builtins.dict, but made of .* holds a table"),
        (THREE, np.ndarray, "as numpy.ndarray, but .* holds a table"),
        ({"a": 1}, pd.DataFrame, "as pandas.DataFrame, but .* holds a dict"),
        ({"a": 1}, list, "as builtins.list, but .* holds a dict"),
        ("text", bytes, "as builtins.bytes, but .* holds a str"),
        (1.5, int, "as builtins.int, but .* holds a float"),
        (b"a", str, "holds bytes"),
        (np.eye(2), pa.Table, "holds a numpy.ndarray"),
        (THREE, set, "which is none of resources.things.Thing, pandas.DataFrame"),
        (THREE.assign(y=1), pd.Series, "has 2 columns: 'x', 'y'; name one in `columns`"),
        (LinearRegression(), SVC, "holds a LinearRegression"),
        (Draft(artifacts={"a.png": b""}), bytes, r"the artifacts a.png \(annotate it as Thing\)"),
        (Draft(), str, "parameters, metrics and labels only"),
    ],
)
def test_a_form_that_does_not_fit_is_refused_with_what_is_stored(
    kept: Kept, value: Any, wanted: Any, match: str
) -> None:
    with pytest.raises(WrongForm, match=match):
        kept.back(value, wanted)


MIXED = pa.table(
    {"k": ["a", "b", None], "n": [1, 2**60, None], "when": pa.array([1, 2, 3], pa.timestamp("us"))}
)


@pytest.mark.parametrize("value", [MIXED, pl.DataFrame(MIXED), MIXED.to_reader(), ds.dataset(MIXED)])
def test_a_table_of_any_kind_is_handed_over_as_any_other(kept: Kept, value: Any) -> None:
    thing = kept.put(value)
    rows = MIXED.to_pylist()
    assert kept.get(thing, pa.Table).to_pylist() == rows
    assert kept.get(thing, pa.RecordBatchReader).read_all().to_pylist() == rows
    assert kept.get(thing, ds.Dataset).to_table().to_pylist() == rows
    assert kept.get(thing, pl.DataFrame).rows(named=True) == rows
    assert kept.get(thing, pl.LazyFrame).collect().rows(named=True) == rows
    frame = kept.get(thing, pd.DataFrame)
    assert frame["n"].dtype == "Int64"
    assert frame["n"].tolist() == [1, 2**60, pd.NA]


LABELLED = pd.DataFrame(
    {"k": ["a", "b", "c"], "n": [1, 2, 3], "c": pd.Categorical(["u", "v", "u"])},
    index=pd.Index([7, 8, 9], name="id"),
)
TABULAR = (pd.DataFrame, pa.Table, pa.RecordBatchReader, ds.Dataset, pl.DataFrame, pl.LazyFrame)


def rows_in(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, ds.Dataset):
        value = value.to_table()
    if isinstance(value, pa.RecordBatchReader):
        value = value.read_all()
    if isinstance(value, pl.LazyFrame):
        value = value.collect()
    if isinstance(value, pd.DataFrame):
        return value.to_dict("records")
    return value.to_pylist() if isinstance(value, pa.Table) else value.rows(named=True)


@pytest.mark.parametrize("wanted", TABULAR)
@pytest.mark.parametrize(
    "filter",
    [[("n", ">", 1)], [["n", ">", 1]], [[("n", "=", 2)], [("n", "in", [3])]], pc.field("n") > 1],
    ids=["tuples", "lists", "either of two", "expression"],
)
def test_only_the_declared_columns_and_rows_are_read(kept: Kept, wanted: Any, filter: Any) -> None:
    thing = kept.put(LABELLED)
    got = kept.get(thing, wanted, columns=["n", "k"], filter=filter)
    rows = rows_in(got)
    assert rows == [{"n": 2, "k": "b"}, {"n": 3, "k": "c"}]
    assert list(rows[0]) == ["n", "k"]
    if wanted is pd.DataFrame:
        assert got.index.tolist() == [8, 9]


def test_rows_can_be_chosen_by_a_column_that_is_not_handed_over_but_of_a_lazy_dataset(kept: Kept) -> None:
    thing = kept.put(LABELLED)
    for wanted in TABULAR:
        if wanted is not ds.Dataset:
            assert rows_in(kept.get(thing, wanted, columns=["k"], filter=[("n", "=", 2)])) == [{"k": "b"}]
    with pytest.raises(WrongForm, match="add those of `filter` to `columns`"):
        kept.get(thing, ds.Dataset, columns=["k"], filter=[("n", "=", 2)])


@pytest.mark.parametrize("wanted", TABULAR)
@pytest.mark.parametrize(
    ("selection", "match"),
    [
        (
            {"columns": ["n", "zz"]},
            "`columns` names 'zz', and made of .* has no such column; it has 'k', 'n'",
        ),
        ({"columns": "n"}, "`columns` is 'n'; give a list of names"),
        ({"filter": [("zz", "=", 1)]}, "`filter` names 'zz'"),
        ({"filter": pc.field("zz") == 1}, "`filter` does not fit"),
        ({"filter": [("n", "=", "text")]}, "`filter` does not fit"),
        ({"filter": [("n", "near", 1)]}, "`filter` is"),
        ({"filter": 5}, "`filter` is 5"),
    ],
)
def test_columns_and_filters_that_do_not_fit_are_refused_by_name(
    kept: Kept, wanted: Any, selection: dict[str, Any], match: str
) -> None:
    with pytest.raises(WrongForm, match=match):
        kept.get(kept.put(LABELLED), wanted, **selection)


def test_columns_of_what_is_no_table_are_refused(kept: Kept) -> None:
    for wanted in (dict, Thing):
        with pytest.raises(WrongForm, match="`columns`"):
            kept.get(kept.put({"a": 1}), wanted, columns=["a"])


def test_a_range_index_is_counted_anew_where_a_filter_leaves_rows_out(kept: Kept) -> None:
    back = kept.get(kept.put(THREE), pd.DataFrame, filter=[("x", ">", 1)])
    assert (back.index.tolist(), back["x"].tolist()) == ([0, 1], [2, 3])


def test_a_lazy_frame_stops_reading_and_leaves_columns_out(kept: Kept) -> None:
    lazy = kept.get(kept.put(MIXED), pl.LazyFrame)
    assert lazy.head(1).collect().height == 1
    assert lazy.select("n").filter(pl.col("n") > 1).collect().rows() == [(2**60,)]


def test_a_stream_that_breaks_leaves_nothing_behind(kept: Kept) -> None:
    def breaking() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"x": [1]})
        raise ValueError("the source went away")

    before = list(kept.store.lake.files("things"))
    with pytest.raises(ValueError, match="the source went away"):
        kept.put(pa.RecordBatchReader.from_batches(pa.schema([("x", pa.int64())]), breaking()))
    assert list(kept.store.lake.files("things")) == before


STREAMING = """
import json, resource, sys
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.dataset as ds, polars as pl
from resources.settings import Settings
from resources.store import Store
from resources.things import Partition
from resources.values import draft_of, value_of

kind, home, batches = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
store = Store.open(Settings(home=home))
schema = pa.schema([(f"c{n}", pa.float64()) for n in range(16)])

def made():
    for number in range(batches):
        yield pa.record_batch([np.full(131_072, number + n, dtype=float) for n in range(16)], schema=schema)

def lazily(with_columns, predicate, rows, size):
    for batch in made():
        yield pl.from_arrow(pa.Table.from_batches([batch]))

from polars.io.plugins import register_io_source
value = {
    "reader": lambda: pa.RecordBatchReader.from_batches(schema, made()),
    "lazy": lambda: register_io_source(lazily, schema={f"c{n}": pl.Float64 for n in range(16)}),
}[kind]()
thing = store.commit("made", Partition({"partition": "p"}), draft_of(value, "made"))
if kind == "reader":
    rows = sum(batch.num_rows for batch in value_of(thing, pa.RecordBatchReader, "read"))
else:
    rows = value_of(thing, pl.LazyFrame, "read").select(pl.len()).collect(engine="streaming").item()
assert rows == thing.rows == batches * 131_072
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize("kind", ["reader", "lazy"])
def test_a_stream_of_any_length_is_written_and_read_in_the_memory_of_a_row_group(
    kind: str, tmp_path: Path
) -> None:
    def peak(batches: int) -> float:
        command = [sys.executable, "-c", STREAMING, kind, str(tmp_path / str(batches)), str(batches)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return int(done.stdout) / 1024

    # 8 batches are one row group of 128 MiB; 48 are 768 MiB, of which most may never be there at once.
    assert peak(48) - peak(8) < 300
