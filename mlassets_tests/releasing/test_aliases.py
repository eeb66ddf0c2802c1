"""Champion and challenger: who has which alias, rolling back, promoting; all of it recorded, nothing copied."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa
import pytest

from mlassets.by_hand import promote as promote_at
from mlassets.by_hand import roll_back as roll_back_at
from mlassets.releasing import aliases
from mlassets.releasing.aliases import (
    AlreadyChampion,
    NothingToRelease,
    UnknownRelease,
    history_of,
    kept_by_hand,
    promote,
    roll_back,
)
from mlassets.releasing.release import challenger_of, champion_of
from mlassets.runs import instance_of
from mlassets.steps import CODE_VERSIONS, PUBLISH, REVIEW, step_hash
from mlassets_tests.releasing.waiting import LATE, Waiting
from mlassets_tests.small_homes import mlassets
from resources.things import DamagedThing, Draft, Thing
from resources.warehouse import consumption_is_current, rebuild_consumption

KILLED = """
import os, sys
from resources import lake
lake.on_reached = lambda point: os._exit(9) if point == "row written" else None
from mlassets.cli import app
app(["release", "late", "rollback", "--home", sys.argv[1]])
"""


class Released(Waiting):
    """A home where versions are approved and published by hand: a release holds the number it was made with."""

    def approve(self, number: int, alias: str = "champion") -> Thing:
        """Make a version, approve and publish it; return the release."""
        aggregate = self.version(str(number))
        self.newest_review = self.review(aggregate, decision="approve", by="rules")
        return self.publish(number, self.newest_review, alias)

    def publish(self, number: int, review: Thing, alias: str = "champion") -> Thing:
        release = self.store.commit(
            PUBLISH,
            LATE,
            Draft(
                dataset=pa.table({"segment": ["EWR"], "prediction": [number]}),
                parameters={
                    "release": f"late {number}",
                    "alias": alias,
                    "action": "published",
                    "by": "rules",
                    "review": review.id,
                    "aggregate": review.parameters["aggregate"],
                    "models": {},
                },
                metrics={"round_trip_error": 0.0, "rows": 1},
                labels={"alias": alias},
                artifacts={"bundle.zip": f"bundle {number}".encode(), "model_card.md": b"# late"},
                based_on=[review.id],
                code_version=CODE_VERSIONS[PUBLISH],
                spec_hash=step_hash(self.project, PUBLISH),
            ),
        )
        if self.whole:
            self.judge(release)
        return release

    def champion(self) -> int:
        """The number of the champion."""
        found = champion_of(self.store, "late")
        assert found is not None
        (number,) = found.table()["prediction"].to_pylist()
        return int(number)

    def tables(self) -> dict[str, list[int]]:
        with duckdb.connect(str(self.settings.consumption), read_only=True) as connection:
            names = [row[0] for row in connection.execute("SHOW TABLES").fetchall()]
            return {
                name: [row[0] for row in connection.execute(f'SELECT prediction FROM "{name}"').fetchall()]
                for name in names
            }

    def back(self, to: str = "", **more: Any) -> Thing:
        return roll_back(self.store, self.project, to, by="ana", **more)


@pytest.fixture
def released(tmp_path: Path) -> Released:
    return Released(tmp_path)


def test_rolling_back_brings_the_champion_before_back_and_says_who_and_why(released: Released) -> None:
    first, second = released.approve(1), released.approve(2)
    again = released.back(comment="too many alarms")
    assert released.champion() == 1
    assert {one.path for one in again.components} == {one.path for one in first.components}
    assert again.table().equals(first.table())
    assert again.data_version == first.data_version
    said = again.parameters
    assert (said["action"], said["by"], said["comment"]) == ("rolled_back", "ana", "too many alarms")
    assert (said["from"], said["release_of"]) == (second.id, first.id)
    assert {first.id, second.id, released.newest_review.id} == set(again.based_on)
    assert released.store.verify(again) == ()


def test_nothing_is_due_after_a_rollback_but_its_checks(tmp_path: Path) -> None:
    released = Released(tmp_path, whole=True)
    released.approve(1)
    released.approve(2)
    again = released.back()
    assert released.due() == {("publish", "late"): "checks"}
    released.judge(again)
    assert released.due() == {}


def test_going_back_once_more_goes_one_further_and_a_new_release_starts_from_there(
    released: Released,
) -> None:
    for number in (1, 2, 3):
        released.approve(number)
    released.back()
    assert released.champion() == 2
    released.back()
    assert released.champion() == 1
    with pytest.raises(NothingToRelease, match="late has no champion before"):
        released.back()
    released.approve(4)
    released.back()
    assert released.champion() == 1


def test_any_release_of_the_project_can_be_named(released: Released) -> None:
    releases = [released.approve(number) for number in (1, 2, 3)]
    released.back(releases[0].id)
    assert released.champion() == 1
    again = released.back(releases[2].id)
    assert released.champion() == 3
    # The first was the champion right before, whatever the numbers say.
    released.back()
    assert released.champion() == 1
    # The release that brought the third back may be named, too: it holds the same.
    assert released.back(again.id).parameters["release_of"] == releases[2].id


def test_what_is_no_release_of_the_project_is_refused_and_changes_nothing(released: Released) -> None:
    with pytest.raises(NothingToRelease, match="no champion yet"):
        released.back()
    first, second = released.approve(1), released.approve(2)
    count = len(released.store.history(PUBLISH))
    with pytest.raises(
        UnknownRelease, match="'nothing' is no release of late; `mlassets release late history`"
    ):
        released.back("nothing")
    with pytest.raises(UnknownRelease, match=r"aggregate of late .* is no release of late"):
        released.back(released.first.id)
    released.spec("other")
    other = released.store.commit(PUBLISH, LATE.project("other"), Draft(dataset=second.table()))
    with pytest.raises(UnknownRelease, match=rf"publish of other \({other.id}\) is no release of late"):
        released.back(other.id)
    with pytest.raises(
        AlreadyChampion, match=f"publish of late .{second.id}. is the champion of late already"
    ):
        released.back(second.id)
    released.store.retire(first.id, "it was made with the wrong data")
    with pytest.raises(UnknownRelease, match="was retired and is not released again"):
        released.back(first.id)
    assert len(released.store.history(PUBLISH)) == count  # one more, one fewer


def test_a_damaged_release_does_not_become_the_champion(released: Released) -> None:
    first = released.approve(1)
    released.approve(2)
    Path(first.artifact_path("bundle.zip")).write_bytes(b"bundle 0")
    with pytest.raises(
        DamagedThing, match=r"cannot become the champion: .*bundle.zip .*does not match its hash"
    ):
        released.back(first.id)
    assert released.champion() == 2


def test_a_challenger_stands_beside_the_champion_until_it_is_promoted(released: Released) -> None:
    with pytest.raises(NothingToRelease, match=r"no challenger; `review: \{release_as: challenger\}`"):
        promote(released.store, released.project, by="ana")
    released.approve(1)
    challenger = released.approve(2, "challenger")
    assert released.champion() == 1
    assert challenger_of(released.store, "late") == challenger
    rebuild_consumption(released.store, released.settings.consumption, PUBLISH)
    assert released.tables() == {"late_predictions": [1], "late_challenger": [2]}
    promoted = promote(released.store, released.project, by="ana", comment="better for a month")
    assert (released.champion(), challenger_of(released.store, "late")) == (2, None)
    assert (promoted.parameters["action"], promoted.parameters["release_of"]) == ("promoted", challenger.id)
    rebuild_consumption(released.store, released.settings.consumption, PUBLISH)
    assert released.tables() == {"late_predictions": [2]}
    released.back()
    assert released.champion() == 1
    newer = released.approve(3, "challenger")
    assert (released.champion(), challenger_of(released.store, "late")) == (1, newer)


def test_a_project_with_nothing_but_a_challenger_has_no_champion(released: Released) -> None:
    released.approve(1, "challenger")
    assert champion_of(released.store, "late") is None
    promote(released.store, released.project, by="ana")
    assert released.champion() == 1


def test_the_history_says_everything_newest_first(released: Released) -> None:
    first, challenger = released.approve(1), released.approve(2, "challenger")
    promoted = promote(released.store, released.project, by="ana")
    again = released.back(comment="no")
    rows = history_of(released.store, "late")
    assert [(one["id"], one["alias"], one["action"], one["standing"]) for one in rows] == [
        (again.id, "champion", "rolled_back", "champion"),
        (promoted.id, "champion", "promoted", ""),
        (challenger.id, "challenger", "published", ""),
        (first.id, "champion", "published", ""),
    ]
    assert [one["from"] for one in rows[:2]] == [promoted.id, first.id]


def test_a_rollback_survives_a_new_review_of_the_same_version_but_not_a_persons_new_approval(
    released: Released,
) -> None:
    released.approve(1)
    second = released.approve(2)
    assert kept_by_hand(released.store, released.newest_review) is None
    again = released.back()
    assert kept_by_hand(released.store, released.newest_review) == again
    aggregate = released.store.get(second.parameters["aggregate"])
    assert kept_by_hand(released.store, released.review(aggregate, decision="approve", by="rules")) == again
    claim = released.claim("approve")
    assert kept_by_hand(released.store, released.review(aggregate, claim)) is None
    third = released.version("3")
    assert kept_by_hand(released.store, released.review(third, decision="approve", by="rules")) is None


def test_an_approval_that_is_not_published_yet_is_still_to_come_after_a_rollback(tmp_path: Path) -> None:
    released = Released(tmp_path, whole=True)
    released.approve(1)
    released.approve(2)
    review = released.review(released.version("3"), decision="approve", by="rules")
    again = released.back()
    released.judge(again)
    assert review.id not in again.based_on
    assert released.due() == {("publish", "late"): "input"}


def test_the_command_rolls_back_and_dagster_and_the_database_follow(released: Released) -> None:
    first, second = released.approve(1), released.approve(2)
    found = mlassets(released.home, "release", "late", "rollback", "--comment", "no", "--by", "ana", "--json")
    assert found.exit_code == 0, found.output
    rows = json.loads(found.stdout)["releases"]
    assert [(one["standing"], one["release_of"]) for one in rows] == [
        ("champion", first.id),
        ("", second.id),
        ("", first.id),
    ]
    assert released.tables() == {"late_predictions": [1]}
    with instance_of(released.settings) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey(PUBLISH))
    assert event is not None
    materialization = event.asset_materialization
    assert materialization is not None
    assert materialization.partition == "late"
    assert materialization.metadata["thing"].value == rows[0]["id"]
    assert materialization.tags is not None
    assert materialization.tags["dagster/data_version"] == first.data_version

    text = mlassets(released.home, "release", "late").stdout
    assert "champion: rolled back as champion by ana (no)" in text.splitlines()[0]
    for words, says in (
        (("rollback", "--to", "nothing"), "'nothing' is no release of late"),
        (("rollback", "--to", rows[0]["id"]), "is the champion of late already"),
        (("promote",), "late has no challenger"),
        (("roll",), "'roll' is no action; write `history`, `rollback` or `promote`"),
        (("history", "--to", first.id), "--to says which release to roll back to"),
    ):
        refused = mlassets(released.home, "release", "late", *words)
        assert refused.exit_code == 2
        assert says in " ".join(refused.stderr.split())
    assert mlassets(released.home, "release", "lte").exit_code == 2
    assert len(history_of(released.store, "late")) == 3


def test_python_does_what_the_command_does(released: Released) -> None:
    released.approve(1)
    challenger = released.approve(2, "challenger")
    assert promote_at(released.home, "late", comment="x").parameters["release_of"] == challenger.id
    assert released.tables() == {"late_predictions": [2]}
    assert roll_back_at(released.home, "late", by="ben").parameters["by"] == "ben"
    assert released.tables() == {"late_predictions": [1]}


def test_a_kill_right_after_a_rollback_leaves_it_standing_and_the_next_look_mends_the_rest(
    released: Released,
) -> None:
    released.approve(1)
    released.approve(2)
    rebuild_consumption(released.store, released.settings.consumption, PUBLISH)
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", KILLED, str(released.home)]) == 9
    assert released.champion() == 1
    assert released.tables() == {"late_predictions": [2]}
    assert not consumption_is_current(released.store, released.settings.consumption, PUBLISH)
    # Asking for it again says that it is done, and brings the database up to date.
    champion = champion_of(released.store, "late")
    assert champion is not None
    with pytest.raises(AlreadyChampion):
        roll_back_at(released.home, "late", champion.id)
    assert released.tables() == {"late_predictions": [1]}
    assert consumption_is_current(released.store, released.settings.consumption, PUBLISH)


def test_without_the_catalog_the_lake_tells_the_same_champion(released: Released) -> None:
    released.approve(1)
    challenger = released.approve(2, "challenger")
    released.approve(3)
    released.back()
    before = history_of(released.store, "late")
    released.store.rebuild()
    assert history_of(released.store, "late") == before
    assert challenger_of(released.store, "late") == challenger
    assert released.champion() == 1
    assert aliases.BY_HAND == ("promoted", "rolled_back")
    assert released.store.latest(REVIEW, LATE) == released.newest_review
