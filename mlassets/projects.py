"""Project specs: one YAML file per project becomes a frozen model; each mistake has a line and a remedy."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from blake3 import blake3
from cronsim import CronSim, CronSimError
from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    StrictInt,
    Tag,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from mlassets.expectations import EXAMPLES as EXPECT_EXAMPLES
from mlassets.expectations import Expectations
from mlassets.modelling.metrics import CANDIDATES, DEFAULT_METRIC, METRICS
from mlassets.quality.checks import CHECKS
from mlassets.rules import DEFAULT_RULES, FORMS, MovedLimits, parse_rule
from mlassets.sections import (
    SLUG,
    SLUG_LENGTH,
    Column,
    Columns,
    Duration,
    Grammar,
    Memory,
    Mistake,
    People,
    Place,
    Seconds,
    Section,
    Share,
    SpecError,
    WrongError,
    close_matches,
    named,
    shown,
    slugify,
    unique,
)
from mlassets.sources import (
    SOURCE_EXAMPLES,
    LoadedSources,
    SourceSpec,
    covers,
    name_trouble,
    together,
)
from resources.errors import MlassetsError
from resources.query import BadDraw, tables_of

TaskName = Literal["binary", "multiclass", "regression"]
ColumnKind = Literal["numeric", "categorical", "boolean", "datetime", "text"]
ReworkedStep = Literal["draw_data", "model_ready", "model", "aggregate"]

# What a right value looks like, by field; a field that is not here borrows from its parent.
_EXAMPLES = {
    "": "project: late-flights",
    "project": "project: late-flights",
    "description": "description: Will a departure arrive at least 15 minutes late?",
    "owners": "owners: [team:network-ops, ana@example.org]",
    "authors": "authors: [ana, ben]",
    "seed": "seed: 7",
    "sources": 'sources: {flights: "landing/flights/*"}',
    "segments": "segments: {column: origin}   or   segments: [EWR, JFK, LGA]",
    "segments.source": "segments: {column: origin, source: flights}",
    "draw": "draw: {sql: SELECT * FROM flights WHERE origin = $segment}",
    "draw.sql": "sql: SELECT * FROM flights WHERE origin = $segment",
    "draw.seconds": "seconds: 600",
    "draw.memory": 'memory: "2GB"',
    "target": "target: {column: late, task: binary}",
    "target.column": "column: late",
    "target.task": "task: binary",
    "target.positive": 'positive: "yes"',
    "key": "key: [carrier, flight, time_hour]",
    "features": "features: {drop: [arr_time], kinds: {flight: categorical}}",
    "features.drop": "drop: [arr_time, arr_delay]",
    "features.kinds": "kinds: {flight: categorical, seats: numeric}",
    "split": "split: {by: time, column: time_hour, test: 0.25, validation: 0.2}",
    "split.by": "by: time",
    "split.column": "column: time_hour",
    "split.test": "test: 0.25",
    "split.validation": "validation: 0.2",
    "model": "model: {candidates: [baseline, linear, gradient_boosting], metric: roc_auc}",
    "model.candidates": "candidates: [baseline, linear, gradient_boosting]",
    "model.metric": "metric: roc_auc",
    "model.tune": "tune: {trials: 20, seconds: 60}",
    "model.limits": 'limits: {seconds: 1800, memory: "8GB"}',
    "aggregate": "aggregate: {method: weighted}",
    "checks": 'checks: {fail: {roc_auc: ">= 0.60"}, warn: {feature_drift: "<= 0.2"}}',
    "checks.fail": 'fail: {roc_auc: ">= 0.60"}',
    "checks.warn": 'warn: {feature_drift: "<= 0.2"}',
    "checks.sample": "sample: 10000",
    "review": 'review: {mode: auto, rules: ["roc_auc >= 0.6", "no failed verdict of severity ERROR"]}',
    "review.mode": "mode: manual",
    "review.rules": 'rules: ["roc_auc >= 0.6", "no failed verdict of severity ERROR"]',
    "review.reviewers": "reviewers: [ana, ben]",
    "review.four_eyes": "four_eyes: true",
    "review.release_as": "release_as: challenger",
    "retrain": "retrain: {on: new_data, min_new_rows: 500}",
    "retrain.on": "on: new_data",
    "retrain.min_new_rows": "min_new_rows: 500",
    "retrain.min_new_share": "min_new_share: 0.05",
    "retrain.cron": 'retrain: {on: cron, cron: "0 6 * * 1", timezone: Europe/Berlin}',
    "retrain.timezone": "timezone: Europe/Berlin",
    "retrain.above": "retrain: {on: drift, above: 0.2}",
    "retrain.any": 'retrain: {any: [{on: drift, above: 0.2}, {on: cron, cron: "0 6 * * 1"}]}',
    "retrain.all": 'retrain: {all: [{on: new_data, min_new_rows: 500}, {on: cron, cron: "0 6 * * 1"}]}',
    "retrain.cool_down": "cool_down: 6h",
    "retrain.most_per_day": "most_per_day: 4",
    "rework": "rework: {send_back_to: model, tries: [next_candidate, wider_search], limit: 2}",
    "rework.send_back_to": "send_back_to: model",
    "rework.verdicts": "verdicts: {beats_the_baseline: model}",
    "rework.tries": "tries: [next_candidate, wider_search]",
    "rework.limit": "limit: 2",
    "stale_after": "stale_after: {flights: 35d, weather: 36h}",
}


class SegmentsSpec(Section):
    """The slices of the population that get their own draw and model.

    Attributes:
        column: Column whose distinct values are the segments, found anew when data lands.
        source: Source to look for `column` in; None means the first source of the spec that has it.
        values: The segments, where the spec lists them; None when `column` is given.
    """

    column: Column | None = None
    source: str | None = None
    values: tuple[str, ...] | None = None

    @model_validator(mode="before")
    @classmethod
    def _list_or_column(cls, given: Any) -> Any:
        if isinstance(given, Mapping):
            if "column" not in given and "values" not in given:
                raise WrongError(((), "neither names a `column` nor lists values"))
            return given
        if not isinstance(given, list | tuple):
            raise WrongError(((), f"{shown(given)} is neither a list of values nor {{column: …}}"))
        if not given:
            raise WrongError(((), "lists no value; leave `segments` out for one segment `all`"))
        for position, value in enumerate(given):
            if isinstance(value, bool) or not isinstance(value, str | int):
                raise WrongError(((position,), f"{shown(value)} is not text; put it in quotes"))
        return {"values": [str(value) for value in given]}

    @field_validator("values")
    @classmethod
    def _usable(cls, values: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for position, value in enumerate(values or ()):
            try:
                named(value)
            except ValueError as error:
                raise WrongError(((position,), str(error))) from None
        return unique(values) if values is not None else None

    @model_validator(mode="after")
    def _one_way(self) -> "SegmentsSpec":
        if self.values is not None and (self.column or self.source):
            raise WrongError(((), "give either `column` or a list of values, not both"))
        return self

    @property
    def is_whole(self) -> bool:
        """Whether the project has the one segment `all`, so that its draw binds no `$segment`."""
        return self.values == ("all",)


class DrawSpec(Section):
    """The one SELECT that draws a segment's rows, and what it may use.

    Attributes:
        sql: One SELECT over the sources; `$segment` stands for the segment.
        seconds: Wall-clock limit in seconds.
        memory: Memory limit with its unit, for instance `2GB`.
    """

    sql: str
    seconds: Seconds = 600
    memory: Memory = "2GB"

    @field_validator("sql")
    @classmethod
    def _not_empty(cls, sql: str) -> str:
        if not _bare_sql(sql).strip():
            raise ValueError("holds no SQL")
        return sql


class TargetSpec(Section):
    """What is predicted.

    Attributes:
        column: Column of the draw.
        task: `binary`, `multiclass` or `regression`.
        positive: For a binary target: the value that is the positive class; None leaves it to the data.
    """

    column: Column
    task: TaskName
    positive: Any = None

    @model_validator(mode="after")
    def _positive_fits(self) -> "TargetSpec":
        if self.positive is not None:
            if self.task != "binary":
                raise WrongError(
                    (("positive",), f"only a binary target has a positive class, this is {self.task}")
                )
            if not isinstance(self.positive, str | int | float | bool):
                raise WrongError(
                    (("positive",), f"{shown(self.positive)} is not one value (text, number, true/false)")
                )
        return self


class FeaturesSpec(Section):
    """Which columns are left out, and the kinds that typing would get wrong.

    Attributes:
        drop: Columns of the draw that are not features.
        kinds: Kind by column, overriding what the data suggests.
    """

    drop: Columns = ()
    kinds: Mapping[Column, ColumnKind] = {}

    @model_validator(mode="after")
    def _no_kind_for_dropped(self) -> "FeaturesSpec":
        both = [name for name in self.kinds if name in self.drop]
        if both:
            raise WrongError(
                *((("kinds", name), "is dropped, so a kind for it says nothing") for name in both)
            )
        return self


class SplitSpec(Section):
    """How rows are divided into training, validation and test.

    Attributes:
        by: `random` (stratified where it applies), `time` (the newest rows are the test) or `group`.
        column: The time or group column.
        test: Share of all rows in the test split.
        validation: Share of all rows in the validation split.
    """

    by: Literal["random", "time", "group"] = "random"
    column: Column | None = None
    test: Share = 0.25
    validation: Share = 0.2

    @model_validator(mode="after")
    def _complete(self) -> "SplitSpec":
        if self.by == "random" and self.column:
            raise WrongError(
                (
                    ("column",),
                    "a random split uses no column; write `by: time` or `by: group`, or leave it out",
                )
            )
        if self.by != "random" and not self.column:
            raise WrongError((("column",), f"is missing: a split by {self.by} needs one"))
        if self.test + self.validation >= 1:
            raise WrongError(
                (
                    ("test",),
                    f"test {self.test:g} and validation {self.validation:g} leave nothing to train on",
                )
            )
        return self


class TuneSpec(Section):
    """How long hyper-parameters are searched for: until either budget is used up.

    Attributes:
        trials: Trials over all candidates.
        seconds: Wall-clock seconds.
    """

    trials: Annotated[StrictInt, Field(ge=0, le=100_000)] = 20
    seconds: Seconds = 60


class LimitsSpec(Section):
    """What training one segment may use before it is stopped.

    Attributes:
        seconds: Wall-clock seconds.
        memory: Memory with its unit, for instance `8GB`.
    """

    seconds: Seconds = 1800
    memory: Memory = "8GB"


class ModelSpec(Section):
    """What is trained and how it is chosen.

    Attributes:
        candidates: Kinds of estimators that compete; `baseline` is the trivial one.
        metric: The metric that decides; filled in from the task where the spec leaves it out.
        tune: Budget of the search.
        limits: Limits of the whole step.
    """

    candidates: Columns = ("baseline", "linear", "gradient_boosting")
    metric: str = ""
    tune: TuneSpec = TuneSpec()
    limits: LimitsSpec = LimitsSpec()

    @field_validator("candidates")
    @classmethod
    def _known(cls, candidates: tuple[str, ...]) -> tuple[str, ...]:
        if not candidates:
            raise ValueError("names no candidate")
        unknown = [(at, name) for at, name in enumerate(candidates) if name not in CANDIDATES]
        if unknown:
            raise WrongError(
                *(
                    ((at,), f"{shown(name)} is no candidate; {close_matches(name, CANDIDATES)}")
                    for at, name in unknown
                )
            )
        return candidates


class AggregateSpec(Section):
    """How the segments' metrics become the project's.

    Attributes:
        method: `weighted` by test rows, or `unweighted`: every segment counts the same.
    """

    method: Literal["weighted", "unweighted"] = "weighted"


class ChecksSpec(MovedLimits):
    """Limits and severities that this project moves; all other checks keep their defaults.

    Attributes:
        sample: Rows that sampling checks look at.
    """

    sample: Annotated[StrictInt, Field(ge=100, le=10_000_000)] = 10_000


class ReviewSpec(Section):
    """Who decides about a release, and by which rules.

    Attributes:
        mode: `manual` waits for a reviewer; `auto` approves when every rule is met.
        rules: Rules as text; see `mlassets.rules`. A manual review shows them as evidence.
        reviewers: The only people who may decide; empty lets anybody.
        four_eyes: Whoever decides is neither an author of the spec nor the user who made what is decided on.
        release_as: What an approval makes of the version: the `champion`, or a `challenger` beside it.
    """

    mode: Literal["manual", "auto"] = "manual"
    rules: tuple[str, ...] = DEFAULT_RULES
    reviewers: People = ()
    four_eyes: bool = False
    release_as: Literal["champion", "challenger"] = "champion"

    @field_validator("rules")
    @classmethod
    def _parsed(cls, rules: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(" ".join(rule.split()) for rule in rules)

    @model_validator(mode="after")
    def _auto_has_rules(self) -> "ReviewSpec":
        if self.mode == "auto" and not self.rules:
            raise WrongError((("rules",), "an automatic review without rules would approve everything"))
        return self


class NewDataRule(Section):
    """Holds when what a segment's draw reads has changed, and enough rows have come with that.

    Attributes:
        on: What the rule is about.
        min_new_rows: Rows that must have landed since the segment was last made.
        min_new_share: The same as a share of the rows that were there then.
    """

    on: Literal["new_data"] = "new_data"
    min_new_rows: Annotated[StrictInt, Field(ge=0)] = 0
    min_new_share: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0


class CronRule(Section):
    """Holds when a scheduled time has passed since new data came.

    Attributes:
        on: What the rule is about.
        cron: Minute, hour, day of the month, month and day of the week.
        timezone: Time zone in which that is meant, by its IANA name.
    """

    on: Literal["cron"] = "cron"
    cron: str
    timezone: str = "UTC"

    @field_validator("cron")
    @classmethod
    def _asks_some_day(cls, cron: str) -> str:
        fields = "five fields: minute hour day-of-month month day-of-week"
        if len(cron) > 200 or len(cron.split()) != 5:
            raise ValueError(f"{shown(cron)} is no cron expression; write {fields}")
        try:
            # A fixed day, so that a spec is right or wrong whenever it is read; cronsim looks 50 years ahead.
            next(CronSim(cron, datetime(2000, 1, 1)))
        except CronSimError as error:
            raise ValueError(f"{shown(cron)} is no cron expression ({error}); write {fields}") from None
        except StopIteration:
            raise ValueError(f"{shown(cron)} names a time that never comes") from None
        return " ".join(cron.split())

    @field_validator("timezone")
    @classmethod
    def _on_the_map(cls, timezone: str) -> str:
        try:
            ZoneInfo(timezone)
        except (KeyError, ValueError, OSError):  # OSError: the name of a folder of zones, such as `Europe`
            hint = close_matches(timezone, sorted(available_timezones()))
            raise ValueError(f"{shown(timezone)} is no time zone; {hint}") from None
        return timezone


class DriftRule(Section):
    """Holds when the newest draw has drifted from the one that the champion was trained on.

    Attributes:
        on: What the rule is about.
        above: Effect size that must be exceeded, from 0 to 1: `champion_drift` of the draw's verdict.
    """

    on: Literal["drift"] = "drift"
    above: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.2


class AnyRule(Section):
    """Holds when one of its rules does."""

    any: "tuple[RetrainRule, ...]"


class AllRule(Section):
    """Holds when each of its rules does."""

    all: "tuple[RetrainRule, ...]"


_RULES: Mapping[str, type[Section]] = {
    "new_data": NewDataRule,
    "cron": CronRule,
    "drift": DriftRule,
    "any": AnyRule,
    "all": AllRule,
}
# In the place of a mistake pydantic names the rule that it read a mapping as; the file knows no such level.
_RULE_TAGS = {kind: f"[{kind} rule]" for kind in _RULES}
_ABOUT_THE_WHOLE = ("cool_down", "most_per_day")


def _rule_kind(given: Any) -> str:
    """Return which of `_RULES` a mapping is: `new_data` unless it says otherwise."""
    if isinstance(given, Section):
        return next(kind for kind, rule in _RULES.items() if type(given) is rule)
    return next((word for word in ("any", "all") if word in given), given.get("on", "new_data"))


def _one_rule(given: Any) -> Any:
    """Refuse what is not one rule with the fields of its kind."""
    if isinstance(given, Section):
        return given
    if not isinstance(given, Mapping):
        raise WrongError(((), f"{shown(given)} is no rule: a mapping with `on`, `any` or `all`"))
    ways = [f"`{word}`" for word in ("on", "any", "all") if word in given]
    if len(ways) > 1:
        raise WrongError(((), f"gives {' and '.join(ways)}; a rule has one of them"))
    kind = _rule_kind(given)
    if kind not in ("new_data", "cron", "drift", "any", "all"):
        raise WrongError((("on",), f"{shown(kind)} is none of new_data, cron or drift"))
    this = f"`{kind}`" if kind in ("any", "all") else f"`on: {kind}`"
    found: list[tuple[tuple[str | int, ...], str]] = []
    fields = _RULES[kind].model_fields
    for name in given:
        owner = next((other for other, rule in _RULES.items() if name in rule.model_fields), None)
        if name in fields:
            continue
        if name in _ABOUT_THE_WHOLE:
            wrong = "is about the whole of `retrain`, not one of its rules; write it directly below `retrain`"
        elif owner:
            wrong = f"belongs to `on: {owner}`, and this rule is {this}; `any` and `all` combine rules"
        else:
            wrong = f"{shown(name)} is no field here; {close_matches(name, [*fields, *_ABOUT_THE_WHOLE])}"
        found.append(((name,), wrong))
    if kind in ("any", "all"):
        parts = given[kind]
        if not isinstance(parts, list | tuple):
            found.append(((kind,), f"{shown(parts)} is not a list of rules"))
        elif not parts:
            never = "would never hold" if kind == "any" else "would always hold"
            found.append(((kind,), f"lists no rule, and so {never}"))
    if found:
        raise WrongError(*found)
    return given


RetrainRule = Annotated[
    Annotated[NewDataRule, Tag(_RULE_TAGS["new_data"])]
    | Annotated[CronRule, Tag(_RULE_TAGS["cron"])]
    | Annotated[DriftRule, Tag(_RULE_TAGS["drift"])]
    | Annotated[AnyRule, Tag(_RULE_TAGS["any"])]
    | Annotated[AllRule, Tag(_RULE_TAGS["all"])],
    Discriminator(lambda given: _RULE_TAGS[_rule_kind(given)]),
    BeforeValidator(_one_rule),
]
"""One rule of `retrain`, or several combined."""

AnyRule.model_rebuild()
AllRule.model_rebuild()


class RetrainSpec(Section):
    """When a project runs again by itself.

    In a file the rule stands directly below `retrain`, beside what limits it: `{on: cron, cron: ..., cool_down: 6h}`.

    Attributes:
        rule: What must hold.
        cool_down: Time that must have passed since a segment was last made.
        most_per_day: How often a segment may be made within any 24 hours.
    """

    rule: RetrainRule = NewDataRule()
    cool_down: Duration | None = None
    most_per_day: Annotated[StrictInt, Field(ge=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _rule_beside_its_limits(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            raise WrongError(((), f"{shown(given)} is no rule: a mapping with `on`, `any` or `all`"))
        if isinstance(given.get("rule"), Section):
            return given
        limits = {name: given[name] for name in _ABOUT_THE_WHOLE if name in given}
        return {**limits, "rule": {name: value for name, value in given.items() if name not in limits}}

    @model_serializer(mode="wrap")
    def _as_written(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values = plain(self)
        return {**values.pop("rule"), **{name: value for name, value in values.items() if value is not None}}


class ReworkSpec(Section):
    """Where work goes that rules or a verdict do not accept, and what is tried before a person is asked.

    Attributes:
        send_back_to: Step that a rejection by rules goes back to; None sends nothing back.
        verdicts: Step that the work goes back to when this claim fails and blocks.
        tries: What each further attempt at `model` changes, in turn: `next_candidate` leaves out the candidate that was
            sent back, `wider_search` doubles trials and seconds. Other steps are made again as they are.
        limit: Further attempts at a step before a person is asked.
    """

    send_back_to: ReworkedStep | None = None
    verdicts: Mapping[str, ReworkedStep] = {}
    tries: tuple[Literal["next_candidate", "wider_search"], ...] = ("next_candidate", "wider_search")
    limit: Annotated[StrictInt, Field(ge=0, le=100)] = 2

    @field_validator("tries")
    @classmethod
    def _something_to_try(cls, tries: tuple[str, ...]) -> tuple[str, ...]:
        if not tries:
            raise ValueError("names nothing to try; a further attempt would make the same again")
        return tries


def _by_name(given: Any) -> Any:
    """Take a list of names for sources of which the project says nothing itself."""
    if not isinstance(given, list | tuple):
        return given
    for position, name in enumerate(given):
        if not isinstance(name, str):
            raise WrongError(((position,), f"{shown(name)} is not the name of a source"))
    return dict.fromkeys(unique(tuple(given)))


class ProjectSpec(Section):
    """One project: where its data is, what is predicted, how it is trained, judged and released.

    Attributes:
        project: Name: a slug of at most 63 characters; the first partition dimension.
        description: One sentence for people.
        owners: `team:name` or an e-mail address each, as Dagster shows them.
        authors: Who made the spec what it is, by the names that they review under.
        seed: Seed of everything random.
        sources: Where the files of its sources are and how they are read, by name; or names alone, of sources that the
            home describes, or whose files land in `landing/<name>`.
        segments: The slices that get their own draw and model.
        draw: The SQL that draws a segment's rows.
        target: What is predicted.
        key: Columns that identify a row; empty when rows are identified by their content.
        features: What is left out, and kinds.
        split: Training, validation and test.
        model: Candidates, metric, search and limits.
        aggregate: How segments are put together.
        checks: Limits this project moves.
        review: Who decides.
        retrain: When it runs again.
        rework: Where work goes that is not accepted.
        stale_after: For how long at most no file may land, by source, before somebody is told.
        expect: What is expected of the rows of a draw.
    """

    project: str
    description: str = ""
    owners: tuple[str, ...] = ()
    authors: People = ()
    seed: Annotated[StrictInt, Field(ge=0, lt=2**32)] = 0
    sources: Annotated[Mapping[str, SourceSpec], BeforeValidator(_by_name)]
    segments: SegmentsSpec = SegmentsSpec(values=("all",))
    draw: DrawSpec
    target: TargetSpec
    key: Columns = ()
    features: FeaturesSpec = FeaturesSpec()
    split: SplitSpec = SplitSpec()
    model: ModelSpec = Field(default=ModelSpec(), validate_default=True)
    aggregate: AggregateSpec = AggregateSpec()
    checks: ChecksSpec = ChecksSpec()
    review: ReviewSpec = ReviewSpec()
    retrain: RetrainSpec = RetrainSpec()
    rework: ReworkSpec = ReworkSpec()
    stale_after: Mapping[str, Duration] = {}
    expect: Expectations = Expectations()

    # Fields are validated in the order above, and each validator sees the right ones among those before it:
    # so one pass finds contradictions between sections as well as mistakes inside them.

    @field_validator("project")
    @classmethod
    def _slug(cls, name: str) -> str:
        if not SLUG.fullmatch(name) or len(name) > SLUG_LENGTH:
            raise ValueError(
                f"{shown(name)} is not a name of lower-case letters, digits and single hyphens, at most "
                f"{SLUG_LENGTH} long; write {slugify(name)}"
            )
        return name

    @field_validator("owners")
    @classmethod
    def _owner_form(cls, owners: tuple[str, ...]) -> tuple[str, ...]:
        form = re.compile(r"team:[\w.-]+|[\w.%+-]+@[\w-]+(\.[\w-]+)+")
        wrong = [(at, owner) for at, owner in enumerate(owners) if not form.fullmatch(owner)]
        if wrong:
            raise WrongError(
                *(((at,), f"{shown(owner)} is neither team:name nor an e-mail") for at, owner in wrong)
            )
        return owners

    @field_validator("sources")
    @classmethod
    def _sources_named(cls, sources: Mapping[str, SourceSpec]) -> Mapping[str, SourceSpec]:
        if not sources:
            raise ValueError("names no source")
        found = [((name,), wrong) for name in sources if (wrong := name_trouble(name))]
        if found:
            raise WrongError(*found)
        return sources

    @field_validator("segments")
    @classmethod
    def _segments_source_known(cls, segments: SegmentsSpec, info: ValidationInfo) -> SegmentsSpec:
        sources = info.data.get("sources")
        if sources and segments.source and segments.source not in sources:
            raise WrongError(
                (
                    ("source",),
                    f"{shown(segments.source)} is no source here; {close_matches(segments.source, sources)}",
                )
            )
        return segments

    @field_validator("draw")
    @classmethod
    def _draw_uses_segment(cls, draw: DrawSpec, info: ValidationInfo) -> DrawSpec:
        segments: SegmentsSpec | None = info.data.get("segments")
        try:
            read = tables_of(draw.sql)
        except BadDraw as error:
            raise WrongError((("sql",), str(error))) from None
        sources: Mapping[str, SourceSpec] = info.data.get("sources") or {}
        unknown = sorted(name for name in read if sources and name.lower() not in sources)
        if unknown:
            raise WrongError(
                *(
                    (
                        ("sql",),
                        f"reads {shown(name)}, which is no source here; {close_matches(name, sources)}",
                    )
                    for name in unknown
                )
            )
        uses = re.search(r"\$segment\b", _bare_sql(draw.sql)) is not None
        if segments and not segments.is_whole and not uses:
            raise WrongError((("sql",), "never uses $segment, so every segment would draw the same rows"))
        if segments and segments.is_whole and uses:
            raise WrongError((("sql",), "uses $segment, but the spec has no `segments`"))
        return draw

    @field_validator("key")
    @classmethod
    def _key_is_not_target(cls, key: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        target: TargetSpec | None = info.data.get("target")
        if target and target.column in key:
            raise WrongError(
                ((key.index(target.column),), "is the target; a key must be known before the target is")
            )
        return key

    @field_validator("features")
    @classmethod
    def _features_are_not_target(cls, features: FeaturesSpec, info: ValidationInfo) -> FeaturesSpec:
        target: TargetSpec | None = info.data.get("target")
        if target and target.column in features.drop:
            at = features.drop.index(target.column)
            raise WrongError((("drop", at), "is the target, which is never a feature and cannot be dropped"))
        if target and target.column in features.kinds:
            raise WrongError((("kinds", target.column), "is the target; its type follows from target.task"))
        return features

    @field_validator("split")
    @classmethod
    def _split_is_not_target(cls, split: SplitSpec, info: ValidationInfo) -> SplitSpec:
        target: TargetSpec | None = info.data.get("target")
        if target and target.column == split.column:
            raise WrongError((("column",), "is the target; split by a column that is known before"))
        return split

    @field_validator("model")
    @classmethod
    def _metric_of_task(cls, model: ModelSpec, info: ValidationInfo) -> ModelSpec:
        target: TargetSpec | None = info.data.get("target")
        if target is None:
            return model
        known = METRICS[target.task]
        if not model.metric:
            return model.model_copy(update={"metric": DEFAULT_METRIC[target.task]})
        if model.metric not in known:
            hint = close_matches(model.metric, known)
            text = f"{shown(model.metric)} is no metric of a {target.task} task; {hint}"
            raise WrongError((("metric",), text))
        return model

    @field_validator("checks")
    @classmethod
    def _checks_known(cls, checks: ChecksSpec, info: ValidationInfo) -> ChecksSpec:
        target: TargetSpec | None = info.data.get("target")
        if target is None:
            return checks
        known = check_names(target.task)
        wrong = [
            (
                (part, name),
                f"{shown(name)} is no metric or check of a {target.task} task; {close_matches(name, known)}",
            )
            for part, limits in (("fail", checks.fail), ("warn", checks.warn))
            for name in limits
            if name not in known
        ]
        if wrong:
            raise WrongError(*wrong)
        return checks

    @field_validator("review")
    @classmethod
    def _rules_known(cls, review: ReviewSpec, info: ValidationInfo) -> ReviewSpec:
        target: TargetSpec | None = info.data.get("target")
        if target is None:
            return review
        authors: tuple[str, ...] = info.data.get("authors") or ()
        if review.four_eyes and review.reviewers and set(review.reviewers) <= set(authors):
            raise WrongError(
                (
                    ("four_eyes",),
                    "leaves nobody to decide: every one of the reviewers is an author of the spec",
                )
            )
        wrong = [
            (("rules", at), text)
            for at, rule in enumerate(review.rules)
            if (text := _rule_trouble(rule, target.task))
        ]
        if wrong:
            raise WrongError(*wrong)
        return review

    @field_validator("rework")
    @classmethod
    def _claims_known(cls, rework: ReworkSpec, info: ValidationInfo) -> ReworkSpec:
        target: TargetSpec | None = info.data.get("target")
        if target is None:
            return rework
        claims = [entry.claim for entry in CHECKS if target.task in entry.tasks]
        wrong = [
            (
                ("verdicts", claim),
                f"{shown(claim)} is no check of a {target.task} task; {close_matches(claim, claims)}",
            )
            for claim in rework.verdicts
            if claim not in claims
        ]
        if wrong:
            raise WrongError(*wrong)
        return rework

    @field_validator("stale_after")
    @classmethod
    def _sources_known(cls, stale_after: Mapping[str, str], info: ValidationInfo) -> Mapping[str, str]:
        sources: Mapping[str, SourceSpec] | None = info.data.get("sources")
        wrong = [
            ((name,), f"{shown(name)} is no source of this project; {close_matches(name, sources)}")
            for name in stale_after
            if sources is not None and name not in sources
        ]
        if wrong:
            raise WrongError(*wrong)
        return stale_after

    def hash_of(self, *sections: str) -> str:
        """Return a stable hash of the named sections, so that a step can depend on what concerns it only.

        Args:
            sections: Field names of the spec; their order does not matter.

        Raises:
            KeyError: If a name is no field of the spec.
        """
        values = self.model_dump(mode="json")
        chosen = {section: values[section] for section in sorted(set(sections))}
        text = json.dumps(chosen, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return str(blake3(text.encode()).hexdigest())

    def text(self) -> str:
        """Return the whole spec as JSON text, which is read again as YAML; in the order in which it was written."""
        return json.dumps(self.model_dump(mode="json"), ensure_ascii=False, indent=1)

    def hash(self) -> str:
        """Return a stable hash of the whole spec: equal for equal meaning, whatever the file looks like."""
        return self.hash_of(*type(self).model_fields)


def check_names(task: TaskName) -> tuple[str, ...]:
    """Return every name that `checks` of a spec with this task may limit: metrics, claims and measures."""
    entries = [entry for entry in CHECKS if task in entry.tasks]
    names = [*METRICS[task], *(entry.claim for entry in entries), *(entry.measure for entry in entries)]
    return tuple(dict.fromkeys(name for name in names if name))


def _bare_sql(sql: str) -> str:
    """Return `sql` without its comments, quoted names and text literals."""
    passed_over = r""""(?:[^"]|"")*"|'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/"""
    return re.sub(passed_over, lambda match: " " if match[0][0] in "-/" else " x ", sql, flags=re.DOTALL)


