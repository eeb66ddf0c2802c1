"""sources: landed files as Parquet, one immutable file for each landed file."""

from collections.abc import Iterator

import dagster as dg

from mlassets.home import Home
from mlassets.ingestion.taking import taking, zone_of
from mlassets.origins import fetch_origin
from mlassets.partitions import sources as by_source
from mlassets.steps import CODE_VERSIONS, SOURCES
from resources.things import Draft, Partition


class SourcesConfig(dg.Config):
    """How landed files are taken.

    Attributes:
        quiet_seconds: Files that may still be written to are looked at again after this time; 0 takes all at once.
        fetch: Whether to fetch first what the source's spec says.
        again: Names of refused files that are tried once more, or forgotten if they are gone.
    """

    quiet_seconds: float = 1.0
    fetch: bool = False
    again: list[str] = []


@dg.asset(
    name=SOURCES,
    partitions_def=by_source,
    io_manager_key="things",
    code_version=CODE_VERSIONS[SOURCES],
    kinds={"parquet"},
    group_name="steps",
    tags={"step": SOURCES},
    output_required=False,
)
def sources(
    context: dg.AssetExecutionContext, config: SourcesConfig, home: Home
) -> Iterator[dg.Output[Draft]]:
    """Raw tables: every file that landed for a source, converted to Parquet, hashed and never changed.

    A version lists all files of the source; files that were there already are pointed at, not copied. Landing the
    same bytes again makes no version.
    """
    name = context.partition_key
    spec = home.source(name)
    if config.fetch:
        context.log.info(f"fetched {fetch_origin(name, spec, home.settings)}")
    with taking(
        name,
        zone_of(spec.files, home.settings),
        home.store.latest(SOURCES, Partition.source(name)),
        options=spec.options,
        quarantine=home.settings.quarantine,
        code_version=CODE_VERSIONS[SOURCES],
        quiet_seconds=config.quiet_seconds,
        again=config.again,
    ) as taken:
        for note in taken.notes:
            context.log.info(note)
        if taken.draft is not None:
            yield dg.Output(taken.draft)
