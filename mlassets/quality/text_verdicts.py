"""Verdicts on columns of texts: are they usual, do they stay what they were, are they written once?

Where no column holds texts, that is all that is found out: no row is read but the first, and nothing is imported.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlassets.expectations import EmbeddingName
from mlassets.quality import frames
from mlassets.quality.all_rows import share, worst
from mlassets.quality.checks import entry_of
from mlassets.quality.displays import Display, Table, Text
from mlassets.quality.judging import DoesNotApply, Observation
from mlassets.quality.text_embeddings import embedding_of
from mlassets.quality.text_likeness import near_copies, plane, telling_words, told_apart
from mlassets.quality.text_pages import BATCH_ROWS, excerpt, histogram, points, sampled, show_copies
from mlassets.quality.text_properties import NUMERIC, properties_of, text_columns

if TYPE_CHECKING:
    import pyarrow.dataset as ds

SAMPLE = 10_000
_MOST_COLUMNS = 10
LOOKED_AT_FIRST = 1_000
"""Rows by which columns of texts are told from others."""

# Lengths are spread over orders of magnitude: a text is unusually long against others by a factor.
_BY_FACTORS = ("characters", "words", "lines", "longest_word")


@dataclass(frozen=True)
class _Side:
    """A seeded sample of one column's texts, blank ones left out."""

    texts: list[str]
    rows: int
    labels: list[str | None] | None = None

    @cached_property
    def properties(self) -> pa.Table:
        return properties_of(pa.array(self.texts, pa.string()))

    @cached_property
    def frame(self) -> Any:
        """The properties as deepchecks takes them, counts by their logarithms."""
        import pandas as pd

        columns: dict[str, Any] = {}
        for name in NUMERIC:
            values = self.properties[name].to_numpy()
            columns[name] = np.log1p(values) if name in _BY_FACTORS else values
        columns["script"] = pd.Series(
            pc.fill_null(self.properties["script"], "none").to_pylist(), dtype=object
        )
        return pd.DataFrame(columns)


