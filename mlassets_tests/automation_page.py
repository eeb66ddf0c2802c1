"""What `mlassets why` says in the worked examples of docs/automation.md, played with the clock of a process.

    python -m mlassets_tests.automation_page

writes the outputs into the page anew; the test compares them. The specs of the examples are read from the page. Only
`why` itself is run: the versions that it looks at are committed by hand, because nothing needs to be modelled.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

PAGE = Path(__file__).parent.parent / "docs/automation.md"
COLUMNS = 118


class Scene:
    """A project whose versions are made by hand at chosen times."""

    def __init__(self, home: Path, clock: Path, retrain: str, segments: list[str] | None = None) -> None:
        from mlassets_tests.automation.made import Made

        self.clock, self.segments = clock, segments or ["EWR", "JFK"]
        self.set("2026-01-30 07:00:00")
        self.made = Made(home)
        self.made.spec("late", {"review:": f"{retrain}\nreview:", "[EWR, JFK]": json.dumps(self.segments)})
        self.rows = 9_000
        self.made.source("flights", self.flights(0))
        self.made.project_steps({name: self.made.segment_steps(name) for name in self.segments})

    def set(self, time: str) -> None:
        """Set the clock."""
        self.clock.write_text(time)

    def flights(self, more: int) -> dict[str, list[Any]]:
        """Rows of the source, `more` than before."""
        self.rows += more
        return {"origin": ["EWR"] * self.rows, "late": [0] * self.rows}

    def land(self, time: str, rows: int) -> None:
        """Take a file with so many rows at a time."""
        self.set(time)
        self.made.source("flights", self.flights(rows))

    def draw(self, drifts: dict[str, float]) -> None:
        """Draw anew, with a verdict on how far each segment has drifted."""
        from mlassets.automation.retraining import DRIFT_CLAIM
        from mlassets.steps import CODE_VERSIONS, DRAW_DATA, step_hash
        from resources.things import Draft, Partition, new_id
        from resources.verdicts import Verdict

        flights = self.made.store.require("sources", Partition.source("flights"))
        for name, drift in drifts.items():
            draft = Draft(
                dataset=pa.table({"row": range(self.rows)}),
                based_on=[flights.id],
                code_version=CODE_VERSIONS[DRAW_DATA],
                spec_hash=step_hash(self.made.specs["late"], DRAW_DATA),
            )
            draw = self.made.store.commit(DRAW_DATA, Partition.segment("late", name), draft)
            verdict = Verdict(
                DRIFT_CLAIM, "passed" if drift <= 0.2 else "failed", "WARN", drift, "<= 0.2", 9_000, "", {}
            )
            self.made.store.record_verdicts(draw.id, new_id(), [verdict], None)

    def why(self, time: str) -> str:
        """What the command says at a time."""
        from mlassets_tests.small_homes import mlassets

        self.set(time)
        done = mlassets(self.made.home, "why", "late")
        if done.exit_code:
            raise RuntimeError(done.output)
        return "".join(f"{line.rstrip()}\n" for line in done.output.splitlines())


def _enough_new_data(new: Callable[..., Scene]) -> Iterator[str]:
    scene = new()
    scene.land("2026-02-02 08:30:00", 320)
    yield scene.why("2026-02-02 09:00:00")
    scene.land("2026-02-03 08:30:00", 380)
    yield scene.why("2026-02-03 09:00:00")


def _on_a_schedule(new: Callable[..., Scene]) -> Iterator[str]:
    scene = new()
    scene.land("2026-01-31 10:00:00", 320)
    yield scene.why("2026-01-31 10:05:00")
    yield scene.why("2026-02-02 05:00:00")


def _on_drift(new: Callable[..., Scene]) -> Iterator[str]:
    scene = new()
    scene.land("2026-02-02 08:30:00", 320)
    scene.draw({"EWR": 0.31, "JFK": 0.06})
    yield scene.why("2026-02-02 09:00:00")
    names = [f"A{number:02}" for number in range(1, 21)]
    scene = new(names)
    scene.land("2026-02-02 08:30:00", 320)
    scene.draw(
        {
            name: 0.21 + number / 100 if number < 3 else 0.02 + number / 200
            for number, name in enumerate(names)
        }
    )
    yield scene.why("2026-02-02 09:00:00")


def _several_rules(new: Callable[..., Scene]) -> Iterator[str]:
    scene = new()
    scene.land("2026-02-01 08:30:00", 800)
    scene.draw({"EWR": 0.05, "JFK": 0.06})
    yield scene.why("2026-02-01 09:00:00")


def _not_too_often(new: Callable[..., Scene]) -> Iterator[str]:
    scene = new()
    scene.land("2026-01-30 10:00:00", 40)
    yield scene.why("2026-01-30 10:05:00")
    scene.set("2026-01-30 13:00:00")
    scene.made.project_steps(
        {name: scene.made.segment_steps(name, content="more") for name in scene.segments}
    )
    scene.land("2026-01-30 18:00:00", 40)
    yield scene.why("2026-01-30 19:00:00")


def _sent_back(new: Callable[..., Scene]) -> Iterator[str]:
    from mlassets_tests.test_rework import EWR, JFK, again, aggregate_again, reject

    scene = new()
    scene.set("2026-02-02 08:00:00")
    aggregate_again(scene.made, "")
    reject(scene.made, comment="misses the evening bank at EWR", segments=["EWR"])
    yield scene.why("2026-02-02 09:00:00")
    scene = new()
    scene.set("2026-02-02 08:00:00")
    aggregate_again(scene.made, "")
    reject(scene.made, by="rules", comment="not met: roc_auc >= 0.7")
    yield scene.why("2026-02-02 08:05:00")
    for partition in (EWR, JFK, EWR, JFK):
        again(scene.made, "model", partition, "")
    yield scene.why("2026-02-02 09:00:00")


SCENES = {
    "Enough new data": _enough_new_data,
    "On a schedule": _on_a_schedule,
    "On drift": _on_drift,
    "Several rules": _several_rules,
    "Not too often": _not_too_often,
    "Sent back": _sent_back,
}
_TEXT = re.compile(r"^```text\n(.*?)^```", re.S | re.M)


def play() -> str:
    """Return the page with the outputs as they are today. Runs the scenes in a process whose clock is moved."""
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not libraries:
        raise RuntimeError("the examples need libfaketime: apt-get install libfaketime")
    with tempfile.TemporaryDirectory() as folder:
        clock = Path(folder, "clock")
        clock.write_text("2026-01-30 07:00:00")
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "mlassets_tests.automation_page", "--in", folder],
            env={
                **os.environ,
                "TZ": "UTC",
                "COLUMNS": str(COLUMNS),
                "LD_PRELOAD": str(libraries[0]),
                "FAKETIME_TIMESTAMP_FILE": str(clock),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    if done.returncode:
        raise RuntimeError(done.stderr)
    outputs = iter(json.loads(done.stdout))
    return _TEXT.sub(lambda _: f"```text\n{next(outputs)}```", PAGE.read_text(encoding="utf-8"))


def _outputs(folder: Path) -> list[str]:
    sections = re.split(r"^### ", PAGE.read_text(encoding="utf-8"), flags=re.M)
    outputs = []
    for number, (title, scene) in enumerate(SCENES.items()):
        (section,) = [one for one in sections if one.startswith(f"{title}\n")]
        (retrain,) = re.findall(r"^```yaml\n(.*?)^```", section, re.S | re.M)
        homes = (folder / f"home-{number}-{which}" for which in range(9))
        found = list(
            scene(
                lambda segments=None, r=retrain, h=homes: Scene(
                    next(h), folder / "clock", r.rstrip(), segments
                )
            )
        )
        if len(found) != len(_TEXT.findall(section)):
            raise RuntimeError(f"'{title}' has {len(_TEXT.findall(section))} outputs, and plays {len(found)}")
        outputs += found
    return outputs


if __name__ == "__main__":
    if sys.argv[1:2] == ["--in"]:
        print(json.dumps(_outputs(Path(sys.argv[2]))))
    else:
        PAGE.write_text(play(), encoding="utf-8")
