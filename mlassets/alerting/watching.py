"""What is open now, as the store and the specs say: blocking verdicts, waiting reviews, stale sources."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from mlassets.alerting.alerts import Alert, alert, length, since
from mlassets.projects import ProjectSpec
from mlassets.sections import duration
from mlassets.segments import segments_of
from mlassets.sources import SourceSpec
from mlassets.steps import AGGREGATE, PROJECT_STEPS, REVIEW, SEGMENT_STEPS, SOURCES, look_at
from resources.errors import MlassetsError
from resources.settings import Settings
from resources.snapshot import Snapshot
from resources.store import Store
from resources.things import Partition, Thing

MOST = 5_000
"""Of what is open, the newest so many are told: at some point, one more changes nothing."""


@dataclass(frozen=True)
class Open:
    """What is open now.

    Attributes:
        alerts: The newest first.
        seen: The projects that were looked at; one whose spec or data cannot be read is not among them.
        troubles: What could not be looked at, and why.
    """

    alerts: tuple[Alert, ...]
    seen: frozenset[str]
    troubles: tuple[str, ...]


def open_alerts(
    specs: Mapping[str, ProjectSpec],
    store: Store,
    settings: Settings,
    now: datetime | None = None,
    *,
    sources: Mapping[str, SourceSpec] | None = None,
    also: Iterable[Alert] = (),
) -> Open:
    """Return what is open in the store.

    Args:
        specs: Specs by project.
        store: The store.
        settings: Where pages are served.
        now: The time.
        sources: What is known about the sources, also of those that no project reads.
        also: Alerts from elsewhere, to be put among them.
    """
    now = now or datetime.now(UTC)
    seen = look_at(store)
    found, troubles, looked_at = list(also), [], set()
    for spec in specs.values():
        try:
            found += _of_project(spec, seen, settings, now)
            looked_at.add(spec.project)
        except MlassetsError as error:
            # One project's trouble must not hold up the others.
            troubles.append(f"{spec.project}: {error}")
    for name in sorted({name for spec in specs.values() for name in spec.sources} | set(sources or ())):
        thing = seen.latest(SOURCES, Partition.source(name))
        found += _blocked("", seen, thing, settings)
        if thing is not None and sources and name in sources:
            found += _stale(name, sources[name], thing, settings, now)
    newest = sorted({one.key: one for one in found}.values(), key=lambda one: (one.at, one.key), reverse=True)
    return Open(tuple(newest[:MOST]), frozenset(looked_at), tuple(troubles))


def _of_project(spec: ProjectSpec, seen: Snapshot, settings: Settings, now: datetime) -> Iterator[Alert]:
    for thing in newest_of(spec, seen):
        yield from _blocked(spec.project, seen, thing, settings)
    if waiting := waiting_review(spec, seen):
        yield _waiting(spec, waiting, settings, now)
    for name, thing in stale_sources(spec, seen, now):
        limit, files = spec.stale_after[name], spec.sources[name].with_place(name).files
        yield alert(
            f"stale_source/{spec.project}/{name}/{thing.id}",
            "stale_source",
            spec.project,
            f"{spec.project}: nothing has landed for {name} for {length(now - thing.created_at)}",
            f"The last file for {name} was taken at {since(thing.created_at, now)}; the spec of {spec.project} says "
            f"`stale_after: {{{name}: {limit}}}`.\nFind out why {files} gets no files, or give the "
            "source more time in the spec.",
            _asset_page(settings, SOURCES, name),
            thing.created_at + duration(limit),
        )


def _stale(name: str, spec: SourceSpec, thing: Thing, settings: Settings, now: datetime) -> Iterator[Alert]:
    if spec.stale_after is None or now - thing.created_at <= duration(spec.stale_after):
        return
    yield alert(
        f"stale_source//{name}/{thing.id}",
        "stale_source",
        "",
        f"nothing has landed for {name} for {length(now - thing.created_at)}",
        f"The last file was taken at {since(thing.created_at, now)}; its spec says `stale_after: {spec.stale_after}`.\n"
        f"Find out why {spec.with_place(name).files} gets no files, or give the source more time in its spec.",
        _asset_page(settings, SOURCES, name),
        thing.created_at + duration(spec.stale_after),
    )


def newest_of(spec: ProjectSpec, seen: Snapshot) -> Iterator[Thing]:
    """Yield the newest version of every step of a project, where there is one."""
    for name in segments_of(spec, seen) or ():
        for step in SEGMENT_STEPS:
            if thing := seen.latest(step, Partition.segment(spec.project, name)):
                yield thing
    for step in PROJECT_STEPS:
        if thing := seen.latest(step, Partition.project(spec.project)):
            yield thing


def waiting_review(spec: ProjectSpec, seen: Store | Snapshot) -> Thing | None:
    """Return the review of a project's newest aggregate, if it waits for a person.

    An aggregate that was made again and holds the same is not reviewed again: its review still waits.
    """
    project = Partition.project(spec.project)
    review, aggregate = seen.latest(REVIEW, project), seen.latest(AGGREGATE, project)
    if review is None or aggregate is None or review.parameters["decision"] != "wait":
        return None
    of = [one for one in map(seen.get, review.based_on) if one.step == AGGREGATE]
    return review if any(one.data_version == aggregate.data_version for one in of) else None


def stale_sources(spec: ProjectSpec, seen: Store | Snapshot, now: datetime) -> Iterator[tuple[str, Thing]]:
    """Yield the sources for which no file has landed for longer than the spec expects, with their newest version."""
    for name, limit in spec.stale_after.items():
        thing = seen.latest(SOURCES, Partition.source(name))
        if thing is not None and now - thing.created_at > duration(limit):
            yield name, thing


def _blocked(project: str, seen: Snapshot, thing: Thing | None, settings: Settings) -> Iterator[Alert]:
    if thing is None or not (blocking := seen.blocking(thing.id)):
        return
    claims = sorted(verdict.claim for verdict in blocking)
    more = f" and {len(claims) - 1} more" if len(claims) > 1 else ""
    found = [f"- {one.claim}: {one.message} (found {one.observed}, limit {one.limit})" for one in blocking]
    name = project or thing.partition.key
    yield alert(
        f"blocked/{thing.id}/{','.join(claims)}",
        "blocked",
        project,
        f"{name}: {claims[0]}{more} failed for {thing.step} of {thing.partition.key}",
        f"Made at {thing.created_at:%Y-%m-%d %H:%M} UTC; nothing downstream of it runs.\n"
        + "\n".join(found)
        + f"\nMend the data or the spec; either makes it anew. `mlassets report {thing.id}` says where the report is.",
        f"{settings.reports_url}/{thing.id}"
        if settings.reports_url
        else _asset_page(settings, thing.step, thing.partition.key),
        thing.created_at,
    )


def _waiting(spec: ProjectSpec, review: Thing, settings: Settings, now: datetime) -> Alert:
    rules = review.parameters.get("rules", [])
    unmet = [str(one["rule"]) for one in rules if not one["met"]]
    met = f"Not met: {'; '.join(unmet)}.\n" if unmet else "Every rule is met.\n" if rules else ""
    return alert(
        f"waiting_review/{review.id}",
        "waiting_review",
        spec.project,
        f"{spec.project}: a review waits for {reviewers_of(spec)}",
        f"Since {since(review.created_at, now)}: {review.parameters.get('comment', '')}.\n{met}"
        f'Decide with `mlassets review {spec.project} approve --comment "…"`, or `reject`.',
        f"{settings.reports_url}/{review.id}/evidence.html"
        if settings.reports_url
        else _asset_page(settings, REVIEW, spec.project),
        review.created_at,
    )


def reviewers_of(spec: ProjectSpec) -> str:
    """Say who may decide on a project."""
    return " or ".join(spec.review.reviewers) or "a reviewer"


def _asset_page(settings: Settings, step: str, partition: str) -> str:
    from urllib.parse import quote

    if not settings.dagster_url:
        return ""
    base = settings.dagster_url.rstrip("/")
    return f"{base}/assets/{step}?view=partitions&partition={quote(partition, safe='')}"
