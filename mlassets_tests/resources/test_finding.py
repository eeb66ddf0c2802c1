"""`find` finds what its definition says, in both forms of the language and on both databases."""

import math
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlassets_tests.resources.oracle import Oracle
from mlassets_tests.resources.test_catalog import explained, statements
from mlassets_tests.servers import PostgresServer
from resources import finding
from resources.filters import BadQuery, parse
from resources.finding import names_of, unknown_names
from resources.settings import Settings
from resources.store import Store
from resources.things import Draft, Partition
from resources.verdicts import Verdict

PARIS = timezone(timedelta(hours=1))
NUMBERS = [
    *(0, 1, -1, 0.5, 1.0, -0.0, 2**53 - 1, 2**53, 2**53 + 1, 2**53 + 2, float(2**53), -(2**53) - 1),
    *(
        2**63 - 1,
        2**63 - 2,
        -(2**63),
        2**63,
        2.0**63,
        10**400,
        -(10**400),
        1e308,
        math.inf,
        -math.inf,
        math.nan,
    ),
]
METRICS = [one for one in NUMBERS if abs(one) < 2**64 or not isinstance(one, int)]
TEXTS = [
    *("", "a", "AB-123", "ab-123", "1", "true", "null", "nan", 'quo"te', "it's", "back\\slash", "é", "z"),
    *("\uffff", "\U0001f600", "$ne", "%", "_", "a\nb", "a\0b", "in(", "a)", "x" * 299, "x" * 300, "x" * 301),
    *("x" * 10_000, "x" * 10_000 + "y"),
]
INSTANT = datetime(2026, 1, 31, 12, tzinfo=UTC)
OTHERS = [
    *(True, False, None, INSTANT, INSTANT.astimezone(PARIS), INSTANT + timedelta(microseconds=1)),
    *(
        datetime(9000, 1, 1, tzinfo=UTC),
        datetime(9000, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
        datetime(1, 1, 2, tzinfo=UTC),
    ),
]
UNFINDABLE = [[1, 2], [], {}]
NAMES = [
    *(
        "ticket",
        "a.b",
        "$x",
        'q"uo',
        "sp ace",
        "é",
        "k" * 10_000,
        "k" * 10_000 + "z",
        "step",
        "in(",
        "=",
        "..",
        "a.b.c",
    ),
    *("\0", "back\\slash"),
]
COLUMNS = {
    "step": ["model", "uploads", "nosuch", ""],
    "partition": ["late|EWR", "late", "split"],
    "project": ["late", "other", None],
    "segment": ["EWR", None],
    "name": ["split", "a|b", None],
    "code_version": ["1", None],
    "size": [0, 2, 5.5, math.inf, -math.inf, 2**70],
    "rows": [3, None],
    "created_at": ["2020-01-01T00:00:00+00:00", datetime(2100, 1, 1, tzinfo=PARIS)],
    "retired_at": [None, "2020-01-01T00:00:00+00:00"],
    "file": ["data.parquet", "note.txt", "é.txt"],
    "hash": ["nosuch"],
    "verdicts.fine": ["passed", "failed"],
    "verdicts.nosuch": ["passed"],
    "provenance.user": ["nobody-else"],
    "provenance.pid": [0],
    "provenance.git": [None],
    "provenance.started_at": [None],
    "provenance.ended_at": ["2020-01-01T00:00:00+00:00", INSTANT],
    "provenance.nosuch": [1],
}
PATTERNS = [
    "",
    "a",
    "^AB",
    "(?i)^ab-\\d+$",
    "x{300}y$",
    "[é\U0001f600]",
    "^$",
    "\\.txt$",
    "passed|EWR",
    "\\\\",
    '"',
    ".",
]
PLACES = [
    ("model", Partition.segment("late", "EWR")),
    ("model", Partition.segment("late", "JFK")),
    ("review", Partition.project("late")),
    ("uploads", Partition({"name": "split"})),
    ("uploads", Partition({"name": "a|b"})),
]
KINDS = ("labels", "parameters")


def draft(chance: random.Random) -> Draft:
    """A Thing of values that are hard to tell apart, under names that are hard to write."""

    def values() -> dict[str, Any]:
        pools = (NUMBERS, TEXTS, OTHERS, UNFINDABLE)
        found = {name: chance.choice(chance.choice(pools)) for name in NAMES if chance.random() < 0.5}
        if chance.random() < 0.3:
            found["a"] = {"b": chance.choice(NUMBERS)}
        return found

    files = {name: bytes(chance.randrange(4)) for name in ("note.txt", "é.txt") if chance.random() < 0.3}
    return Draft(
        dataset=pa.table({"a": range(3)}) if chance.random() < 0.3 else None,
        parameters=values(),
        metrics={name: chance.choice(METRICS) for name in ("roc_auc", "a.b") if chance.random() < 0.7},
        labels=values(),
        artifacts=files,
        code_version=chance.choice(["1", None]),
    )


def populate(store: Store, things: int = 60, seed: int = 0) -> None:
    chance = random.Random(seed)
    made = store.commit_all((*chance.choice(PLACES), draft(chance)) for _ in range(things))
    for thing in made:
        for run in range(chance.randrange(3)):
            status = chance.choice(["passed", "failed"])
            store.record_verdicts(thing.id, f"run{run}", [Verdict("fine", status, "WARN", 1, "", 1, "", {})])
        if chance.random() < 0.2:
            store.retire(thing.id, "for the test")


@pytest.fixture(scope="module", params=["SQLite", "PostgreSQL"])
def oracle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oracle]:
    """A store of hard cases on one database, and what is known of them without it."""
    home = tmp_path_factory.mktemp("found")
    if request.param == "SQLite":
        store = Store.open(Settings(home=home))
        populate(store)
        yield Oracle(store)
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.make_database()
    store = Store.open(Settings(home=home, catalog=server.url(name)))
    populate(store)
    yield Oracle(store)
    store.catalog.close()
    server.drop_database(name)


