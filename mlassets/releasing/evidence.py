"""What a reviewer decides on, gathered in one place: metrics, champion, verdicts, what changed, what to type."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlassets.projects import ProjectSpec
from mlassets.quality.displays import Code, Display, Table, Text
from mlassets.releasing.comparing import Compared, as_parameters, compare_with_champion
from mlassets.releasing.deciding import things_below
from mlassets.releasing.review import Decision, verdicts_below
from mlassets.rules import Facts
from mlassets.steps import DRAW_DATA, MODEL, REVIEW, SOURCES, STEPS
from resources.errors import MlassetsError
from resources.store import Store
from resources.things import Thing
from resources.verdicts import Verdict

_LINES = 40
_LONG = 200
_VERDICTS_SHOWN = 1_500


@dataclass(frozen=True)
class Evidence:
    """All that a decision on one version rests on.

    Attributes:
        spec: The project.
        aggregate: The version.
        below: Every verdict on it and on what it was made from, each with the Thing it is on.
        compared: The version beside the champion, on the same rows.
        things: The version and all that it was made from.
        approved: The last review that approved another version; None if none has.
        approved_things: The version that it approved, and what that was made from.
    """

    spec: ProjectSpec
    aggregate: Thing
    below: tuple[tuple[Thing, Verdict], ...]
    compared: Compared
    things: tuple[Thing, ...]
    approved: Thing | None
    approved_things: tuple[Thing, ...]

    @property
    def facts(self) -> Facts:
        """What the rules are held against."""
        together = self.compared.together
        return Facts(
            metrics=self.aggregate.metrics,
            verdicts=[verdict for _, verdict in self.below],
            metric=self.spec.model.metric,
            champion=self.compared.release is not None,
            gains=together.gains if together else {},
            not_compared=self.compared.not_compared,
        )

    @property
    def models(self) -> dict[str, Thing]:
        """The models of the version by segment."""
        return {one.partition["segment"]: one for one in self.things if one.step == MODEL}

    def as_parameters(self) -> dict[str, Any]:
        """Return what a review keeps of it: the whole spec, and how the version does beside the champion."""
        return {
            "spec": _plain_spec(self.spec),
            "compared": as_parameters(self.compared, self.spec.model.metric),
        }


def gather(store: Store, aggregate: Thing, spec: ProjectSpec) -> Evidence:
    """Gather the evidence on one version."""
    approved = _last_approved(store, aggregate)
    before = store.get(approved.parameters["aggregate"]) if approved else None
    return Evidence(
        spec,
        aggregate,
        tuple(verdicts_below(store, aggregate)),
        compare_with_champion(store, aggregate, spec),
        tuple(things_below(store, aggregate)),
        approved,
        tuple(things_below(store, before)) if before else (),
    )


def _last_approved(store: Store, aggregate: Thing) -> Thing | None:
    for review in store.history(REVIEW, aggregate.partition):
        other = review.parameters.get("aggregate")
        if review.parameters["decision"] == "approve" and other not in (None, aggregate.id):
            return review
    return None


def evidence_page(evidence: Evidence, decision: Decision) -> bytes:
    """Return one self-contained HTML page with all that a reviewer needs."""
    from mlassets.quality.report import render_report

    spec, aggregate = evidence.spec, evidence.aggregate
    rows = [
        ("Project", spec.project),
        ("Version", aggregate.id),
        ("Made", f"{aggregate.created_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("Decision", decision.decision),
        ("Decided by", decision.decided_by or "nobody yet"),
        ("Comment", decision.comment),
    ]
    if decision.send_back_to:
        of = f" of {', '.join(decision.segments)}" if decision.segments else ""
        rows.append(("Sent back to", f"{decision.send_back_to}{of}"))
    verdicts = [
        Verdict(**{**vars(verdict), "message": f"{thing.step} of {thing.partition.key}: {verdict.message}"})
        for thing, verdict in evidence.below
    ]
    # Hundreds of segments have more verdicts than a page can hold. What failed is always there.
    verdicts.sort(key=lambda verdict: (verdict.passed, verdict.status == "not_applicable"))
    failed = sum(not verdict.passed for verdict in verdicts)
    listed = verdicts[: max(_VERDICTS_SHOWN, failed)]
    if left_out := len(verdicts) - len(listed):
        told = f"{left_out:,} of {len(verdicts):,} verdicts, all of which passed or do not apply"
        rows.append(("Not listed", told))
    sections: list[tuple[str, Sequence[Display]]] = [
        ("To decide", to_decide(spec, aggregate, decision)),
        ("Rules", [_rules(decision)] if decision.rules else [Text("The spec names no rule.")]),
        ("Metrics", list(_metrics(evidence))),
        ("What changed since the last approved version", list(changes(evidence))),
    ]
    return render_report(
        listed,
        title=f"Review of {spec.project}",
        rows=rows,
        pictures=_pictures(evidence),
        sections=sections,
    )


def to_decide(spec: ProjectSpec, aggregate: Thing, decision: Decision) -> list[Display]:
    """Return what to type in order to decide on exactly this version."""
    who = [f"The spec lets only {', '.join(spec.review.reviewers)} decide."] if spec.review.reviewers else []
    if spec.review.four_eyes:
        who.append("Whoever decides is neither an author of the spec nor has made what is decided on.")
    if decision.claim:
        about = (
            f"{decision.decided_by} has decided on this version already. A later decision comes on top of that "
            "one, and is recorded beside it:"
        )
        version = ""
    else:
        about = "Each command decides on exactly this version, and is refused once there is a newer one:"
        version = f" --version {aggregate.id}"
    commands = [
        f'mlassets review {spec.project} approve{version} --comment "why"',
        f'mlassets review {spec.project} reject{version} --comment "why" --send-back-to model',
    ]
    given = ["decision", "reviewer", "comment", *(["version"] if version else [])]
    form = f"In Dagster: materialize review of {spec.project}, with {', '.join(given)} in the launch form."
    return [Text(" ".join([about, *who])), Code("\n".join(commands)), Text(form)]


def _rules(decision: Decision) -> Table:
    return Table(
        ("Rule", "Result", "Observed", ""),
        tuple(
            (
                rule.rule,
                "met" if rule.met else "not met",
                "" if rule.observed is None else f"{rule.observed:.4g}",
                rule.says,
            )
            for rule in decision.rules
        ),
    )


def _metrics(evidence: Evidence) -> Iterator[Display]:
    metric, compared = evidence.spec.model.metric, evidence.compared
    header = (
        "Segment",
        "Test rows",
        f"{metric} (95 % interval)",
        "Baseline",
        "Champion, same rows",
        "Better than champion (95 % interval)",
    )
    rows = [
        (
            name,
            f"{model.rows or 0:,}",
            _interval(model.metrics, f"test.{metric}"),
            _number(model.metrics.get(f"baseline.test.{metric}")),
            *_against(compared.segments.get(name), metric, compared, name),
        )
        for name, model in sorted(evidence.models.items())
    ]
    pooled = (
        "together",
        f"{evidence.aggregate.rows or 0:,}",
        _interval(evidence.aggregate.metrics, f"test.{metric}"),
        "",
        *_against(compared.together, metric, compared, ""),
    )
    yield Table(header, (*rows, pooled))
    if compared.release is None:
        yield Text("There is no champion yet.")
    else:
        left = "; ".join(f"{name}: {why}" for name, why in compared.left_out.items())
        yield Text(
            f"The champion is the release {compared.release}. Positive is better, whichever direction the metric has."
            + (f" Not compared: {left}." if left else "")
        )
    others = [
        (name.removeprefix("test."), _interval(evidence.aggregate.metrics, name))
        for name in evidence.aggregate.metrics
        if name.startswith("test.") and not name.endswith((".low", ".high"))
    ]
    yield Table(("All segments together", "On test (95 % interval)"), tuple(others))


def _against(beside: Any, metric: str, compared: Compared, name: str) -> tuple[str, str]:
    if beside is None or metric not in beside.gains:
        return "", "not compared" if compared.release and (
            name in compared.left_out or beside is None
        ) else ""
    low, high = beside.interval or (None, None)
    ends = "" if low is None or high is None else f" ({low:+.4f} to {high:+.4f})"
    return _number(beside.champion.get(metric)), f"{beside.gains[metric]:+.4f}{ends}"


def _interval(metrics: Mapping[str, float], name: str) -> str:
    low, high = metrics.get(f"{name}.low"), metrics.get(f"{name}.high")
    ends = "" if low is None or high is None else f" ({low:.4g} to {high:.4g})"
    return f"{_number(metrics.get(name))}{ends}"


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g}"


def _pictures(evidence: Evidence) -> dict[str, bytes]:
    found = [("", evidence.aggregate), *((f"{name}: ", one) for name, one in sorted(evidence.models.items()))]
    return {
        f"{before}{name}": thing.artifact(name)
        for before, thing in found
        for name in sorted(thing.artifacts)
        if name.endswith(".png")
    }


def changes(evidence: Evidence) -> Iterator[Display]:
    """Say what is different from the last approved version: data, spec, code, packages."""
    approved = evidence.approved
    if approved is None:
        yield Text("No other version was approved yet.")
        return
    yield Text(
        f"The last approved version is {approved.parameters['aggregate']}, approved by "
        f"{approved.parameters.get('decided_by') or 'nobody named'} at {approved.created_at:%Y-%m-%d %H:%M} UTC."
    )
    yield from _table(("Data", "Before", "Now"), _data(evidence), "The data is the same.")
    now, before = _plain_spec(evidence.spec), approved.parameters.get("spec")
    if before is None:
        yield Text("That review did not record the spec.")
    else:
        yield from _table(("Spec", "Before", "Now"), list(differences(before, now)), "The spec is the same.")
    yield from _table(("Code", "Before", "Now"), _code(evidence), "Code and packages are the same.")


def _table(
    header: tuple[str, str, str], rows: Sequence[tuple[str, str, str]], same: str
) -> Iterator[Display]:
    if not rows:
        yield Text(same)
        return
    shown = [tuple(_shortened(cell) for cell in row) for row in rows[:_LINES]]
    left = len(rows) - len(shown)
    if left:
        shown.append((f"and {left:,} more", "", ""))
    yield Table(header, tuple(shown))


def _shortened(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"


def _data(evidence: Evidence) -> list[tuple[str, str, str]]:
    rows: list[tuple[str, str, str]] = []
    now, before = _newest(evidence.things), _newest(evidence.approved_things)
    for key in sorted({*now, *before}):
        new, old = now.get(key), before.get(key)
        if key[0] not in (SOURCES, DRAW_DATA) or (new and old and new.data_version == old.data_version):
            continue
        counts = [_rows_of(old), _rows_of(new)]
        rows.append(
            (f"rows of {'source ' if key[0] == SOURCES else 'the draw of '}{key[1]}", counts[0], counts[1])
        )
        if key[0] == SOURCES:
            had, has = _files(old), _files(new)
            rows += [
                (f"file {name}", "" if name not in had else "landed", _change(name, had, has))
                for name in sorted({*had, *has})
                if had.get(name) != has.get(name)
            ]
    return rows


def _newest(things: Sequence[Thing]) -> dict[tuple[str, str], Thing]:
    found: dict[tuple[str, str], Thing] = {}
    for one in things:
        key = one.step, one.partition.key
        if key not in found or one.id > found[key].id:
            found[key] = one
    return found


def _rows_of(thing: Thing | None) -> str:
    if thing is None:
        return "not there"
    rows = thing.metrics.get("rows", thing.rows)
    return "unknown" if rows is None else f"{int(rows):,}"


def _files(thing: Thing | None) -> dict[str, str]:
    return {one["name"]: one["hash"] for one in thing.parameters.get("files", [])} if thing else {}


def _change(name: str, had: Mapping[str, str], has: Mapping[str, str]) -> str:
    return "gone" if name not in has else "added" if name not in had else "other content"


def _code(evidence: Evidence) -> list[tuple[str, str, str]]:
    rows: list[tuple[str, str, str]] = []
    now = {one.step: one for one in reversed(evidence.things)}
    before = {one.step: one for one in reversed(evidence.approved_things)}
    for step in (SOURCES, *STEPS):
        if step in now and step in before and now[step].code_version != before[step].code_version:
            versions = [str(found[step].code_version) for found in (before, now)]
            rows.append((f"code version of {step}", versions[0], versions[1]))
    assert evidence.approved is not None, "changes are told of since an approved version"
    old, new = evidence.approved_things[0], evidence.aggregate
    commits = [_commit(one) for one in (old, new)]
    if commits[0] != commits[1]:
        rows.append(("git commit", commits[0], commits[1]))
    if old.provenance.get("environment") != new.provenance.get("environment"):
        try:
            had, has = old.packages(), new.packages()
        except MlassetsError as error:
            return [*rows, ("packages", "", f"cannot be compared: {error}")]
        rows += [
            (name, had.get(name, "not installed"), has.get(name, "not installed"))
            for name in sorted({*had, *has})
            if had.get(name) != has.get(name)
        ]
    return rows


def _commit(thing: Thing) -> str:
    git = thing.provenance.get("git")
    if not git:
        return "not in git"
    return f"{git['commit'][:12]}{' with changes' if git.get('dirty') else ''}"


def _plain_spec(spec: ProjectSpec) -> dict[str, Any]:
    return spec.model_dump(mode="json")


def differences(before: Any, now: Any, where: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield where two specs differ: dotted field, the value before, the value now."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in sorted({*before, *now}):
            inner = f"{where}.{name}" if where else str(name)
            yield from differences(before.get(name), now.get(name), inner)
    elif before != now:
        yield where, _value(before), _value(now)


def _value(value: Any) -> str:
    if value is None:
        return "not there"
    if isinstance(value, list):
        return ", ".join(map(_value, value)) or "none"
    return str(value)
