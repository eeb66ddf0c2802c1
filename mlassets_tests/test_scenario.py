"""Four months on the real daemon: what ran is what had to, people decide, and a power cut costs nothing but time.

One home, one server after the other. Each test is a chapter, and goes on where the one before it ended: what was made
since then must be exactly what it lists, so that work that was done for nothing, or twice, is found by whichever
chapter it falls into.
"""

import json
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mlassets_tests.processes import processes_of_session, wait_until
from mlassets_tests.small_homes import departures, land, mlassets, store_of, write_spec
from mlassets_tests.uis import Ui, end, kill, start
from resources.things import Partition

SEGMENTS = ("EWR", "JFK")
PROJECT = "late"
# Far more than it takes: a slow machine must not fail it.
DEADLINE = 900


def of_segments(steps: str, *segments: str) -> list[str]:
    return [f"{step} {PROJECT}|{segment}" for segment in segments for step in steps.split()]


def of_project(steps: str) -> list[str]:
    return [f"{step} {PROJECT}" for step in steps.split()]


@dataclass
class Story:
    """The home, the server that runs on it now, and what has been told so far.

    Attributes:
        home: The home.
        ui: The server.
        known: Ids of all Things of earlier chapters.
    """

    home: Path
    ui: Ui
    known: set[str] = field(default_factory=set)

    @property
    def alerts(self) -> list[str]:
        """Titles of all alerts that were ever told."""
        path = self.home.parent / "alerts.jsonl"
        return [json.loads(line)["title"] for line in path.read_text().splitlines()] if path.exists() else []

    def start(self) -> None:
        """Start a server on the home."""
        self.ui = start(
            self.home,
            self.home.parent / "ui.log",
            MLASSETS_ALERTS=f'["file://{self.home.parent}/alerts.jsonl"]',
        )
        wait_until(self.ui.is_ready, "the code location is loaded", DEADLINE)

    def made(self) -> Counter[str]:
        """What was made since the last chapter, and how often."""
        things = store_of(self.home).history()
        return Counter(
            f"{thing.step} {thing.partition.key}" for thing in things if thing.id not in self.known
        )

    def comes_to(self, *expected: list[str]) -> None:
        """Wait until all that is expected was made and judged and all is at rest; nothing else may have been made."""
        whole = Counter(one for part in expected for one in part)

        def is_done() -> bool:
            store = store_of(self.home)
            made = self.made()
            assert not made - whole, f"{made - whole} was made too"
            things = [thing for thing in store.history() if thing.id not in self.known]
            return (
                made == whole and all(store.verdicts(thing.id) for thing in things) and self.ui.is_at_rest()
            )

        wait_until(is_done, f"{whole} is made and judged", DEADLINE, every=1)
        self.known |= {thing.id for thing in store_of(self.home).history()}

    def tells_of_review(self, number: int) -> None:
        """Wait until somebody is told that a review waits, so many times by now, and of nothing else."""
        wait_until(lambda: len(self.alerts) >= number, "somebody is told", DEADLINE)
        assert self.alerts == [f"{PROJECT}: a review waits for a reviewer"] * number

    def decide(self, *words: str) -> None:
        """Decide on the newest version by the command."""
        decided = mlassets(self.home, "review", PROJECT, *words)
        assert decided.exit_code == 0, decided.output

    def decision(self) -> str:
        """The newest review's decision."""
        review = store_of(self.home).require("review", Partition.project(PROJECT))
        return str(review.parameters["decision"])


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    home = tmp_path_factory.mktemp("scenario") / "home"
    write_spec(
        home,
        segments=list(SEGMENTS),
        model={
            "candidates": ["baseline", "linear", "gradient_boosting"],
            "metric": "roc_auc",
            "tune": {"trials": 1, "seconds": 60},
        },
        review={"mode": "manual", "rules": ["roc_auc >= 0.5"]},
    )
    story = Story(home, None)  # type: ignore[arg-type]
    try:
        story.start()
        yield story
    finally:
        end(story.ui)


