"""What has to be seen on every row: counted in DuckDB, exactly and in seconds.

Rows are compared by a 64-bit hash of their values (nulls equal nulls); among ten million rows the chance that
two different ones share a hash is 3e-6, and would move a share by 1e-7.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mlassets.quality.judging import DoesNotApply, Observation
from resources.roles import ROW_KEY, SPLIT, features_of, target_of

# From this many rows on, a target with one value is no chance but a mistake. Training asks for as many.
FEWEST_ROWS = 50


def share(count: float, n: float) -> float:
    """Return `count / n`, and 0 of nothing."""
    return count / n if n else 0.0


def worst(shares: Mapping[str, float]) -> tuple[str, float]:
    """Return the column with the largest share, the first of several, or an empty name and 0."""
    return max(shares.items(), key=lambda item: item[1], default=("", 0.0))


def only_broken(shares: Mapping[str, float], most: int = 20) -> dict[str, float]:
    """Return the largest shares above 0, for a verdict's details."""
    above = sorted(((s, c) for c, s in shares.items() if s > 0), key=lambda pair: (-pair[0], pair[1]))
    return {column: value for value, column in above[:most]}


class _Rows:
    """A table in DuckDB under positional column names, so that no user-given name reaches SQL."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.n = table.num_rows
        self._names = {name: f"c{i}" for i, name in enumerate(table.column_names)}

    @cached_property
    def _connection(self) -> Any:
        import duckdb

        connection = duckdb.connect(config={"enable_external_access": "false"})
        connection.register("rows", self.table.rename_columns(list(self._names.values())))
        return connection

    def ask(self, query: str) -> tuple[Any, ...]:
        """Return the only row of a query's answer."""
        row = self._connection.execute(query).fetchone()
        return tuple(row) if row else ()

    def sql(self, column: str) -> str:
        """Return the name of a column in SQL."""
        return self._names[column]

    def hash(self, columns: Sequence[str]) -> str:
        """Return SQL for one number that stands for the values of several columns."""
        return f"hash({', '.join(self.sql(column) for column in columns)})"

    def type(self, column: str) -> pa.DataType:
        """Return the Arrow type of a column's values."""
        kind = self.table.schema.field(column).type
        return kind.value_type if pa.types.is_dictionary(kind) else kind