def _rule_trouble(text: str, task: TaskName) -> str | None:
    """Return what is wrong with a rule for this task, or None."""
    claims = [entry.claim for entry in CHECKS if task in entry.tasks]
    rule = parse_rule(text)
    if rule is None or (rule.form == "claim" and rule.name not in claims):
        return (
            f"{shown(text)} is no rule; write one like {', '.join(f'`{form}`' for form in FORMS)}, "
            f"or the name of a check ({close_matches(text, claims)})"
        )
    if rule.metric and rule.metric not in METRICS[task]:
        return (
            f"{shown(rule.metric)} is no metric of a {task} task; {close_matches(rule.metric, METRICS[task])}"
        )
    return None


def _place(where: Place, document: Any) -> Place:
    """Return where in a file something stands; a file does not know all levels that the model has."""
    place = tuple(part for part in where if part not in _RULE_TAGS.values())
    if place[:2] == ("retrain", "rule"):
        return ("retrain", *place[2:])
    if (
        place[0] == "sources"
        and place[2:] == ("files",)
        and not isinstance(document["sources"][place[1]], dict)
    ):
        return place[:2]
    if place[:2] == ("segments", "values") and isinstance(document["segments"], list):
        return ("segments", *place[2:])
    return place


# Whatever is said of a source has one example, however deep it stands.
_EXAMPLES |= {f"sources.{field.rpartition('.')[2]}": example for field, example in SOURCE_EXAMPLES.items()}
_EXAMPLES |= EXPECT_EXAMPLES
_GRAMMAR = Grammar(
    ProjectSpec, _EXAMPLES, nested=("retrain", "expect", "sources"), named_by="project", place=_place
)