def test_january_leads_to_a_review_that_waits_and_is_approved(story: Story) -> None:
    land(story.home, "flights/2013-01.csv", departures(SEGMENTS, rows=150))
    story.comes_to(
        ["sources flights"],
        of_segments("draw_data model_ready model", *SEGMENTS),
        of_project("aggregate review"),
    )
    assert story.decision() == "wait"
    story.tells_of_review(1)
    story.decide("approve", "--comment", "good", "--reviewer", "ana")
    story.comes_to(of_project("review publish"))


def test_february_concerns_one_segment_and_is_sent_back_and_made_in_another_way(story: Story) -> None:
    land(story.home, "flights/2013-02.csv", departures(["EWR"], rows=150, seed=1, first_id=1000))
    story.comes_to(
        ["sources flights"],
        of_segments("draw_data", *SEGMENTS),
        of_segments("model_ready model", "EWR"),
        of_project("aggregate review"),
    )
    story.tells_of_review(2)
    before = store_of(story.home).require("model", Partition.segment(PROJECT, "EWR"))
    story.decide(
        "reject", "--comment", "odd", "--send-back-to", "model", "--segment", "EWR", "--reviewer", "ana"
    )
    story.comes_to(of_project("review"), of_segments("model", "EWR"), of_project("aggregate review"))
    again = store_of(story.home).require("model", Partition.segment(PROJECT, "EWR"))
    assert again.parameters["candidate"] != before.parameters["candidate"]
    assert story.decision() == "wait"
    story.tells_of_review(3)
    story.decide("approve", "--comment", "better", "--reviewer", "ana")
    story.comes_to(of_project("review publish"))


def test_march_survives_a_power_cut_in_the_middle_of_a_run(story: Story) -> None:
    land(story.home, "flights/2013-03.csv", departures(SEGMENTS, rows=50, seed=2, first_id=2000))
    wait_until(lambda: is_working(story.ui), "a segment is worked on", DEADLINE, every=0.1)
    kill(story.ui)
    assert processes_of_session(story.ui.process.pid) == []
    story.start()
    story.comes_to(
        ["sources flights"],
        of_segments("draw_data model_ready model", *SEGMENTS),
        of_project("aggregate review"),
    )
    ended = Counter(one["status"] for one in story.ui.runs())
    assert set(ended) == {"SUCCESS", "FAILURE"}, "no run counts as started for ever"
    story.tells_of_review(4)


def is_working(ui: Ui) -> bool:
    """Say whether a run of a segment has started, and none is only starting."""
    runs = [(one["status"], {tag["key"]: tag["value"] for tag in one["tags"]}) for one in ui.runs()]
    states = {state for state, tags in runs if "|" in tags.get("dagster/partition", "")}
    return "STARTED" in states and "STARTING" not in states


def test_april_changes_no_draw_and_nothing_after_it_is_stale(story: Story) -> None:
    land(story.home, "flights/2013-04.csv", departures(["LGA"], rows=30, seed=3, first_id=3000))
    story.comes_to(["sources flights"], of_segments("draw_data", *SEGMENTS))
    sensors = ("new_data_sensor", "left_work_sensor", "new_input_sensor")
    before = {name: story.ui.ticks(name) for name in sensors}
    for name, count in before.items():
        wait_until(
            lambda name=name, count=count: story.ui.ticks(name) >= count + 2, f"{name} looks", DEADLINE
        )
    assert not story.made()
    query = """query($step: String!, $partition: String!) {
        assetNodeOrError(assetKey: {path: [$step]}) {... on AssetNode {staleStatus(partition: $partition)}}}"""
    stale = {
        (step, partition): story.ui.ask(query, step=step, partition=partition)["assetNodeOrError"][
            "staleStatus"
        ]
        for steps, partitions in (
            (("draw_data", "model_ready", "model"), [f"{PROJECT}|{segment}" for segment in SEGMENTS]),
            (("aggregate", "review"), [PROJECT]),
        )
        for step in steps
        for partition in partitions
    }
    assert set(stale.values()) == {"FRESH"}, stale
    story.tells_of_review(4)


def test_ctrl_c_ends_all_of_it(story: Story) -> None:
    story.ui.process.send_signal(signal.SIGINT)
    assert story.ui.process.wait(120) == 0, story.ui.log.read_text()
    assert processes_of_session(story.ui.process.pid) == []
