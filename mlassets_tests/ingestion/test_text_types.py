from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlassets.ingestion.options import ReadOptions
from mlassets.ingestion.text_types import Column, Reading, TextTypes, typed

numbers = [
    "1",
    "-7",
    "0.5",
    "1e3",
    "1,5",
    "1.234,5",
    "1,234",
    "1.234",
    "9223372036854775807",
    "9223372036854775808",
]
moments = [
    "2024-01-31",
    "2024-01-31 10:00",
    "31/12/2024",
    "03/04/2024",
    "12/31/2024",
    "1.2.2024 9:05",
    "2024/01/31",
]
others = [
    None,
    "",
    " ",
    "NA",
    "n/a",
    "-",
    "nan",
    "NaN",
    "inf",
    "true",
    "FALSE",
    "0",
    "007",
    "+1",
    "x",
    "2024-01-01T00:00:00Z",
]
values = st.sampled_from([*numbers, *moments, *others])
some_options = st.sampled_from(
    [
        ReadOptions(),
        ReadOptions(decimal=","),
        ReadOptions(thousands=","),
        ReadOptions(nulls=("-", "x")),
        ReadOptions(date_format="%d/%m/%Y"),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(values, max_size=6), st.lists(values, max_size=6), some_options)
def test_a_type_depends_on_the_values_and_not_on_how_they_are_cut(
    first: list[Any], second: list[Any], options: ReadOptions
) -> None:
    types = TextTypes(options)
    one, other = pa.array(first, pa.string()), pa.array(second, pa.string())

    def settled(column: Column, *chunks: pa.Array) -> list[Reading]:
        while column.wants_another_look:
            column = replace(column, unsure=False)
            for chunk in chunks:
                column = types.look(chunk, column)
        return types.resolve([column])

    whole = pa.concat_arrays([one, other])
    wanted = settled(types.look(whole, Column()), whole)
    apart = types.look(one, Column()).join(types.look(other, Column()))
    assert settled(apart, one, other) == wanted
    assert settled(types.look(other, types.look(one, Column())), one, other) == wanted
    assert settled(types.look(one, types.look(other, Column())), one, other) == wanted
    read = types.values(whole, wanted[0])
    assert read is not None
    assert read.type == wanted[0].kind


@settings(max_examples=100, deadline=None)
@given(st.lists(values, max_size=6))
def test_only_what_stands_for_null_becomes_null(cells: list[Any]) -> None:
    array, found = typed(pa.array(cells, pa.string()), ReadOptions())
    nulls = {None, "", " ", "NA", *found.get("nulls", ())}
    for cell, value in zip(cells, array.to_pylist(), strict=True):
        assert (value is None) == (cell in nulls) or (pa.types.is_string(array.type) and value == cell)


@pytest.mark.parametrize(
    ("wanted", "cells", "bad"),
    [
        ("integer", ["1", "x", "2.0", None, "3"], [1, 2]),
        ("number", ["1", "x", "1e5"], [1]),
        ("boolean", ["true", "1", "False"], [1]),
        ("date", ["2024-01-31", "2024-02-31", "03/04/2024"], [1, 2]),
        ("decimal(5,2)", ["1.25", "1.255", "12345.00"], [1, 2]),
        ("text", ["1", "x"], []),
    ],
)
def test_values_that_are_not_of_a_given_type_are_found_one_by_one(
    wanted: str, cells: list[Any], bad: list[int]
) -> None:
    types = TextTypes(ReadOptions(types={"k": wanted}))
    reading = types.forced("k")
    assert reading is not None
    array, wrong = types.as_given(pa.array(cells, pa.string()), reading.kind)
    assert wrong == bad
    assert array.type == reading.kind
    assert [at for at, cell in enumerate(cells) if cell is not None and not array[at].is_valid] == bad