@dataclass(frozen=True)
class TextRows:
    """Observations on the columns of a table that hold texts.

    Attributes:
        rows: Gives all rows that are judged.
        count: How many they are.
        first: Gives the first of them, by which columns of texts are told from others.
        new: Gives those that were not there before, None if there are none; all of them if it is left out.
        earlier: Gives the rows that these are compared with, None if there are none.
        columns: The columns that hold texts; found by looking at the first rows if it is left out.
        label: A column that says what each row is, if one does.
        embedding: How texts become vectors.
        sample: Rows of each that are looked at; copies to the letter are counted on all.
        seed: Seed of the samples.
        show: Whether to keep tables and figures for the report.
    """

    rows: "Callable[[], ds.Dataset]"
    count: int
    first: Callable[[], pa.Table]
    new: "Callable[[], ds.Dataset | None] | None" = None
    earlier: "Callable[[], ds.Dataset | None] | None" = None
    columns: Sequence[str] | None = None
    label: str | None = None
    embedding: EmbeddingName = "lsa"
    sample: int = SAMPLE
    seed: int = 0
    show: bool = True
    _sides: dict[str, dict[str, _Side]] = field(default_factory=dict, init=False, repr=False)

    def observations(self) -> Mapping[str, Callable[[], Observation]]:
        """Return what observes each claim about texts."""
        return {
            "texts_are_usual": self.outliers,
            "texts_are_not_repeated": self.repeats,
            "texts_keep_their_properties": self.property_drift,
            "texts_keep_their_meaning": self.meaning,
            "like_texts_share_a_label": self.conflicting_labels,
        }

    def outliers(self) -> Observation:
        """Measure, per column, the share of texts unusual in one property (deepchecks: interquartile range)."""
        from mlassets.quality.deepchecks_texts import TextSide, run_text_check

        shares: dict[str, float] = {}
        examples: list[tuple[str, ...]] = []
        for column, side in self._all.items():
            judged = side.frame
            # Of a property that half of the texts have in common, every other value would be taken for unusual.
            spread = [
                name
                for name in NUMERIC
                if judged[name].quantile(0.75) > judged[name].quantile(0.25) and name != "unreadable"
            ]
            found = run_text_check(
                "TextPropertyOutliers", TextSide(side.texts, judged[[*spread, "script"]]), seed=self.seed
            )
            for name, seen in found.items():
                if isinstance(seen, str):  # why it could not be measured
                    continue
                shares[f"{column}: {name}"] = seen["outlier_ratio"]
                examples += self._examples(column, name, side, seen["indices"])
            unreadable = np.flatnonzero(side.properties["unreadable"].to_numpy() > 0)
            shares[f"{column}: unreadable"] = share(len(unreadable), len(side.texts))
            examples += self._examples(column, "unreadable", side, unreadable.tolist())
        name, most = worst(shares)
        column, _, what = name.rpartition(": ")
        said = (
            f"{most:.2%} of the texts in `{column}` are unusual: {what.replace('_', ' ')}."
            if most
            else "No text is unusual in any property."
        )
        shown: tuple[Display, ...] = ()
        if self.show and examples:
            shown = (Table(("column", "property", "its value", "text"), tuple(examples[:40])),)
        return self._observed(most, said, self._all, {"properties": _top(shares)}, displays=shown)

    def repeats(self) -> Observation:
        """Measure, per column, the share of texts that are nearly the same as an earlier one."""
        shares, said, shown = {}, {}, []
        for column, side in self._all.items():
            near = near_copies(side.texts)
            exact, known = self._exact_copies(column)
            shares[column] = max(share(near.repeats, len(side.texts)), share(exact, known))
            said[column] = (
                f"{share(exact, known):.2%} of all texts in `{column}` stand in an earlier row, and "
                f"{share(near.repeats, len(side.texts)):.2%} of those looked at are nearly the same as another."
            )
            if self.show and near.repeats:
                shown += [Text(f"`{column}`"), *show_copies(side.texts, near)]
        column, most = worst(shares)
        found = said[column] if most else "No text is written twice."
        return self._observed(most, found, self._all, {"columns": _top(shares)}, displays=tuple(shown))

    def property_drift(self) -> Observation:
        """Measure, per column and property, how far new texts are from earlier ones (deepchecks)."""
        from mlassets.quality.deepchecks_texts import TextSide, run_text_check

        pairs = self._pairs()
        drifts: dict[str, float] = {}
        compared: dict[str, float] = {}
        for column, (now, before) in pairs.items():
            found = run_text_check(
                "PropertyDrift",
                TextSide(now.texts, now.frame),
                TextSide(before.texts, before.frame),
                seed=self.seed,
            )
            for name, drift in found.items():
                if drift["Drift score"] is not None:
                    drifts[f"{column}: {name}"] = float(drift["Drift score"])
                    compared[f"{column}: {name}"] = _harmonic(len(now.texts), len(before.texts))
        name, most = _beyond_chance(drifts, compared, "texts_keep_their_properties")
        said = (
            f"`{name}` of new texts drifted by {most:.3f} from earlier ones."
            if most
            else "No property drifted."
        )
        shown: list[Display] = []
        if self.show and most:
            column, _, what = name.rpartition(": ")
            now, before = pairs[column]
            if what in NUMERIC:
                sides = {"earlier texts": before.properties[what], "new texts": now.properties[what]}
                shown = [Text(f"`{column}`"), histogram(sides, what)]
        sides_now = {column: now for column, (now, _) in pairs.items()}
        details = {"drifts": _top(drifts)}
        return self._observed(
            most, said, sides_now, details, compared=compared.get(name, 0.0), displays=tuple(shown)
        )

    def meaning(self) -> Observation:
        """Measure, per column, how well a classifier tells new texts from earlier ones by their vectors."""
        scores, compared, details, shown = {}, {}, {}, {}
        pairs = self._pairs()
        for column, (now, before) in pairs.items():
            compared[column] = _harmonic(len(now.texts), len(before.texts))
            if min(len(now.texts), len(before.texts)) < 5:  # a fold of each
                scores[column] = 0.0
                continue
            embedding = embedding_of([*before.texts, *now.texts], self.embedding, seed=self.seed)
            there, here = embedding.embed(before.texts), embedding.embed(now.texts)
            apart = told_apart(here, there, seed=self.seed)
            scores[column] = apart.score
            details[column] = {"auc": apart.auc, "embedding": embedding.name}
            if self.show:
                shown[column] = self._where(column, now, before, np.concatenate([there, here]))
        column, most = _beyond_chance(scores, compared, "texts_keep_their_meaning")
        said = (
            f"A classifier tells new texts of `{column}` from earlier ones with an AUC of {(1 + most) / 2:.3f}."
            if most
            else "A classifier does not tell new texts from earlier ones."
        )
        return self._observed(
            most,
            said,
            {column: now for column, (now, _) in pairs.items()},
            {"columns": details},
            compared=compared[column] if column else min(compared.values()),
            displays=shown.get(column, ()),
        )

    def conflicting_labels(self) -> Observation:
        """Measure, per column, the share of texts that stand in several rows with several labels (deepchecks)."""
        from mlassets.quality.deepchecks_texts import TextSide, run_text_check

        shares = {}
        for column, side in self._labelled().items():
            found = run_text_check(
                "ConflictingLabels", TextSide(side.texts, side.frame, side.labels), seed=self.seed
            )
            shares[column] = float(found["percent_of_conflicting_samples"])
        column, most = worst(shares)
        said = (
            f"{most:.2%} of the texts in `{column}` occur with several values of the target."
            if most
            else "No text occurs with several values of the target."
        )
        return self._observed(most, said, self._all, {"columns": _top(shares)})

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The columns that hold texts; of those that nobody named, the first ten."""
        first = self.first()
        if self.columns is not None:
            here = {one.name: one.type for one in first.schema}
            wrong = [name for name in self.columns if name not in here or not _may_hold_texts(here[name])]
            if wrong:
                raise ValueError(f"no column of strings is named {', '.join(f'`{name}`' for name in wrong)}")
            return tuple(self.columns)
        return tuple(name for name in text_columns(first) if name != self.label)[:_MOST_COLUMNS]

    @property
    def _all(self) -> Mapping[str, _Side]:
        return self._sides_of("all", lambda: self._dataset)

    @cached_property
    def _dataset(self) -> "ds.Dataset":
        return self.rows()

    def _pairs(self) -> Mapping[str, tuple[_Side, _Side]]:
        """Return for each column new and earlier texts."""
        self._require()
        before = {} if self.earlier is None else self._sides_of("earlier", self.earlier)
        if not before:
            raise DoesNotApply("there are no earlier texts to compare with", self.count)
        now = self._all if self.new is None else self._sides_of("new", self.new)
        both = {name: (now[name], before[name]) for name in now if name in before}
        if not both:
            raise DoesNotApply("no text is new", self.count)
        return both

    def _labelled(self) -> Mapping[str, _Side]:
        sides = self._all
        if self.label is None or not all(len(set(side.labels or ()) - {None}) > 1 for side in sides.values()):
            raise DoesNotApply("the target does not take two values", self.count)
        return sides

    def _require(self) -> None:
        if not self.names:
            raise DoesNotApply("no column holds texts", self.count)

    def _sides_of(self, which: str, rows: "Callable[[], ds.Dataset | None]") -> Mapping[str, _Side]:
        """Return the sampled texts of each column that has any, read once."""
        self._require()
        if which not in self._sides:
            dataset = rows()
            self._sides[which] = {} if dataset is None else self._read(dataset)
        if which == "all" and not self._sides[which]:
            raise DoesNotApply("every text is blank", self.count)
        return self._sides[which]

    def _read(self, dataset: "ds.Dataset") -> dict[str, _Side]:
        there = {one.name for one in dataset.schema}
        # A column that was something else in earlier files is left to the schema's contract.
        texts_there = {one.name for one in dataset.schema if _may_hold_texts(one.type)}
        columns = [name for name in self.names if name in texts_there]
        wanted = [*columns, *([self.label] if self.label in there and self.label else [])]
        seen = sampled(dataset, wanted, self.sample, self.seed)
        count = dataset.count_rows()
        sides = {}
        for name in columns:
            texts = pc.cast(seen[name], pa.string())
            keep = pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(texts), ""), False)
            labels = None
            if self.label in there and self.label:
                labels = pc.cast(seen[self.label], pa.string()).filter(keep).to_pylist()
            kept = texts.filter(keep).to_pylist()
            if kept:
                sides[name] = _Side(kept, count, labels)
        return sides

    def _exact_copies(self, column: str) -> tuple[int, int]:
        """Count, on all rows, the texts that equal an earlier one but for case and space at the ends, and all texts."""
        import duckdb
        import pyarrow.dataset as ds

        reader = self._dataset.scanner(
            {"text": ds.field(column).cast(pa.string())},
            batch_size=BATCH_ROWS,
            batch_readahead=2,
            fragment_readahead=1,
        ).to_reader()
        with duckdb.connect(config={"enable_external_access": "false"}) as connection:
            connection.register("rows", reader)
            row = connection.execute(
                "SELECT count(*), count(DISTINCT hash(lower(trim(text)))) FROM rows WHERE trim(text) <> ''"
            ).fetchone()
        known, distinct = row or (0, 0)
        return known - distinct, known

    def _examples(self, column: str, name: str, side: _Side, indices: Sequence[int]) -> list[tuple[str, ...]]:
        # Those furthest below come first, those furthest above last; of copies one is enough.
        distinct = list({side.texts[i]: int(i) for i in indices}.values())
        ends = [*distinct[:2], *distinct[2:][-2:]]
        return [
            (column, name.replace("_", " "), _shown(side.properties[name][i].as_py()), excerpt(side.texts[i]))
            for i in ends
        ]

    def _where(self, column: str, now: _Side, before: _Side, vectors: Any) -> tuple[Display, ...]:
        there = len(before.texts)
        groups = [
            ("earlier texts", np.arange(there)),
            ("new texts", np.arange(there, there + len(now.texts))),
        ]
        listed = tuple(
            (whose, ", ".join(excerpt(word, 30) for word in telling_words(one[:5_000], other[:5_000])))
            for whose, one, other in (
                ("new texts", now.texts, before.texts),
                ("earlier texts", before.texts, now.texts),
            )
        )
        return (
            Text(f"`{column}`"),
            points(plane(vectors, seed=self.seed), groups, [*before.texts, *now.texts], seed=self.seed),
            Table(("words that tell", "from the others"), listed),
        )

    def _observed(
        self,
        value: float,
        said: str,
        sides: Mapping[str, _Side],
        details: Mapping[str, Any],
        *,
        compared: float | None = None,
        displays: tuple[Display, ...] = (),
    ) -> Observation:
        looked_at = max(len(side.texts) for side in sides.values())
        rows = max(side.rows for side in sides.values())
        sampled_from = (
            f" Seen on a seeded sample of {self.sample:,} of {rows:,} rows." if rows > self.sample else ""
        )
        if self.columns is None and len(self.names) == _MOST_COLUMNS:
            sampled_from += f" Of the columns that hold texts the first {_MOST_COLUMNS} were looked at."
        return Observation(
            value,
            looked_at,
            said + sampled_from,
            {**details, "drawn_from": rows, "seed": self.seed},
            compared,
            displays if self.show else (),
        )


def _may_hold_texts(kind: pa.DataType) -> bool:
    return frames.is_text(kind) or bool(pa.types.is_null(kind))


def _top(shares: Mapping[str, float], most: int = 20) -> dict[str, float]:
    return dict(sorted(shares.items(), key=lambda one: (-one[1], one[0]))[:most])


def _beyond_chance(
    figures: Mapping[str, float], compared: Mapping[str, float], claim: str
) -> tuple[str, float]:
    """Return the largest figure, those that chance could have made after those that it could not."""
    entry = entry_of(claim)
    told = {name: one for name, one in figures.items() if one >= entry.noise(compared[name])}
    return worst(told or figures)


def _harmonic(one: int, other: int) -> float:
    return 2 * one * other / (one + other) if one and other else 0.0


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
