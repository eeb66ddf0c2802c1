import io
import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mlassets.modelling.aggregation import pool_predictions
from mlassets.modelling.features import make_model_ready
from mlassets.modelling.persistence import dump_estimator, load_estimator
from mlassets.modelling.training import train
from mlassets.projects import ProjectSpec
from mlassets.releasing.aliases import kept_by_hand, published, roll_back
from mlassets.releasing.bundles import UnknownSegment, predict
from mlassets.releasing.release import (
    RoundTripFailed,
    bundle_of,
    champion_draw,
    champion_model,
    champion_of,
    made_from,
    make_release,
    model_card,
    round_trip_error,
)
from mlassets_tests.modelling.drawn import departures
from resources.settings import Settings
from resources.store import Store
from resources.things import Draft, Partition, Thing, UnknownThing

STRANGE = "<b>a|b</b>\n# not a heading"
SPEC = ProjectSpec.model_validate(
    {
        "project": "late",
        "description": "Late?",
        "owners": ["team:network-ops"],
        "sources": {"flights": "landing/flights/*"},
        "segments": ["EWR", STRANGE.replace("\n", " ")],
        "draw": {"sql": "SELECT * FROM flights WHERE origin = $segment"},
        "target": {"column": "late", "task": "binary"},
    }
)


class Approved:
    """A store with an approved version of two segments, made by the libraries that the steps call."""

    def __init__(self, home: Path) -> None:
        self.store = Store.open(Settings(home=home))
        self.models: dict[str, Thing] = {}
        for seed, name in enumerate(("EWR", STRANGE)):
            partition = Partition.segment("late", name)
            drawn = departures(200, seed=seed)
            draw = self.store.commit("draw_data", partition, Draft(dataset=drawn))
            made = make_model_ready(
                drawn,
                target="late",
                task="binary",
                drop=["delay", "cause"],
                by="random",
                test=0.25,
                validation=0.25,
            )
            ready = self.store.commit(
                "model_ready",
                partition,
                Draft(dataset=made.table, parameters=made.parameters, based_on=[draw.id]),
            )
            trained = train(
                made.table,
                task="binary",
                candidates=["linear"],
                metric="roc_auc",
                trials=1,
                seconds=60,
                seed=0,
            )
            self.models[name] = self.store.commit(
                "model",
                partition,
                Draft(
                    dataset=trained.predictions,
                    parameters=trained.parameters,
                    metrics=trained.metrics,
                    artifacts=trained.artifacts,
                    based_on=[ready.id],
                ),
            )
        self.review = self.approve(self.models)

    def approve(self, models: dict[str, Thing]) -> Thing:
        pooled = pool_predictions(
            {name: thing.table() for name, thing in models.items()},
            {name: thing.metrics for name, thing in models.items()},
            task="binary",
            metric="roc_auc",
            method="weighted",
            seed=0,
        )
        project = Partition.project("late")
        self.aggregate = self.store.commit(
            "aggregate",
            project,
            Draft(
                dataset=pooled.predictions,
                metrics=pooled.metrics,
                parameters={"models": {name: thing.id for name, thing in models.items()}},
                based_on=[thing.id for thing in models.values()],
            ),
        )
        decision = {"decision": "approve", "decided_by": "Ana", "comment": "good"}
        return self.store.commit(
            "review",
            project,
            Draft(parameters={**decision, "aggregate": self.aggregate.id}, based_on=[self.aggregate.id]),
        )


@pytest.fixture(scope="module")
def approved(tmp_path_factory: pytest.TempPathFactory) -> Approved:
    return Approved(tmp_path_factory.mktemp("approved"))


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Approved:
    return Approved(tmp_path_factory.mktemp("twin"))


