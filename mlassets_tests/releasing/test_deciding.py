"""Decisions: of several at once exactly one wins, on the newest version only, by whom the spec lets."""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from mlassets.releasing.deciding import (
    DECIDED,
    AlreadyDecided,
    BadDecision,
    MayNotDecide,
    NotTheNewest,
    standing_claim,
    unfinished_claim,
)
from mlassets_tests.releasing.waiting import LATE, Waiting
from mlassets_tests.small_homes import mlassets, mlassets_process, runner_of
from resources.provenance import user
from resources.store import Store
from resources.things import BadDraft, DamagedThing, UnknownThing

KILLED = """
import os, sys
from resources import lake
lake.on_reached = lambda point: os._exit(9) if point == "claimed" else None
from mlassets.cli import app
app(["review", "late", "reject", "--comment", "too early", "--reviewer", "ana", "--home", sys.argv[1]])
"""


@pytest.fixture
def waiting(tmp_path: Path) -> Waiting:
    return Waiting(tmp_path)


def test_a_decision_is_claimed_with_who_what_why_and_on_which_version(waiting: Waiting) -> None:
    claim = waiting.claim("reject", comment="no", send_back_to="model", segments=["EWR"])
    assert (claim.decision, claim.reviewer, claim.comment) == ("reject", "ana", "no")
    assert (claim.send_back_to, claim.segments, claim.aggregate) == ("model", ("EWR",), waiting.first.id)
    assert standing_claim(waiting.store, waiting.project, waiting.first) == claim
    assert unfinished_claim(waiting.store, waiting.project) == claim
    waiting.review(waiting.first, claim)
    assert unfinished_claim(waiting.store, waiting.project) is None


def test_of_many_decisions_at_once_exactly_one_wins_and_all_others_learn_whose(waiting: Waiting) -> None:
    store = Store.open(waiting.settings)

    def decide(name: str) -> str:
        try:
            return waiting.claim("approve", name).reviewer
        except AlreadyDecided as error:
            return str(error)

    names = [f"reviewer {number}" for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(decide, names))
    (winner,) = [answer for answer in told if answer in names]
    others = [answer for answer in told if answer not in names]
    assert len(others) == 7
    assert all(answer.startswith(f"{winner} has approved this version of late at ") for answer in others)
    claim = standing_claim(store, waiting.project, waiting.first)
    assert claim is not None
    assert claim.reviewer == winner


def test_a_review_by_rules_in_between_makes_no_room_for_a_second_decision(waiting: Waiting) -> None:
    waiting.claim("approve", "ana")
    # A run that began before has just ended: its review waits, though ana has decided.
    waiting.review(waiting.first)
    with pytest.raises(AlreadyDecided, match=r"ana has approved .* `mlassets run late` finishes"):
        waiting.claim("reject", "ben")
    claim = unfinished_claim(waiting.store, waiting.project)
    assert claim is not None
    assert claim.reviewer == "ana"


def test_a_later_decision_on_top_of_the_first_is_allowed_and_becomes_the_one_that_stands(
    waiting: Waiting,
) -> None:
    first = waiting.claim("approve", "ana", comment="looks fine")
    review = waiting.review(waiting.first, first)
    # Who has looked at the version before anybody had decided is told, and what to do.
    with pytest.raises(AlreadyDecided, match=rf"ana .*\(looks fine\).* --version {review.id}"):
        waiting.claim("reject", "ben", version=waiting.first.id)
    second = waiting.claim("reject", "ben", version=review.id)
    assert standing_claim(waiting.store, waiting.project, waiting.first) == second
    with pytest.raises(AlreadyDecided, match="ben has rejected"):
        waiting.claim("approve", "ana", version=review.id)
    waiting.review(waiting.first, second)
    # A run that was late commits the first decision once more; the second still stands, and the next follows it.
    waiting.review(waiting.first, first)
    assert standing_claim(waiting.store, waiting.project, waiting.first) == second
    third = waiting.claim("approve", "ana")
    assert standing_claim(waiting.store, waiting.project, waiting.first) == third