@dataclass(frozen=True)
class LoadedProjects:
    """The specs of a folder.

    Attributes:
        specs: Usable specs by project.
        errors: One error per file that cannot be used; its project, where known, must be left as it is.
        files: File of each usable spec, by project.
    """

    specs: dict[str, ProjectSpec]
    errors: list[SpecError]
    files: dict[str, Path] = field(default_factory=dict)

    @property
    def sources(self) -> dict[str, SourceSpec]:
        """What the usable specs say together of every source that one of them reads, by name."""
        found: dict[str, SourceSpec] = {}
        for spec in self.specs.values():
            for name, source in sorted(spec.sources.items()):
                found[name] = together(name, found.get(name, source), source) or source
        return {name: source.with_place(name) for name, source in found.items()}


def load_project(path: Path) -> ProjectSpec:
    """Read one spec.

    Raises:
        SpecError: With every mistake in the file: its line, field, what is wrong and an example of right.
    """
    return _GRAMMAR.read(path)[0]


def load_projects(folder: Path, shared: Mapping[str, SourceSpec] | None = None) -> LoadedProjects:
    """Read every `*.yaml` and `*.yml` of a folder; what cannot be used is reported beside what can.

    Two files that name one project, and two specs that contradict each other about a source, are all refused:
    nothing says which of them is meant.

    Args:
        folder: Where the specs are.
        shared: Sources that the home describes for all projects, by name.
    """
    found: list[tuple[Path, ProjectSpec, Any]] = []
    errors: list[SpecError] = []
    paths = folder.iterdir() if folder.is_dir() else ()
    for path in sorted(
        path for path in paths if path.suffix in (".yaml", ".yml") and not path.name.startswith(".")
    ):
        try:
            found.append((path, *_GRAMMAR.read(path)))
        except SpecError as error:
            errors.append(error)
    specs: dict[str, ProjectSpec] = {}
    files: dict[str, Path] = {}
    for path, spec, document in found:
        mistakes: list[Mistake] = []
        for other, other_spec, _ in found:
            if other == path:
                continue
            if other_spec.project == spec.project:
                wrong = f"{spec.project} is named by {other.name} as well; one project has one file"
                mistakes.append(_GRAMMAR.mistake(document, ("project",), wrong))
            mistakes += _contradictions(document, spec.sources, other_spec.sources, other.name)
        mistakes += _contradictions(document, spec.sources, shared or {}, "the home's own description of it")
        if mistakes:
            errors.append(SpecError(path, mistakes, spec.project))
        else:
            specs[spec.project] = spec
            files[spec.project] = path
    return LoadedProjects(specs, errors, files)


