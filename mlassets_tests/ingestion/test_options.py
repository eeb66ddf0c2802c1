import json

from hypothesis import given
from hypothesis import strategies as st

from mlassets.ingestion.options import ReadOptions

options = st.builds(
    ReadOptions,
    delimiter=st.none() | st.sampled_from([",", ";"]),
    header=st.none() | st.booleans(),
    skip_rows=st.integers(0, 3),
    nulls=st.none() | st.lists(st.text(max_size=3), max_size=3).map(tuple),
    types=st.dictionaries(st.text(max_size=3), st.sampled_from(["text", "decimal(10,2)"]), max_size=3),
    widths=st.none() | st.lists(st.integers(1, 9), max_size=3).map(tuple),
    on_bad_rows=st.sampled_from(["fail", "skip"]),
)


@given(options)
def test_options_come_back_from_json(given_options: ReadOptions) -> None:
    assert ReadOptions.from_dict(json.loads(json.dumps(given_options.as_dict()))) == given_options


def test_only_what_was_given_is_named_in_one_order() -> None:
    assert ReadOptions().as_dict() == {}
    one = ReadOptions(types={"b": "text", "a": "text"}, header=False)
    other = ReadOptions(header=False, types={"a": "text", "b": "text"})
    assert json.dumps(one.as_dict()) == json.dumps(other.as_dict())