class DrawRows:
    """Exact observations on a draw.

    Args:
        table: The drawn rows.
        target: Name of the target column.
        features: Columns a model may learn from.
        key: Columns that identify a row, if any.
    """

    def __init__(
        self, table: pa.Table, *, target: str, features: Sequence[str], key: Sequence[str] = ()
    ) -> None:
        self._rows = _Rows(table)
        self.n = table.num_rows
        self._target, self._features, self._key = target, list(features), list(key)

    def rows(self) -> Observation:
        """Count the rows."""
        return Observation(self.n, self.n, f"{self.n:,} rows were drawn.")

    def target_values(self) -> Observation:
        """Count the target's distinct values."""
        self._need_rows()
        column = self._rows.sql(self._target)
        distinct, known = self._rows.ask(f"SELECT count(DISTINCT {column}), count({column}) FROM rows")
        if distinct == 1 and known < FEWEST_ROWS:
            raise DoesNotApply(
                f"`{self._target}` takes one value in {known:,} rows, too few to tell (fewer than {FEWEST_ROWS}); "
                "the model will be the baseline",
                self.n,
            )
        return Observation(
            distinct, self.n, f"`{self._target}` takes {distinct:,} values in {known:,} rows that know it."
        )

    def target_nulls(self) -> Observation:
        """Measure the share of unknown targets."""
        self._need_rows()
        nulls = self._rows.table[self._target].null_count
        return Observation(
            share(nulls, self.n), self.n, f"`{self._target}` is null in {nulls:,} of {self.n:,} rows."
        )

    def key_duplicates(self) -> Observation:
        """Measure the share of rows whose key stood in an earlier row."""
        self._need_rows()
        if not self._key:
            raise DoesNotApply("no key is named", self.n)
        (distinct,) = self._rows.ask(f"SELECT count(DISTINCT {self._rows.hash(self._key)}) FROM rows")
        twice, key = self.n - distinct, ", ".join(self._key)
        return Observation(share(twice, self.n), self.n, f"{twice:,} rows repeat the key ({key}) of another.")

    def duplicates(self) -> Observation:
        """Measure the share of rows that equal an earlier row in every column."""
        self._need_rows()
        columns = self._rows.table.column_names
        (distinct,) = self._rows.ask(f"SELECT count(DISTINCT {self._rows.hash(columns)}) FROM rows")
        twice = self.n - distinct
        return Observation(share(twice, self.n), self.n, f"{twice:,} of {self.n:,} rows equal another row.")

    def conflicting_labels(self) -> Observation:
        """Measure the share of rows whose features occur with several values of the target."""
        self._need_rows()
        self._need_features()
        label = self._rows.sql(self._target)
        groups, rows = self._rows.ask(
            f"SELECT count(*), coalesce(sum(size), 0) FROM (SELECT count(*) AS size FROM rows "
            f"WHERE {label} IS NOT NULL GROUP BY {self._rows.hash(self._features)} "
            f"HAVING min(hash({label})) <> max(hash({label})))"
        )
        found = (
            f"{int(rows):,} rows, in {groups:,} groups of equal features, disagree about `{self._target}`."
        )
        return Observation(share(int(rows), self.n), self.n, found, {"groups": groups})

    def nulls(self) -> Observation:
        """Measure the share of nulls per feature."""
        self._need_rows()
        self._need_features()
        shares = {c: share(self._rows.table[c].null_count, self.n) for c in self._features}
        column, most = worst(shares)
        found = f"`{column}` is null in {most:.2%} of the rows." if most else "No feature holds a null."
        return Observation(most, self.n, found, {"columns": only_broken(shares)})

    def non_finite(self) -> Observation:
        """Measure the share of infinite and not-a-number values per feature."""
        self._need_rows()
        floats = [c for c in self._features if pa.types.is_floating(self._rows.type(c))]
        if not floats:
            raise DoesNotApply("no feature holds floating-point numbers", self.n)
        counts = self._rows.ask(
            "SELECT "
            + ", ".join(f"count(*) FILTER (NOT isfinite({self._rows.sql(c)}))" for c in floats)
            + " FROM rows"
        )
        shares = {c: share(count, self.n) for c, count in zip(floats, counts, strict=True)}
        column, most = worst(shares)
        found = f"`{column}` is infinite or NaN in {most:.2%} of the rows." if most else "All are finite."
        return Observation(most, self.n, found, {"columns": only_broken(shares)})

    def single_value_columns(self) -> Observation:
        """Count the features that hold one value, or none."""
        self._need_rows()
        self._need_features()
        names = [self._rows.sql(c) for c in self._features]
        same = self._rows.ask(
            "SELECT "
            + ", ".join(f"min({name}) IS NOT DISTINCT FROM max({name})" for name in names)
            + " FROM rows"
        )
        single = [c for c, one in zip(self._features, same, strict=True) if one]
        found = (
            f"One value only: {', '.join(f'`{c}`' for c in single[:10])}." if single else "All features vary."
        )
        return Observation(len(single), self.n, found, {"columns": single[:20]})

    def _need_rows(self) -> None:
        if not self.n:
            raise DoesNotApply("the draw holds no rows")

    def _need_features(self) -> None:
        if not self._features:
            raise DoesNotApply("there is no feature", self.n)