def test_a_release_holds_the_approved_predictions_and_names_its_parts(approved: Approved) -> None:
    release = make_release(approved.store, approved.review, SPEC)
    assert release.round_trip_error == 0
    assert release.predictions.equals(approved.aggregate.table())
    assert release.parameters["alias"] == "champion"
    assert release.parameters["review"] == approved.review.id
    assert release.parameters["aggregate"] == approved.aggregate.id
    assert release.parameters["models"] == {name: thing.id for name, thing in approved.models.items()}
    assert set(release.artifacts) == {"bundle.zip", "model_card.md"}


def test_what_a_release_is_made_of_counts_as_read(approved: Approved) -> None:
    with approved.store.recording() as read:
        make_release(approved.store, approved.review, SPEC)
    assert {approved.aggregate.id, *(thing.id for thing in approved.models.values())} <= set(read)


def test_the_same_models_give_the_same_bundle(approved: Approved) -> None:
    turned = dict(reversed(approved.models.items()))
    assert bundle_of(approved.store, SPEC, approved.models) == bundle_of(approved.store, SPEC, turned)


def test_another_home_makes_the_same_bundle_of_the_same_data(approved: Approved, twin: Approved) -> None:
    assert twin.models["EWR"].id != approved.models["EWR"].id
    assert bundle_of(twin.store, SPEC, twin.models) == bundle_of(approved.store, SPEC, approved.models)


def test_a_bundle_names_no_file_after_what_a_user_wrote(approved: Approved) -> None:
    with zipfile.ZipFile(io.BytesIO(bundle_of(approved.store, SPEC, approved.models))) as archive:
        assert archive.namelist() == ["release.json", "segments/0/model.skops", "segments/1/model.skops"]
        about = json.loads(archive.read("release.json"))
    assert {one["segment"] for one in about["segments"]} == {"EWR", STRANGE}
    assert about["target"]["column"] == "late"


def test_a_bundle_without_a_segment_says_which_it_has(approved: Approved) -> None:
    rows = made_from(approved.store, approved.models["EWR"], "model_ready").table()
    with pytest.raises(UnknownSegment, match=r"(?s)no model of 'JFK'; it has .*EWR"):
        predict(bundle_of(approved.store, SPEC, approved.models), rows, "JFK")


def test_the_round_trip_finds_any_difference(approved: Approved) -> None:
    bundle, released = bundle_of(approved.store, SPEC, approved.models), approved.aggregate.table()

    def error_of(table: pa.Table) -> float:
        return round_trip_error(approved.store, bundle, approved.models, table)

    def replaced(name: str, values: object) -> pa.Table:
        return released.set_column(released.column_names.index(name), name, values)

    assert error_of(released) == 0
    assert error_of(replaced("probability", pc.add(released["probability"], 1e-9))) == pytest.approx(1e-9)
    assert error_of(replaced("prediction", pc.subtract(1, released["prediction"]))) == float("inf")
    assert error_of(released.slice(1)) == float("inf")
    empty = pa.nulls(released.num_rows, pa.float64())
    assert error_of(replaced("probability", empty)) == float("inf")
    nothing = pa.array([float("nan")] * released.num_rows)
    assert error_of(replaced("probability", nothing)) == float("inf")


def test_a_model_that_predicts_something_else_is_not_released(twin: Approved) -> None:
    model = twin.models["EWR"]
    estimator = load_estimator(model.artifact("model.skops"))
    estimator.steps[-1][1].estimator_.intercept_ += 0.5
    other = twin.store.commit(
        "model",
        model.partition,
        Draft(
            dataset=model.table(),
            parameters=model.parameters,
            metrics=model.metrics,
            artifacts={"model.skops": dump_estimator(estimator)},
            based_on=model.based_on,
        ),
    )
    review = twin.approve({**twin.models, "EWR": other})
    with pytest.raises(RoundTripFailed, match=r"bundle of late predicts differently .*nothing was published"):
        make_release(twin.store, review, SPEC)