def test_a_retry_of_the_same_attempt_finds_its_own_claim(waiting: Waiting) -> None:
    first = waiting.claim("approve", token="run 1")
    assert waiting.claim("approve", token="run 1") == first
    waiting.review(waiting.first, first)
    assert waiting.claim("approve", token="run 1") == first
    with pytest.raises(AlreadyDecided):
        waiting.claim("approve", token="run 2", version=waiting.first.id)


def test_a_decision_on_a_version_that_is_no_longer_the_newest_names_both(waiting: Waiting) -> None:
    review = waiting.review(waiting.first)
    second = waiting.version("two")
    for version in (waiting.first.id, review.id):
        with pytest.raises(NotTheNewest) as caught:
            waiting.claim(version=version)
        assert version in str(caught.value)
        assert f"--version {second.id}" in str(caught.value)
    assert waiting.claim(version=second.id).aggregate == second.id


def test_a_version_that_was_made_again_with_the_same_content_is_the_same_version(waiting: Waiting) -> None:
    again = waiting.version("one")
    claim = waiting.claim(version=waiting.first.id)
    assert claim.aggregate == again.id
    with pytest.raises(AlreadyDecided):
        waiting.claim("reject", "ben", version=again.id)
    waiting.review(again, claim)
    assert standing_claim(waiting.store, waiting.project, waiting.version("one")) == claim
    assert standing_claim(waiting.store, waiting.project, waiting.version("two")) is None


def test_what_is_no_version_of_the_project_cannot_be_decided_on(waiting: Waiting) -> None:
    model = waiting.store.history("model")[0]
    with pytest.raises(BadDecision, match=f"{model.id} is model of late"):
        waiting.claim(version=model.id)
    with pytest.raises(UnknownThing, match="no Thing has the id 'nothing'"):
        waiting.claim(version="nothing")


def test_only_segments_that_are_there_are_sent_back(waiting: Waiting) -> None:
    with pytest.raises(BadDecision, match=r"late has no segment 'EWT'; did you mean EWR"):
        waiting.claim("reject", send_back_to="model", segments=["EWT"])
    with pytest.raises(BadDecision, match="--send-back-to"):
        waiting.claim("reject", segments=["EWR"])


def test_only_the_reviewers_of_the_spec_decide(tmp_path: Path) -> None:
    waiting = Waiting(tmp_path, "{reviewers: [ana, ben]}")
    with pytest.raises(MayNotDecide, match="eve is no reviewer of late; its spec names ana, ben"):
        waiting.claim(reviewer="eve")
    assert waiting.claim(reviewer="ben").reviewer == "ben"


def test_four_eyes_are_neither_an_authors_nor_the_makers(tmp_path: Path) -> None:
    waiting = Waiting(tmp_path, "{four_eyes: true}", "[ana]")
    with pytest.raises(MayNotDecide, match="ana is an author of late"):
        waiting.claim(reviewer="ana")
    with pytest.raises(MayNotDecide, match=f"{user()} has made aggregate of late .* wants four eyes"):
        waiting.claim(reviewer=user())
    assert waiting.claim(reviewer="ben").reviewer == "ben"


def test_a_decision_stands_only_while_the_spec_lets_this_person_decide(waiting: Waiting) -> None:
    claim = waiting.claim(reviewer="ana")
    stricter = waiting.spec(changes={"review: {mode: auto}": "review: {reviewers: [ben]}"})
    assert standing_claim(waiting.store, waiting.project, waiting.first) == claim
    assert standing_claim(waiting.store, stricter, waiting.first) is None


def test_a_claim_is_no_garbage_and_harms_no_catalog(waiting: Waiting) -> None:
    claim = waiting.claim()
    path = f"{waiting.first.folder}/{DECIDED}.json"
    assert waiting.store.sweep(timedelta(0)) == []
    assert waiting.store.verify_all().damaged == ()
    assert waiting.store.sync().damaged == ()
    before = len(waiting.store.history())
    assert waiting.store.rebuild().things == before
    assert standing_claim(waiting.store, waiting.project, waiting.first) == claim
    assert waiting.store.lake.exists(path)
    assert json.loads(waiting.store.lake.read_bytes(path))["reviewer"] == "ana"