# Queries ------------------------------------------------------------------------------------------------------------

values_of_any_type = st.sampled_from([*NUMBERS, *TEXTS, *OTHERS])
ordered_values = st.sampled_from([one for one in [*NUMBERS, *TEXTS, *OTHERS] if one is not None])
patterns = st.sampled_from(PATTERNS)


def operations(
    field: str, values: st.SearchStrategy[Any], ordered: st.SearchStrategy[Any], texts: bool
) -> Any:
    """What a field may be asked."""
    simple = st.one_of(
        st.tuples(st.sampled_from(["$eq", "$ne"]), values),
        st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), ordered),
        st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(values, max_size=4)),
        st.tuples(st.just("$exists"), st.booleans()),
        *([st.tuples(st.just("$regex"), patterns)] if texts else []),
    )
    several = st.lists(simple, min_size=1, max_size=2).map(dict)
    whole = st.one_of(several, several.map(lambda one: {"$not": one}), values)
    return whole.map(lambda one: {field: one})


def of_column(field: str) -> Any:
    pool = COLUMNS[field]
    ordered = [one for one in pool if one is not None and not (isinstance(one, float) and math.isnan(one))]
    texts = all(isinstance(one, str) or one is None for one in pool) and not field.endswith("_at")
    return operations(field, st.sampled_from(pool), st.sampled_from(ordered or pool), texts)


attributes = st.tuples(st.sampled_from(["labels", "parameters"]), st.sampled_from([*NAMES, "nosuch"])).map(
    ".".join
)
conditions = st.one_of(
    attributes.flatmap(lambda field: operations(field, values_of_any_type, ordered_values, True)),
    st.sampled_from(["metrics.roc_auc", "metrics.a.b"]).flatmap(
        lambda field: operations(field, st.sampled_from(METRICS), st.sampled_from(METRICS), True)
    ),
    st.sampled_from([one for one in COLUMNS if COLUMNS[one] != [None]]).flatmap(of_column),
)
queries = st.recursive(
    conditions,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"$and": parts}),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"$or": parts}),
        inner.map(lambda part: {"$not": part}),
    ),
    max_leaves=5,
)
many = settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@contextmanager
def looking(rare: int, far: int) -> Iterator[None]:
    """Take the ways to look that large catalogs take, in a small one."""
    before = finding._RARE, finding._FAR
    finding._RARE, finding._FAR = rare, far
    yield
    finding._RARE, finding._FAR = before


