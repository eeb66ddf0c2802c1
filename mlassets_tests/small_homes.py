"""Small homes for the tests: generated departures, one spec or two, and short ways to run and to look."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
from typer.testing import CliRunner, Result

from mlassets.cli import app
from mlassets.home import Home
from mlassets.remaking import remake
from mlassets.runs import Outcome, Runner, instance_of, lay_out
from mlassets.segments import segments_of
from mlassets.steps import PROJECT_STEPS, SEGMENT_STEPS, SOURCES, STEPS
from resources.settings import Settings
from resources.store import Store
from resources.things import Partition, Thing

SEGMENTS = ("EWR", "JFK", "LGA")

# Read as YAML, so that every value can be replaced.
SPEC: dict[str, Any] = {
    "project": "late",
    "seed": 3,
    "sources": {"flights": "landing/flights/*"},
    "segments": {"column": "origin"},
    "draw": {"sql": "SELECT id, wind, carrier, late FROM flights WHERE origin = $segment"},
    "target": {"column": "late", "task": "binary"},
    "key": ["id"],
    "model": {
        "candidates": ["baseline", "linear"],
        "metric": "roc_auc",
        "tune": {"trials": 1, "seconds": 60},
    },
    "review": {"mode": "auto", "rules": ["roc_auc >= 0.5"]},
}


def departures(
    segments: Iterable[str] = SEGMENTS, rows: int = 130, seed: int = 0, first_id: int = 0
) -> list[dict[str, Any]]:
    """`rows` departures from each airport, where strong wind and one carrier make a flight late."""
    rng = np.random.default_rng(seed)
    made = []
    for origin in segments:
        for _ in range(rows):
            wind, carrier = float(np.round(rng.normal(), 3)), str(rng.choice(["AA", "B6", "DL"]))
            late = wind + (carrier == "B6") + rng.normal(scale=0.5) > 0.5
            made.append(
                {
                    "id": first_id + len(made),
                    "origin": origin,
                    "wind": wind,
                    "carrier": carrier,
                    "late": int(late),
                }
            )
    return made


def csv_text(rows: Iterable[Mapping[str, Any]]) -> str:
    listed = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(listed[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(listed)
    return text.getvalue()


def land(home: Path, name: str, content: bytes | str | Iterable[Mapping[str, Any]]) -> Path:
    """Write a file below the landing zone (`flights/2013-01.csv`), from bytes, text or rows."""
    path = home / "landing" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, bytes | str):
        content = csv_text(content)
    raw = content.encode() if isinstance(content, str) else content
    path.write_bytes(raw)
    return path


def write_spec(home: Path, **changes: Any) -> Path:
    """Write the small spec with some of its sections replaced; a section of None is left out."""
    spec = {name: value for name, value in {**SPEC, **changes}.items() if value is not None}
    path = home / "projects" / f"{spec['project']}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    # JSON is YAML.
    path.write_text(json.dumps(spec, indent=1, ensure_ascii=False), encoding="utf-8")
    return path


def new_home(folder: Path, rows: Iterable[Mapping[str, Any]] | None = None, **changes: Any) -> Path:
    """Lay out a home with the small spec and one landed file."""
    lay_out(Settings(home=folder))
    write_spec(folder, **changes)
    land(folder, "flights/2013-01.csv", departures() if rows is None else rows)
    return folder


@contextmanager
def runner_of(home: Path) -> Iterator[Runner]:
    """A Runner on a home and its Dagster instance."""
    with instance_of(Settings(home=home)) as instance:
        yield Runner(Home(home=str(home)), instance)


def run_all(home: Path, projects: list[str] | None = None) -> list[Outcome]:
    """Take what landed and run what is due, as `mlassets run` does."""
    with runner_of(home) as runner:
        return [*runner.take_landed_files(), *runner.run_due(projects)]


def make_all(home: Path, steps: Iterable[str] = STEPS) -> None:
    """Take what landed and make all steps of all projects, without checks: in a few seconds."""
    store, loaded = store_of(home), Home(home=str(home)).projects()
    for source in loaded.sources:
        remake(str(home), SOURCES, source, {"source": [source]})
    for spec in loaded.specs.values():
        names = segments_of(spec, store) or []
        known = {"project": [spec.project], "segment": names}
        for name in names:
            for step in filter(SEGMENT_STEPS.__contains__, steps):
                remake(str(home), step, Partition.segment(spec.project, name).key, known)
        for step in filter(PROJECT_STEPS.__contains__, steps):
            remake(str(home), step, spec.project, known)


def store_of(home: Path) -> Store:
    return Store.open(Settings(home=home))


def newest(home: Path) -> dict[tuple[str, str], Thing]:
    """The newest Thing of every step and partition."""
    found: dict[tuple[str, str], Thing] = {}
    for thing in store_of(home).history():
        found.setdefault((thing.step, thing.partition.key), thing)
    return found


def ran(outcomes: Iterable[Outcome]) -> set[tuple[str, str]]:
    """Which steps of which partitions ran."""
    return {(step, one.partition) for one in outcomes for step in one.steps}


def mlassets(home: Path | None, *words: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, [*words, *(["--home", str(home)] if home else [])])


def status_but_for_ages(home: Path) -> str:
    """What `mlassets status --json` says, but for how long ago things were."""
    told = mlassets(home, "status", "--json").stdout
    return re.sub(r'"age(_seconds)?": [^\n]*|for \d+ \w+', "", told)


def mlassets_process(home: Path, *words: str, **variables: str) -> subprocess.Popen[str]:
    """Run the installed command as a process of its own, with some more variables."""
    command = [str(Path(sys.executable).parent / "mlassets"), *words, "--home", str(home)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **variables}
    )


def check_evaluations(home: Path) -> dict[tuple[str, str, str | None], Any]:
    """Dagster's newest evaluation of every check, by step, check and partition."""
    found: dict[tuple[str, str, str | None], Any] = {}
    with instance_of(Settings(home=home)) as instance:
        records = instance.event_log_storage.get_event_records(
            dg.EventRecordsFilter(dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        )
        for record in records:
            event = record.event_log_entry.dagster_event
            evaluation = event.asset_check_evaluation_data
            key = (evaluation.asset_key.path[-1], evaluation.check_name, evaluation.partition)
            found.setdefault(key, evaluation)
    return found
