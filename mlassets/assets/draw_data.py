"""draw_data: the rows of one segment, drawn from the sources by the project's SQL."""

import dagster as dg

from mlassets.home import Home
from mlassets.partitions import segments
from mlassets.rework import next_attempt
from mlassets.steps import CODE_VERSIONS, DRAW_DATA, SOURCES, draw_reads, step_hash
from resources.query import run_draw
from resources.things import Draft, Partition


@dg.asset(
    name=DRAW_DATA,
    partitions_def=segments,
    io_manager_key="things",
    deps=[dg.AssetDep(SOURCES, partition_mapping=dg.AllPartitionMapping())],
    code_version=CODE_VERSIONS[DRAW_DATA],
    kinds={"duckdb", "sql"},
    group_name="steps",
    tags={"step": DRAW_DATA},
)
def draw_data(context: dg.AssetExecutionContext, home: Home) -> Draft:
    """The rows of one segment, drawn from the sources by the project's SQL.

    Their order depends on their values alone.
    """
    spec = home.project(context.partition_key)
    partition = Partition.parse(context.partition_key)
    attempt = next_attempt(spec, home.store, DRAW_DATA, partition)
    values = {} if spec.segments.is_whole else {"segment": partition["segment"]}
    with home.store.recording() as read:
        tables = {name: home.store.require(SOURCES, Partition.source(name)) for name in draw_reads(spec)}
        drawn = run_draw(
            spec.draw.sql,
            {name: source.scan() for name, source in tables.items()},
            values,
            memory=spec.draw.memory,
            seconds=spec.draw.seconds,
        )
    return Draft(
        dataset=drawn,
        parameters={
            "sql": spec.draw.sql,
            "values": {"segment": partition["segment"]},
            "sources": {name: source.id for name, source in tables.items()},
            **attempt.as_parameters(),
        },
        metrics={"rows": drawn.num_rows, "columns": drawn.num_columns, "bytes": drawn.nbytes},
        based_on=[*read, *attempt.based_on],
        code_version=CODE_VERSIONS[DRAW_DATA],
        spec_hash=step_hash(spec, DRAW_DATA),
        spec=spec.text(),
    )