def all_sources(loaded: LoadedProjects, described: LoadedSources, folders: Iterable[str]) -> LoadedSources:
    """Return what is known about every source of a home.

    A folder of the landing zone that no spec covers is a source of its name, unless a spec cannot be read, which may
    be about it.

    Args:
        loaded: The projects.
        described: The sources with a file of their own.
        folders: Names of the folders of the landing zone.
    """
    specs = {**loaded.sources, **described.specs}
    for name, spec in described.specs.items():
        specs[name] = (together(name, spec, loaded.sources.get(name, spec)) or spec).with_place(name)
    if not loaded.errors and not described.errors:
        for name in folders:
            if (
                not name_trouble(name)
                and name not in specs
                and not any(covers(one, name) for one in specs.values())
            ):
                specs[name] = SourceSpec().with_place(name)
    known = {name: spec for name, spec in sorted(specs.items()) if name not in described.unreadable}
    return LoadedSources(known, described.errors, described.files)


def _contradictions(
    document: Any, ours: Mapping[str, SourceSpec], theirs: Mapping[str, SourceSpec], where: str
) -> Iterator[Mistake]:
    for name in ours.keys() & theirs.keys():
        if together(name, ours[name], theirs[name]) is None:
            here, there = (shown(one[name].model_dump(mode="json")) for one in (ours, theirs))
            wrong = (
                f"source {name} is {here} here and {there} in {where}; "
                "sources are shared by all projects: say the same of it, or use another name"
            )
            yield _GRAMMAR.mistake(document, ("sources", name), wrong)


class UnknownProject(MlassetsError):
    """No spec names this project."""


def named_project(loaded: LoadedProjects, project: str) -> ProjectSpec:
    """Return the spec of a project.

    Raises:
        SpecError: If the project's spec does not load.
        UnknownProject: If no file names the project.
    """
    if project in loaded.specs:
        return loaded.specs[project]
    for error in loaded.errors:
        if error.project == project:
            raise error
    raise UnknownProject(
        f"no spec names the project {shown(project)}; {close_matches(project, loaded.specs)}"
    )