class SplitRows:
    """Exact comparisons of the test split with the training split of a model-ready table.

    Args:
        table: Model-ready rows, its schema marked with roles.
        dates: The date of each row, aligned with `table`, if known.
    """

    def __init__(self, table: pa.Table, dates: pa.ChunkedArray | None = None) -> None:
        self._kinds = features_of(table.schema)
        self._target = target_of(table.schema)
        columns = [*self._kinds, self._target, SPLIT] + [ROW_KEY] * (ROW_KEY in table.column_names)
        table = table.select(columns)
        self._dated = dates is not None
        if dates is not None:
            table = table.append_column("\0date", dates)
        self._rows = _Rows(table)
        self._train = table.filter(pc.equal(table[SPLIT], "train"))
        self._test = table.filter(pc.equal(table[SPLIT], "test"))
        self.train_rows, self.test_rows = self._train.num_rows, self._test.num_rows
        self.n = self.train_rows + self.test_rows
        self.compared = share(2 * self.train_rows * self.test_rows, self.n)

    def split_rows(self) -> Observation:
        """Count the rows of the smaller split."""
        smaller = min(self.train_rows, self.test_rows)
        return Observation(smaller, self.n, self._sizes())

    def test_train_ratio(self) -> Observation:
        """Measure how large test is beside train."""
        self._need_both()
        return Observation(self.test_rows / self.train_rows, self.n, self._sizes())

    def index_leakage(self) -> Observation:
        """Measure the share of test rows whose key is in train."""
        return self._shared([ROW_KEY], "have a key that is in train", "no row key is known")

    def train_test_overlap(self) -> Observation:
        """Measure the share of test rows whose features and target are in train."""
        columns = [*self._kinds, self._target] if self._kinds else []
        return self._shared(columns, "are in train, feature by feature", "there is no feature")

    def date_duplicates(self) -> Observation:
        """Measure the share of test rows whose date is in train."""
        return self._shared(
            ["\0date"] if self._dated else [], "have a date that is in train", "no date is known"
        )

    def date_overlap(self) -> Observation:
        """Measure the share of test rows before the last date of train."""
        self._need_both()
        if not self._dated:
            raise DoesNotApply("no date is known", self.n)
        date, split = self._rows.sql("\0date"), self._rows.sql(SPLIT)
        early, last = self._rows.ask(
            f"SELECT count(*) FILTER ({split} = 'test' AND {date} < last), any_value(last) FROM rows, "
            f"(SELECT max({date}) AS last FROM rows WHERE {split} = 'train')"
        )
        found = f"{early:,} of {self.test_rows:,} test rows lie before the last training row ({last})."
        return Observation(share(early, self.test_rows), self.n, found)

    def new_labels(self) -> Observation:
        """Measure the share of test rows of a class that train does not hold."""
        self._need_both()
        count, values = self._unseen(self._target)
        found = (
            f"{count:,} test rows have a class that train lacks: {', '.join(values)}."
            if count
            else "Every class of test is in train."
        )
        return Observation(share(count, self.test_rows), self.n, found, {"new": values})

    def new_categories(self) -> Observation:
        """Measure, per categorical feature, the share of test rows with a category unknown to train."""
        self._need_both()
        names = [name for name, kind in self._kinds.items() if kind == "categorical"]
        if not names:
            raise DoesNotApply("there is no categorical feature", self.n)
        unseen = {name: self._unseen(name) for name in names}
        shares = {name: share(count, self.test_rows) for name, (count, _) in unseen.items()}
        column, most = worst(shares)
        found = (
            f"`{column}` has a category unknown to train in {most:.2%} of the test rows: "
            f"{', '.join(unseen[column][1])}."
            if most
            else "Every category of test is in train."
        )
        return Observation(most, self.n, found, {"columns": only_broken(shares)})

    def out_of_range(self) -> Observation:
        """Measure, per numeric feature, the share of test rows outside the range seen in train."""
        self._need_both()
        numeric = [name for name, kind in self._kinds.items() if kind == "numeric"]
        if not numeric:
            raise DoesNotApply("there is no numeric feature", self.n)
        shares = {}
        for name in numeric:
            ends = pc.min_max(self._train[name])
            outside = (
                pc.or_(pc.less(self._test[name], ends["min"]), pc.greater(self._test[name], ends["max"]))
                if ends["min"].is_valid
                else pc.is_valid(self._test[name])
            )
            shares[name] = share(pc.sum(outside).as_py() or 0, self.test_rows)
        column, most = worst(shares)
        found = (
            f"`{column}` leaves the range seen in train in {most:.2%} of the test rows."
            if most
            else "Every number of test is within the range seen in train."
        )
        return Observation(most, self.n, found, {"columns": only_broken(shares)}, self.compared)

    def _unseen(self, column: str) -> tuple[int, list[str]]:
        values = self._test[column].drop_null()
        unseen = values.filter(pc.invert(pc.is_in(values, value_set=pc.unique(self._train[column]))))
        return len(unseen), [str(value)[:40] for value in pc.unique(unseen)[:5].to_pylist()]

    def _shared(self, columns: Sequence[str], what: str, without: str) -> Observation:
        self._need_both()
        if not columns or any(column not in self._rows.table.column_names for column in columns):
            raise DoesNotApply(without, self.n)
        split = self._rows.sql(SPLIT)
        (count,) = self._rows.ask(
            f"WITH marked AS (SELECT {split} AS split, {self._rows.hash(columns)} AS mark FROM rows) "
            "SELECT count(*) FROM marked WHERE split = 'test' "
            "AND mark IN (SELECT mark FROM marked WHERE split = 'train')"
        )
        found = f"{count:,} of {self.test_rows:,} test rows {what}."
        return Observation(share(count, self.test_rows), self.n, found)

    def _sizes(self) -> str:
        return f"{self.train_rows:,} rows to train on, {self.test_rows:,} to test on."

    def _need_both(self) -> None:
        if not self.train_rows or not self.test_rows:
            raise DoesNotApply("train or test holds no rows", self.n)
