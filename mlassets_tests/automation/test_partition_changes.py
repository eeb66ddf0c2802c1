"""Partitions follow specs and data, and whatever is uncertain is left as it is."""

from pathlib import Path

import pytest

from mlassets.automation.partition_changes import PartitionChanges, plan_partitions, segment_key
from mlassets.projects import all_sources, load_projects
from mlassets.sources import LoadedSources
from mlassets_tests.automation.made import Made

NOTHING: dict[str, set[str]] = {"project": set(), "segment": set(), "source": set()}
ALL = {"project": {"late"}, "segment": {"EWR", "JFK"}, "source": {"flights", "weather"}}


@pytest.fixture
def made(tmp_path: Path) -> Made:
    made = Made(tmp_path)
    made.spec()
    return made


def plan(made: Made, present: dict[str, set[str]]) -> PartitionChanges:
    loaded = load_projects(made.settings.projects)
    return plan_partitions(loaded, all_sources(loaded, LoadedSources({}), ()), made.store, present)


def empty(changes: dict[str, list[str]]) -> bool:
    return not any(changes.values())


def test_everything_that_a_spec_names_is_added(made: Made) -> None:
    changes = plan(made, NOTHING)
    assert changes.added == {"project": ["late"], "segment": ["EWR", "JFK"], "source": ["flights", "weather"]}
    assert empty(dict(changes.retired))


def test_nothing_changes_where_all_is_there(made: Made) -> None:
    assert not plan(made, ALL)


def test_what_no_spec_names_any_more_is_retired(made: Made) -> None:
    present = {name: keys | {"old"} for name, keys in ALL.items()}
    changes = plan(made, present)
    assert empty(dict(changes.added))
    assert changes.retired == {"project": ["old"], "segment": ["old"], "source": ["old"]}


def test_a_segment_that_another_project_still_has_stays(made: Made) -> None:
    made.spec("other", {"[EWR, JFK]": "[JFK, LGA]"})
    (made.settings.projects / "late.yaml").unlink()
    present = ALL | {"project": {"late", "other"}, "segment": {"EWR", "JFK", "LGA"}}
    assert plan(made, present).retired == {"project": ["late"], "segment": ["EWR"], "source": []}


@pytest.mark.parametrize("text", ["project: late\n", "{", "project: [", "sources: {}\n"])
def test_a_spec_that_cannot_be_read_retires_nothing_but_lets_others_be_added(made: Made, text: str) -> None:
    (made.settings.projects / "late.yaml").write_text(text)
    made.spec("new", {"[EWR, JFK]": "[LGA]"})
    changes = plan(made, ALL | {"source": {"flights", "weather", "old"}})
    assert empty(dict(changes.retired))
    assert (changes.added["project"], changes.added["segment"]) == (["new"], ["LGA"])


@pytest.mark.parametrize("landed", [False, True])
def test_while_a_project_s_segments_are_not_known_no_segment_is_retired(made: Made, landed: bool) -> None:
    made.spec("late", {"[EWR, JFK]": "{column: orign}"})
    if landed:
        made.source("flights")
        made.source("weather")
    changes = plan(made, ALL | {"project": {"late", "old"}})
    assert changes.retired == {"project": ["old"], "segment": [], "source": []}


def test_segments_that_data_names_are_added_and_go_with_it(made: Made) -> None:
    made.spec("late", {"[EWR, JFK]": "{column: origin}"})
    made.source("flights", {"origin": ["EWR", "LGA"]})
    changes = plan(made, ALL)
    assert (changes.added["segment"], changes.retired["segment"]) == (["LGA"], ["JFK"])


def test_one_project_s_unusable_segments_do_not_keep_another_s_from_being_added(made: Made) -> None:
    made.spec("odd", {"[EWR, JFK]": "{column: temp, source: weather}"})
    made.source("weather", {"temp": ["a\0b"]})
    changes = plan(made, NOTHING)
    assert changes.added["project"] == ["late", "odd"]
    assert changes.added["segment"] == ["EWR", "JFK"]


def test_a_segment_s_key_is_its_name_but_for_what_no_key_can_hold() -> None:
    assert [segment_key(name) for name in ("EWR", "a/b", "a|b", "...")] == [
        "EWR",
        "a/b",
        "a%7Cb",
        "%2E%2E%2E",
    ]