def test_a_claim_that_cannot_be_read_says_which_file_and_what_to_do(waiting: Waiting) -> None:
    waiting.store.claim(waiting.first.id, DECIDED, b"{")
    with pytest.raises(DamagedThing, match=rf"{waiting.first.id}/decided.json cannot be read.*decide again"):
        standing_claim(waiting.store, waiting.project, waiting.first)


@pytest.mark.parametrize("name", ["thing", "retired", "../thing", "a/b", "", "Decided"])
def test_nothing_else_beside_a_manifest_can_be_claimed(waiting: Waiting, name: str) -> None:
    for ask in (waiting.store.claimed, lambda *given: waiting.store.claim(*given, b"x")):
        with pytest.raises(BadDraft, match="cannot be claimed"):
            ask(waiting.first.id, name)


def test_of_two_processes_exactly_one_decides_and_the_other_is_told_who(waiting: Waiting) -> None:
    command = ("review", "late", "reject", "--comment", "mine", "--version", waiting.first.id)
    children = {name: mlassets_process(waiting.home, *command, "--reviewer", name) for name in ("ana", "ben")}
    ended = {name: (child.communicate(timeout=120), child.returncode) for name, child in children.items()}
    winners = [name for name, (_, code) in ended.items() if code == 0]
    assert len(winners) == 1, ended
    (loser,) = set(ended) - set(winners)
    (_, told), code = ended[loser]
    assert code == 2
    assert f"{winners[0]} has rejected this version of late at " in " ".join(told.split())
    reviews = waiting.store.history("review", LATE)
    assert [one.parameters["decided_by"] for one in reviews] == winners


def test_a_kill_between_claim_and_commit_is_finished_by_the_next_run(tmp_path: Path) -> None:
    waiting = Waiting(tmp_path, whole=True)
    before = waiting.review(waiting.first)
    killed = os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", KILLED, str(waiting.home)])
    assert killed == 9
    assert waiting.store.history("review", LATE) == [before]
    found = mlassets(waiting.home, "review", "late", "approve", "--comment", "x", "--reviewer", "ben")
    assert found.exit_code == 2
    assert "ana has rejected this version of late" in " ".join(found.stderr.split())
    found = mlassets(waiting.home, "run", "late", "--json")
    assert found.exit_code == 0, found.output
    (run,) = json.loads(found.stdout)["runs"]
    assert (run["steps"], run["reason"]) == (["review", "publish"], "reject by ana was interrupted")
    (review, _) = waiting.store.history("review", LATE)
    assert (review.parameters["decision"], review.parameters["decided_by"]) == ("reject", "ana")
    assert review.parameters["comment"] == "too early"
    assert json.loads(mlassets(waiting.home, "run", "late", "--json").stdout)["runs"] == []


def test_the_launch_form_and_the_command_refuse_what_is_outdated(waiting: Waiting) -> None:
    old, new = waiting.first, waiting.version("two")
    given = {"decision": "approve", "reviewer": "ana", "comment": "", "version": old.id}
    with runner_of(waiting.home) as runner:
        assert mlassets(waiting.home, "run", "late", "--step", "review").exit_code == 0
        outcome = runner.run(("review",), "late", "by hand", config={"review": given})
    assert outcome.state == "failed"
    assert f"aggregate of late ({old.id}) is not the newest version of late any more" in outcome.error
    assert f"--version {new.id}" in outcome.error
    found = mlassets(waiting.home, "review", "late", "approve", "--comment", "x", "--version", old.id)
    assert found.exit_code == 2
    assert "is not the newest version of late" in " ".join(found.stderr.split())
    (review,) = waiting.store.history("review", LATE)
    assert review.parameters["decision"] == "wait"


def test_a_review_of_an_unknown_project_is_refused_with_what_there_is(waiting: Waiting) -> None:
    found = mlassets(waiting.home, "review", "lte", "approve", "--comment", "x")
    assert found.exit_code == 2
    assert 'no spec names the project "lte"; did you mean late?' in " ".join(found.stderr.split())
