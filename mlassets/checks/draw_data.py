"""Verdicts on drawn rows: deepchecks' data-integrity suite, and what must be counted on every row."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg
import pyarrow as pa

from mlassets.checks.expecting import rows_of_sources
from mlassets.checks.reporting import declare, report
from mlassets.checks.texts import text_rows
from mlassets.home import Home
from mlassets.partitions import segments
from mlassets.releasing.release import champion_draw, champion_ready, made_from
from mlassets.steps import DRAW_DATA
from resources.roles import features_of, with_role
from resources.things import Thing

if TYPE_CHECKING:
    from mlassets.quality.suites import Judgement


def verdicts_on(home: Home, draw_data: Thing) -> "Judgement":
    """Whether the draw can be trusted, before anything is modelled on it."""
    from mlassets.quality.suites import judge_draw

    spec = home.project(draw_data.partition.key)
    others, unknown = rows_of_sources(home, spec.expect.sources)
    return judge_draw(
        draw_data.table(),
        target=spec.target.column,
        task=spec.target.task,
        limits=spec.checks.limits,
        key=spec.key,
        drop=spec.features.drop,
        date=spec.split.column if spec.split.by == "time" else None,
        known_schema=_schema_relied_on(home, draw_data),
        champion=_champion_rows(home, draw_data),
        expected=spec.expect,
        others=others,
        unknown=unknown,
        drawn_at=draw_data.created_at,
        texts=text_rows(
            draw_data,
            spec.expect.texts,
            lambda: champion_draw(home.store, draw_data.partition),
            label=spec.target.column,
            sample=spec.checks.sample,
            seed=spec.seed,
        ),
        sample=spec.checks.sample,
        seed=spec.seed,
    )


@dg.multi_asset_check(name="draw_data_checks", specs=declare(DRAW_DATA, "integrity", segments))
def draw_data_checks(
    context: dg.AssetCheckExecutionContext, draw_data: Thing, home: Home
) -> Iterator[dg.AssetCheckResult]:
    """Whether the draw can be trusted, before anything is modelled on it."""
    yield from report(home, draw_data, verdicts_on(home, draw_data), context.run.run_id)


def _schema_relied_on(home: Home, draw: Thing) -> pa.Schema | None:
    """The schema that the champion's draw had, unless the project's draw was changed on purpose since."""
    champion = champion_draw(home.store, draw.partition)
    return champion.schema if champion and champion.spec_hash == draw.spec_hash else None


def _champion_rows(home: Home, draw: Thing) -> pa.Table | None:
    """The rows that the champion was trained on: what it uses of its draw as it is, marked with kinds."""
    ready = champion_ready(home.store, draw.partition)
    if ready is None or ready.schema is None:
        return None
    champion = made_from(home.store, ready, DRAW_DATA)
    drawn = set(champion.schema.names if champion.schema else ())
    kinds = {name: kind for name, kind in features_of(ready.schema).items() if name in drawn}
    rows = champion.table(list(kinds))
    return rows.cast(
        pa.schema([with_role(rows.schema.field(name), "feature", kind) for name, kind in kinds.items()])
    )