def test_a_model_card_says_what_is_released_and_how_good_it_is(approved: Approved) -> None:
    card = model_card(SPEC, approved.review, approved.aggregate, approved.models)
    assert card.startswith("# late\n")
    for part in (
        "target: late (binary)",
        "team:network-ops",
        "approve by Ana (good)",
        "roc_auc (95 % interval)",
    ):
        assert part in card
    (row,) = [line for line in card.splitlines() if line.startswith("| EWR ")]
    assert f"{approved.models['EWR'].metrics['test.roc_auc']:.4f}" in row


def test_nothing_that_a_user_wrote_changes_the_form_of_a_model_card(approved: Approved) -> None:
    spec = SPEC.model_copy(update={"description": "<script>alert(1)</script>\n# Fine"})
    decision = {"decision": "approve", "decided_by": "<i>Ana</i>", "comment": "good\n# Fine\n<img src=x>"}
    review = approved.store.commit("review", Partition.project("other"), Draft(parameters=decision))
    card = model_card(spec, review, approved.aggregate, approved.models)
    assert [line for line in card.splitlines() if line.startswith("#")] == ["# late"]
    for tag in ("<script", "<img", "<i>", "<b>"):
        assert tag not in card
    table = [line for line in card.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(approved.models)
    assert {line.replace("\\|", "").count("|") for line in table} == {6}


def test_the_champion_is_the_newest_release_with_its_models_and_draws(approved: Approved) -> None:
    store, partition = approved.store, Partition.segment("late", "EWR")
    assert champion_of(store, "nothing") is None
    assert champion_model(store, Partition.segment("nothing", "EWR")) is None
    assert champion_draw(store, Partition.segment("nothing", "EWR")) is None
    release = make_release(store, approved.review, SPEC)
    store.commit(
        "publish",
        Partition.project("late"),
        Draft(dataset=release.predictions, parameters=release.parameters),
    )
    with store.recording() as read:
        assert champion_model(store, partition) == approved.models["EWR"].artifact("model.skops")
    assert approved.models["EWR"].id in read
    assert champion_draw(store, partition) == store.latest("draw_data", partition)
    assert champion_model(store, Partition.segment("late", "JFK")) is None


def test_a_thing_that_is_based_on_no_such_step_says_so(approved: Approved) -> None:
    with pytest.raises(UnknownThing, match="not based on any draw_data"):
        made_from(approved.store, approved.models["EWR"], "draw_data")


def test_what_a_person_rolled_back_to_is_published_again_and_not_what_was_rolled_back_from(
    approved: Approved,
) -> None:
    store, spec = approved.store, SPEC.model_copy(update={"project": "late"})

    def publish(review: Thing) -> Thing:
        made = published(store, review, spec)
        draft = Draft(
            dataset=made.predictions,
            parameters=made.parameters,
            artifacts=made.artifacts,
            labels={"alias": made.parameters["alias"]},
            based_on=[review.id],
        )
        return store.commit("publish", Partition.project("late"), draft)

    first = publish(approved.review)
    assert (first.parameters["action"], first.parameters["by"]) == ("published", "Ana")
    second_review = approved.approve({"EWR": approved.models["EWR"]})
    second = publish(second_review)
    assert second.parameters["from"] == first.id
    back = roll_back(store, spec, by="Ben", comment="too few segments")
    # As after a change of the spec's description: publish runs once more for the same review.
    again = publish(second_review)
    assert again.parameters["models"] == first.parameters["models"]
    assert again.artifacts["bundle.zip"].hash == first.artifacts["bundle.zip"].hash
    assert {name: again.parameters[name] for name in ("action", "by", "comment", "release_of", "from")} == {
        "action": "rolled_back",
        "by": "Ben",
        "comment": "too few segments",
        "release_of": first.id,
        "from": second.id,
    }
    assert kept_by_hand(store, second_review) == again
    assert champion_of(store, "late") == again
    assert back.id != again.id
    challenger = published(
        store,
        approved.approve(approved.models),
        SPEC.model_copy(update={"review": SPEC.review.model_copy(update={"release_as": "challenger"})}),
    )
    assert challenger.parameters["alias"] == "challenger"