@many
@given(
    query=queries,
    retired=st.booleans(),
    ways=st.sampled_from([(1000, 20_000), (2, 5), (2, 1000), (0, 1)]),
    limit=st.sampled_from([None, 3, 1000]),
    sort=st.sampled_from(["-created_at", "-metrics.roc_auc", "labels.ticket"]),
)
def test_find_finds_what_the_definition_says(
    oracle: Oracle,
    query: Mapping[str, Any],
    retired: bool,
    ways: tuple[int, int],
    limit: int | None,
    sort: str,
) -> None:
    retired = retired or "retired_at" in str(query)
    expected = oracle.find(query, retired=retired)
    with looking(*ways):
        found = oracle.store.find(query, retired=retired, limit=limit, sort=sort)
        assert found.count() == len(expected)
        ids = found.ids()
    if sort != "-created_at":
        order = oracle.sorted_by(sort.lstrip("-"), descending=sort.startswith("-"), retired=True)
        expected = sorted(expected, key=order.index)
    assert ids == expected[:limit]


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def written_value(value: Any) -> str:
    """A value as the text language has it."""
    if isinstance(value, str):
        return quoted(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return value.isoformat() if isinstance(value, datetime) else repr(value)


def written(query: Mapping[str, Any]) -> str:
    """A query as one line of text."""
    return " ".join(_written_part(key, value) for key, value in query.items())


def _written_part(key: str, value: Any) -> str:
    if key in ("$and", "$or"):
        joined = " and " if key == "$and" else " or "
        return "(" + joined.join(f"({written(one)})" for one in value) + ")"
    if key == "$not":
        return f"not ({written(value)})"
    root, dot, name = key.partition(".")
    field = f"{root}.{quoted(name)}" if dot and not name.isalnum() else key
    operators = value if isinstance(value, Mapping) else {"$eq": value}
    return " ".join(_written_operation(field, operator, operand) for operator, operand in operators.items())


def _written_operation(field: str, operator: str, operand: Any) -> str:
    signs = {"$eq": "=", "$ne": "!=", "$gt": ">", "$gte": " >= ", "$lt": "<", "$lte": "<=", "$regex": "~"}
    if operator in signs:
        return f"{field}{signs[operator]}{written_value(operand)}"
    if operator == "$exists":
        return f"{field}?" if operand else f"not {field}?"
    if operator == "$not":
        inner = " ".join(_written_operation(field, *one) for one in operand.items())
        return f"not ({inner})"
    listed = ", ".join(map(written_value, operand))
    return f"{field} in({listed})" if operator == "$in" else f"{field}!=in({listed})"


@settings(max_examples=100, deadline=None)
@given(query=queries)
def test_both_forms_of_a_query_are_one_tree(query: Mapping[str, Any]) -> None:
    assert parse(written(query)) == parse(query)


WORDS = [
    *(
        "labels.a",
        "step",
        "=",
        "!=",
        ">",
        "~",
        "in(",
        ",",
        "(",
        ")",
        '"',
        "not",
        "or",
        "and",
        "?",
        "since",
        "7d",
    ),
    *(" ", "1", "null", "\\"),
]


@given(text=st.text(max_size=60) | st.lists(st.sampled_from(WORDS), max_size=12).map("".join))
def test_any_text_is_understood_or_refused(text: str) -> None:
    with suppress(BadQuery):
        assert parse(text) == parse(f" {text} ")


@pytest.mark.parametrize("field", [
    *("metrics.roc_auc", "labels.ticket", "parameters.a.b", "created_at", "size", "rows", "name", "step"),
    *("verdicts.fine", "code_version", "provenance.ended_at"),
])  # fmt: skip
@pytest.mark.parametrize("sign", ["", "-"])
def test_what_is_sorted_has_those_without_a_value_last(oracle: Oracle, field: str, sign: str) -> None:
    expected = oracle.sorted_by(field, descending=bool(sign))
    find = oracle.store.find
    assert find(sort=f"{sign}{field}").ids() == expected
    assert find(sort=f"{sign}{field}", limit=7).ids() == expected[:7]
    assert find(sort=f"{sign}{field}", limit=7, offset=5).ids() == expected[5:12]
    assert find(sort=f"{sign}{field}", offset=5).ids() == expected[5:]
    assert find(sort=f"{sign}{field}", limit=0).ids() == []


def test_several_fields_sort_one_after_the_other(oracle: Oracle) -> None:
    by_step = oracle.store.find(sort=["step", "-metrics.roc_auc"]).ids()
    step = {thing.id: thing.step for thing in oracle.things}
    by_metric = oracle.sorted_by("metrics.roc_auc", descending=True)
    assert by_step == sorted(by_metric, key=step.__getitem__)


def test_pages_together_are_the_whole(oracle: Oracle) -> None:
    whole = oracle.store.browse().ids()
    pages = [oracle.store.browse(limit=7, offset=start).ids() for start in range(0, len(whole), 7)]
    assert [one for page in pages for one in page] == whole == oracle.find({})
    assert {page and oracle.store.browse(limit=7, offset=3).count() for page in map(len, pages)} == {
        len(whole)
    }


def test_the_first_and_the_things_are_those_of_the_ids(oracle: Oracle) -> None:
    found = oracle.store.find({"step": "model"})
    assert [thing.id for thing in found] == found.ids()
    assert found.first() == found.things()[0]
    assert oracle.store.find({"step": "nosuch"}).first() is None
    assert all(thing.retired_at is None for thing in found)
    assert any(thing.retired_at for thing in oracle.store.find(retired=True))


def test_a_frame_has_what_the_things_have(oracle: Oracle) -> None:
    found = oracle.store.find(limit=40)
    things = found.things()
    table = found.to_arrow()
    assert table["id"].to_pylist() == [thing.id for thing in things]
    assert table["created_at"].to_pylist() == [thing.created_at for thing in things]
    assert table["rows"].to_pylist() == [thing.rows for thing in things]
    for thing, value in zip(things, table["metrics.roc_auc"].to_pylist(), strict=True):
        there = thing.metrics.get("roc_auc")
        assert value == there or (there is not None and math.isnan(there) and math.isnan(value))
    chosen = found.to_arrow(["labels.ticket", "id", "metrics.*", "labels.nosuch"])
    assert chosen.column_names == ["labels.ticket", "id", "metrics.a.b", "metrics.roc_auc", "labels.nosuch"]
    # The values of a label are of every type here: as text.
    for thing, text in zip(things, chosen["labels.ticket"].to_pylist(), strict=True):
        value = thing.labels.get("ticket")
        assert (text is None) == (value is None)
        if isinstance(value, str):
            assert text == value.replace("\0", "\ufffd")
    assert len(found.to_pandas()) == found.to_polars().height == len(things)
    assert oracle.store.find({"step": "nosuch"}).to_arrow().num_rows == 0


def test_a_column_of_a_frame_has_the_type_that_all_its_values_have(tmp_path: Path) -> None:
    store = Store.open(Settings(home=tmp_path))
    kinds = {
        "number": 0.5,
        "truth": True,
        "time": INSTANT,
        "text": "a",
        "large": 2**60 + 1,
        "list": [1, None],
        "mixed": 1,
    }
    store.log(labels={**kinds, "none": None})
    store.log(labels={"mixed": "b", "number": 2})
    store.log()
    table = store.browse().to_arrow(["labels.*"])
    types = {field.name.removeprefix("labels."): str(field.type) for field in table.schema}
    assert types == {
        **{"number": "double", "truth": "bool", "time": "timestamp[us, tz=UTC]", "text": "string"},
        **{"large": "int64", "list": "string", "mixed": "string", "none": "double"},
    }
    assert table["labels.large"].to_pylist() == [None, None, 2**60 + 1]
    assert table["labels.mixed"].to_pylist() == [None, "b", "1"]
    assert table["labels.list"].to_pylist() == [None, None, "[1, null]"]
    assert table["labels.time"].to_pylist()[2] == INSTANT


REFUSED: dict[str, tuple[Any, str]] = {
    "unknown operator": ({"metrics.auc": {"$get": 1}}, r"no operator '\$get'. Did you mean .*\$gte"),
    "unknown operator at the top": ({"$nor": []}, r"no operator '\$nor'. Did you mean .*\$or"),
    "operator in the wrong place": ({"$gt": 5}, "stands within a field"),
    "unknown field": ({"stp": "model"}, r"no field 'stp'. Did you mean step\?"),
    "unknown root": ({"label.ticket": 1}, r"Did you mean labels\?"),
    "nothing near": ({"ticket": 1}, "a label's field is labels.ticket"),
    "field is no text": ({5: 1}, "names of fields are text"),
    "root alone": ({"labels": {"ticket": 1}}, "labels.<name>"),
    "nested name": ({"labels.a": {"b": 1}}, "labels.a.b"),
    "no operators": ({"labels.a": {}}, "says nothing"),
    "text for a number": ({"size": "large"}, "size is a number"),
    "number for a text": ({"segment": 7}, "give it as text, '7'"),
    "a list": ({"labels.a": [1]}, r"use \$in"),
    "bytes": ({"labels.a": b"x"}, "a bytes"),
    "a naive time": ({"created_at": {"$gt": datetime(2026, 1, 1)}}, "no time zone.*astimezone"),
    "a naive time in a label": ({"labels.due": datetime(2026, 1, 1)}, "no time zone"),
    "a date": ({"labels.due": datetime(2026, 1, 1).date()}, "without a time"),
    "no time": ({"created_at": "yesterday"}, "'yesterday' is none"),
    "$in of no list": ({"step": {"$in": "model"}}, "take a list"),
    "$in of too many": ({"labels.a": {"$in": list(range(20_000))}}, "10000 is the most"),
    "$exists of no truth value": ({"labels.a": {"$exists": 1}}, "true or false"),
    "order of null": ({"labels.a": {"$gt": None}}, "than null"),
    "bad regex": ({"step": {"$regex": "(a"}}, r"'\(a' is no regular expression of RE2: missing"),
    "look-around": ({"step": {"$regex": "(?=a)"}}, "no look-around"),
    "backreference": ({"step": {"$regex": "(a)\\1"}}, "no backreferences"),
    "regex of a time": ({"created_at": {"$regex": "2026"}}, "created_at is a time"),
    "regex is no text": ({"step": {"$regex": 5}}, "is a text, not 5"),
    "regex too long": ({"step": {"$regex": "a" * 2000}}, "1000 is the most"),
    "regex too large": ({"step": {"$regex": "((a{1,1000}){1,1000}){1,1000}"}}, "is no regular expression"),
    "empty $or": ({"$or": []}, "at least one"),
    "$or of no queries": ({"$or": ["step"]}, "which are mappings"),
    "$not of no query": ({"$not": 5}, r"\$not takes a query"),
    "$not of a value": ({"labels.a": {"$not": 5}}, r"use \$ne"),
    "no query": (5, "a mapping or a text"),
    "a word": ("model", "'model' is no condition"),
    "no value": ("step=", 'the empty text is ""'),
    "open quote": ('step="model', "not closed"),
    "open parenthesis": ("(step=model", "not closed"),
    "closed too often": ("step=model)", r"`\)` too many"),
    "after a quote": ('step="a"b', "must be a space"),
    "open list": ("step in(a,b", "not closed"),
    "since when": ("since=lately", "a duration such as 7d"),
    "since is no field": ("since>7d", "since=7d"),
    "a naive time in a text": ("created_at>2026-01-31T12:00", "no time zone"),
    "too long ago": ("since=999999999w", "too long ago"),
    "so many digits": ("labels.a=" + "9" * 1500, "too many digits"),
    "too long": ("x" * 200_000, "100000 is the most"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_understood_is_refused_with_what_to_do(case: str) -> None:
    query, told = REFUSED[case]
    with pytest.raises(BadQuery, match=told):
        parse(query)


def test_a_query_of_any_depth_or_width_is_refused_before_it_hurts() -> None:
    deep: dict[str, Any] = {"step": "a"}
    for _ in range(5000):
        deep = {"$not": deep}
    for query in (deep, "(" * 5000 + "step=a" + ")" * 5000, "not " * 5000 + "step=a"):
        with pytest.raises(BadQuery, match="nested"):
            parse(query)
    with pytest.raises(BadQuery, match=r"use \$in"):
        parse({"$or": [{"step": str(number)} for number in range(1000)]})


@pytest.mark.parametrize("wrong", [{"sort": "nosuch"}, {"sort": ""}, {"sort": "-"}, {"sort": "file"}, {"limit": -1},
                                   {"limit": 1.5}, {"limit": True}, {"offset": -1}, {"sort": [5]}])  # fmt: skip
def test_wrong_pages_and_orders_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(BadQuery):
        Store.open(Settings(home=tmp_path)).find({}, **wrong)


def test_wrong_columns_of_a_frame_are_refused(oracle: Oracle) -> None:
    for wrong in (["nosuch"], ["verdicts.fine"], "id", ["provenance.*"]):
        with pytest.raises(BadQuery):
            oracle.store.browse().to_arrow(wrong)


def test_an_expression_that_would_blow_up_elsewhere_is_searched_in_linear_time(oracle: Oracle) -> None:
    # Backtracking would take 2^10000 steps on the longest of the texts.
    assert oracle.store.find({"labels.ticket": {"$regex": "(x+x+)+z"}}).ids() == []
    assert oracle.store.find({"labels.ticket": {"$regex": "(x+x+)+y"}}).count() >= 0


def test_many_values_are_looked_for_at_once(oracle: Oracle) -> None:
    listed = [*(f"nosuch{number}" for number in range(900)), *TEXTS, *range(90)]
    query = {
        "$or": [
            {"labels.ticket": {"$in": listed}},
            {"step": {"$nin": listed[:900]}, "id": {"$in": listed[:700]}},
        ]
    }
    assert oracle.store.find(query).ids() == oracle.find(query)


def test_as_many_conditions_as_are_allowed_are_tried(oracle: Oracle) -> None:
    each = [{"labels.ticket": {"$gt": number}} for number in range(200)]
    deep: dict[str, Any] = {"labels.ticket": {"$regex": "AB"}}
    for _ in range(19):
        deep = {"$not": {"$or": [deep, {"step": "nosuch"}]}}
    for query in ({"$or": each}, deep):
        assert oracle.store.find(query).ids() == oracle.find(query)


def test_names_that_nobody_has_are_told_with_what_comes_near(oracle: Oracle) -> None:
    store = oracle.store
    found = names_of(store.catalog, "label")
    assert {"ticket", "a.b", "$x", "é"} <= set(found)
    assert names_of(store.catalog, "metric") == ["a.b", "roc_auc"]
    told = unknown_names(store.catalog, parse("labels.tikcet=1 labels.ticket=2 metrics.roc_acu>0 step=model"))
    assert told == [
        "no Thing has a label 'tikcet'. Did you mean ticket?",
        "no Thing has a metric 'roc_acu'. Did you mean roc_auc?",
    ]


def test_what_is_rare_and_what_is_on_top_are_looked_up_in_an_index(tmp_path: Path, catalog_url: str) -> None:
    store = Store.open(Settings(home=tmp_path, catalog=catalog_url))
    drafts = (Draft(metrics={"auc": number}, labels={"ticket": f"AB-{number}"}) for number in range(60))
    made = store.commit_all(
        [("uploads", Partition({"name": f"n{number}"}), one) for number, one in enumerate(drafts)]
    )
    with statements(store) as asked, looking(5, 10):
        for query in (
            "labels.ticket=AB-7",
            "metrics.auc=7 step=uploads",
            "name=n7",
            "labels.ticket>AB-6 metrics.auc=7",
        ):
            assert store.find(query).ids() == [made[7].id]
        assert store.find(sort="-metrics.auc", limit=2).ids() == [made[59].id, made[58].id]
        assert store.find("step=uploads metrics.auc>3", limit=1).ids() == [made[59].id]
        assert store.get(made[7].short_id) == made[7]
    for text, values in asked:
        told = store.catalog.read(lambda connection: explained(connection, text, values))  # noqa: B023
        assert "SEQ SCAN" not in told, f"{text}\n{told}"
        lines = [line for line in told.splitlines() if line.startswith("SCAN")]
        # The order of time is walked in its index.
        assert all("USING" in line for line in lines), f"{text}\n{told}"
