"""A Thing is made again from what is recorded of it; what does not come out the same is found out and explained."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mlassets.commands.comparing import print_reproduced
from mlassets.differences import diff
from mlassets.home import Home
from mlassets.recorded import Code, NoEnvironment, lay_out_code, make_environment, requirements
from mlassets.releasing.aliases import roll_back
from mlassets.releasing.deciding import claim_decision
from mlassets.remaking import main, remake
from mlassets.reproducing import NotReproducible, in_own_process, reproduce
from mlassets_tests.resources.test_provenance import git
from mlassets_tests.small_homes import departures, land, make_all, mlassets, new_home, store_of, write_spec
from resources import provenance
from resources.settings import Settings
from resources.store import Store
from resources.things import DamagedThing, Draft, Partition, Thing, environment_path

EWR = Partition.segment("late", "EWR")
LATE = Partition.project("late")
STEPS = {
    "sources": Partition.source("flights"),
    "draw_data": EWR,
    "model_ready": EWR,
    "model": EWR,
    "aggregate": LATE,
    "review": LATE,
    "publish": LATE,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was made twice: on one month, then on two and with another seed."""
    # Not in the order of the alphabet.
    kinds = {"kinds": {"wind": "numeric", "carrier": "categorical"}}
    folder = new_home(tmp_path_factory.mktemp("home") / "h", departures(["EWR"], rows=60), features=kinds)
    make_all(folder)
    land(folder, "flights/2013-02.csv", departures(["EWR", "JFK"], rows=40, seed=1, first_id=1000))
    write_spec(folder, seed=4, features=kinds)
    make_all(folder)
    return folder


@pytest.fixture
def own(home: Path, tmp_path: Path) -> Path:
    """A copy of that home, to be damaged."""
    shutil.copytree(home, tmp_path / "own")
    return tmp_path / "own"


def in_this_process(python: Path, code: Code, asked: Path) -> str:
    """Run the step here, with the code and packages that are loaded: seconds faster than in a process of its own."""
    ours = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("MLASSETS_")}
    try:
        main(str(asked))
    finally:
        os.environ.update(ours)
    return "it ended"


def again(home: Path, thing: Thing, **options: Any) -> Any:
    return reproduce(store_of(home), Settings(home=home), thing, **{"run": in_this_process, **options})


def doctored(store: Store, thing: Thing, **changes: Any) -> Thing:
    """Commit a Thing as if it were the next version of another, with parts of its manifest replaced."""
    table = changes.pop("dataset", None)
    made = store.commit(
        thing.step,
        thing.partition,
        Draft(
            dataset=thing.table() if table is None else table,
            artifacts=dict(thing.artifacts),
            parameters=thing.parameters,
            metrics=thing.metrics,
            based_on=thing.based_on,
            code_version=thing.code_version,
            spec_hash=thing.spec_hash,
            spec=json.dumps(thing.spec()) if thing.spec() else None,
        ),
    )
    path = Path(store.lake.location(f"{made.folder}/thing.json"))
    manifest = json.loads(path.read_text())
    manifest["provenance"] |= changes
    path.write_text(json.dumps(manifest))
    store.rebuild()
    return store.get(made.id)


@pytest.mark.parametrize(("step", "version"), [*((step, 0) for step in STEPS), ("model", -1), ("review", -1)])
def test_every_step_comes_out_the_same_byte_for_byte(home: Path, step: str, version: int) -> None:
    thing = store_of(home).history(step, STEPS[step])[version]
    made = again(home, thing)
    assert made.same, made.as_dict()
    assert made.same_bytes
    assert made.reasons == ()
    assert made.differences.inputs == ()


def test_the_command_makes_it_again_in_a_process_of_its_own_and_leaves_nothing(home: Path) -> None:
    thing = store_of(home).require("model_ready", EWR)
    before = sorted(path for path in home.rglob("*") if path.is_file())
    done = mlassets(home, "reproduce", thing.id, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["same"], told["same_bytes"], told["reasons"]) == (True, True, [])
    assert told["differences"]["files"] == []
    assert sorted(path for path in home.rglob("*") if path.is_file()) == before


def test_code_that_has_changed_is_found_out(own: Path) -> None:
    store = store_of(own)
    thing = doctored(store, store.require("model_ready", EWR), code={"commit": "0" * 40, "dirty": None})

    def with_another_split(python: Path, code: Any, asked: Path) -> str:
        assert "commit 000000000000, which this checkout does not have" in code.told
        split = code.folder / "mlassets/modelling/split.py"
        split.write_text(split.read_text().replace("default_rng(seed)", "default_rng(seed + 1)"))
        return in_own_process(python, code, asked)

    made = again(own, thing, run=with_another_split)
    assert not made.same_bytes
    assert made.differences.rows.columns.keys() == {"split"}
    assert made.reasons == (
        "the code that runs here stands in: it was made with commit 000000000000, which this checkout does not have",
    )


def test_packages_that_have_changed_are_named(own: Path) -> None:
    store = store_of(own)
    thing = store.require("draw_data", EWR)
    record = thing.environment()
    record["packages"] |= {"numpy": "1.0", "gone": "2.0"}
    text = json.dumps(record).encode()
    name = provenance.content_name(text)
    store.lake.put_bytes(environment_path(name), text)
    made = again(own, doctored(store, thing, environment=name, cpus=4096))
    assert made.same
    now = provenance.packages()["numpy"]
    assert f"package numpy: 1.0 then, {now} now" in made.reasons
    assert "package gone: 2.0 then, not installed now" in made.reasons
    assert any(one.startswith("cpus: 4096 then") for one in made.reasons)


def test_a_thing_that_was_not_made_by_its_step_is_found_out(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = store_of(own)
    thing = store.require("draw_data", EWR)
    rows = thing.table().to_pylist()
    rows[3]["wind"] += 1
    table = pa.Table.from_pylist(rows[:-1], schema=thing.schema)
    made = again(own, doctored(store, thing, dataset=table))
    assert (made.same, made.same_bytes) == (False, False)
    assert (made.differences.rows.added, made.differences.rows.changed) == (1, 1)
    assert made.differences.rows.columns == {"wind": 1}
    print_reproduced(made)
    told = capsys.readouterr().out
    assert "Not the same." in told
    assert "wind differs in 1" in told


def test_what_cannot_be_made_again_says_why(own: Path) -> None:
    store, settings = store_of(own), Settings(home=own)
    logged = store.commit("uploads", Partition({"name": "split"}), Draft(parameters={"a": 1}))
    with pytest.raises(NotReproducible, match="was not made by a step"):
        reproduce(store, settings, logged)
    spec = Home(home=str(own)).project("late")
    back = roll_back(store, spec, by="ana", comment="worse")
    with pytest.raises(NotReproducible, match="was rolled back by hand and holds the files of"):
        reproduce(store, settings, back)
    land(own, "flights/2013-02.csv", departures(["EWR"], rows=41, seed=2, first_id=1000))
    with pytest.raises(NotReproducible, match=r"gone or have changed since: flights/2013-02\.csv"):
        reproduce(store, settings, store.require("sources", STEPS["sources"]))
    ready = store.require("model_ready", EWR)
    draw = store.get(ready.based_on[0])
    path = Path(store.lake.location(draw.components[0].path))
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"x")
    with pytest.raises(DamagedThing, match="is not what was committed"):
        reproduce(store, settings, ready)
    path.unlink()
    with pytest.raises(DamagedThing, match="is not what was committed"):
        reproduce(store, settings, ready)
    with pytest.raises(NotReproducible, match="is not empty"):
        reproduce(store, settings, store.require("draw_data", EWR), keep=own)


def test_where_no_spec_was_stored_that_of_today_serves_if_it_says_the_same(own: Path) -> None:
    store = store_of(own)
    thing = store.require("draw_data", EWR)
    bare = store.commit(
        "draw_data",
        EWR,
        Draft(
            dataset=thing.table(),
            parameters=thing.parameters,
            metrics=thing.metrics,
            based_on=thing.based_on,
            code_version=thing.code_version,
            spec_hash=thing.spec_hash,
        ),
    )
    made = again(own, bare)
    assert made.same
    assert "today's says the same" in made.reasons[0]
    write_spec(own, draw={"sql": "SELECT id, late FROM flights WHERE origin = $segment"})
    with pytest.raises(NotReproducible, match="today's differs in what concerns draw_data"):
        again(own, bare)


def test_a_step_that_fails_now_is_told_with_its_reason(own: Path) -> None:
    store = store_of(own)
    thing = store.require("draw_data", EWR)
    spec = thing.spec()
    assert spec is not None
    spec["draw"]["sql"] = "SELECT nothing FROM flights WHERE origin = $segment"
    broken = store.commit("draw_data", EWR, Draft(spec=json.dumps(spec), based_on=thing.based_on))
    with pytest.raises(NotReproducible, match="reads the column 'nothing'"):
        again(own, broken)


def test_a_later_version_of_an_input_or_a_verdict_does_not_matter(own: Path) -> None:
    store = store_of(own)
    thing = store.require("model_ready", EWR)
    draw = store.get(thing.based_on[0])
    store.commit("draw_data", EWR, Draft(dataset=draw.table().slice(0, 20), based_on=draw.based_on))
    store.retire(draw.id, "superseded")
    assert again(own, thing).same


def test_a_persons_decision_is_made_again_as_it_was_then(own: Path) -> None:
    write_spec(own, seed=4, review={"mode": "manual"})
    spec, known = Home(home=str(own)).project("late"), {"project": ["late"]}
    store = store_of(own)
    remake(str(own), "review", "late", known)
    waiting = store.require("review", LATE)
    claim_decision(store, spec, "reject", reviewer="ana", comment="not yet", send_back_to="model")
    remake(str(own), "review", "late", known)
    rejected = store.require("review", LATE)
    claim_decision(store, spec, "approve", reviewer="ben", comment="now it is")
    remake(str(own), "review", "late", known)
    approved = store.require("review", LATE)
    decisions = [one.parameters["decision"] for one in (waiting, rejected, approved)]
    assert decisions == ["wait", "reject", "approve"]
    for thing in (waiting, rejected, approved):
        made = again(own, thing)
        assert made.same, made.as_dict()


def test_another_attempt_at_work_that_was_sent_back_is_made_again_as_that_attempt(own: Path) -> None:
    rework = {"send_back_to": "model", "tries": ["next_candidate"], "limit": 2}
    write_spec(own, seed=4, review={"mode": "auto", "rules": ["roc_auc >= 0.999"]}, rework=rework)
    store = store_of(own)
    remake(str(own), "review", "late", {"project": ["late"]})
    assert store.require("review", LATE).parameters["decision"] == "reject"
    before = store.require("model", EWR)
    remake(str(own), "model", EWR.key, {"project": ["late"], "segment": ["EWR"]})
    attempt = store.require("model", EWR)
    assert attempt.parameters["rework"]["attempt"] == 2
    assert again(own, attempt).same
    assert again(own, before).same


def test_things_in_a_bucket_and_a_database_are_made_again_too(
    tmp_path: Path, bucket: str, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLASSETS_LAKE", f"s3://{bucket}/lake")
    monkeypatch.setenv("MLASSETS_CATALOG", database)
    folder = new_home(tmp_path / "h", departures(["EWR"], rows=30))
    remake(str(folder), "sources", "flights", {"source": ["flights"]})
    remake(str(folder), "draw_data", EWR.key, {"project": ["late"], "segment": ["EWR"]})
    settings = Settings.load(home=folder)
    store = Store.open(settings)
    for step in ("sources", "draw_data"):
        made = reproduce(store, settings, store.require(step, STEPS[step]), run=in_this_process)
        assert made.same, made.as_dict()


def test_a_thing_whose_input_was_removed_cannot_be_made_again_but_compared(tmp_path: Path) -> None:
    folder = new_home(tmp_path / "h", departures(["EWR"], rows=30))
    known = {"project": ["late"], "segment": ["EWR"], "source": ["flights"]}
    remake(str(folder), "sources", "flights", known)
    remake(str(folder), "draw_data", EWR.key, known)
    store = store_of(folder)
    thing, source = store.require("draw_data", EWR), store.require("sources", STEPS["sources"])
    store.commit(
        "sources", STEPS["sources"], Draft(dataset=pa.table({"a": [1]}), parameters=source.parameters)
    )
    store.retire(source.id, "too old")
    store.gc(timedelta(0))
    with pytest.raises(
        NotReproducible, match=rf"was made from sources of flights \({source.id}\), whose data was removed"
    ):
        again(folder, thing)
    found = diff(store, source, store.require("sources", STEPS["sources"]))
    assert "was removed at" in found.rows.note
    assert [one.name for one in found.columns]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git checkout of two tiny packages of the same names as ours, below a folder of the repository."""
    top = tmp_path / "repository"
    for name in ("mlassets", "resources"):
        (top / "src" / name).mkdir(parents=True)
        (top / "src" / name / "__init__.py").write_text("VERSION = 1\n")
    (top / "notes.txt").write_text("a\n")
    git(top, "init", "-q")
    git(top, "add", ".")
    git(top, "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-qm", "first")
    return top


def made_with(store: Store, state: provenance.GitState | None) -> Thing:
    """A Thing whose provenance says that it was made with a state of the code."""
    thing = store.commit("model", EWR, Draft())
    if state is not None and state.patch is not None:
        name = provenance.content_name(state.patch)
        store.lake.put_bytes(f"diffs/{name}.patch", state.patch)
    code = {"code": state.as_record() if state else None}
    return Thing({**thing.manifest, "provenance": {**thing.provenance, **code}}, store.lake)


def state_of(checkout: Path) -> provenance.GitState:
    provenance.forget_git()
    state = provenance.git_state(str(checkout))
    assert state is not None
    return state


def test_the_recorded_commit_is_laid_out_whatever_is_checked_out_now(tmp_path: Path, checkout: Path) -> None:
    store = Store.open(Settings(home=tmp_path / "home"))
    clean = made_with(store, state_of(checkout))
    source = checkout / "src/mlassets/__init__.py"
    source.write_text("VERSION = 2\n")
    (checkout / "src/resources/new.py").write_text("NEW = True\n")
    (checkout / "notes.txt").write_text("b\n")
    dirty = made_with(store, state_of(checkout))
    source.write_text("VERSION = 3\nTOKEN = 'tiger'\n")
    secret = made_with(store, state_of(checkout))
    git(checkout, "add", ".")
    git(checkout, "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-qm", "second")
    before = git(checkout, "status", "--porcelain"), git(checkout, "worktree", "list")
    provenance.forget_git()

    for number, (thing, version, faithful) in enumerate(
        ((clean, 1, True), (dirty, 2, True), (secret, 3, False))
    ):
        code = lay_out_code(thing, tmp_path / str(number), checkout / "src")
        assert (code.folder / "mlassets/__init__.py").read_text().startswith(f"VERSION = {version}\n")
        assert (code.folder / "resources/new.py").exists() == (thing is not clean)
        assert not (tmp_path / str(number) / "notes.txt").exists()
        assert code.faithful == faithful, code.told
    assert "secrets" in code.told
    assert (git(checkout, "status", "--porcelain"), git(checkout, "worktree", "list")) == before


def test_a_commit_that_is_not_there_or_is_none_is_stood_in_for(tmp_path: Path, checkout: Path) -> None:
    store = Store.open(Settings(home=tmp_path / "home"))
    for number, commit in enumerate(("0" * 40, "--output=/tmp/x", "HEAD")):
        thing = made_with(store, provenance.GitState(commit, None, None))
        code = lay_out_code(thing, tmp_path / str(number), checkout / "src")
        assert not code.faithful
        assert "stands in" in code.told
        assert (code.folder / "mlassets/reproducing.py").exists()


def test_a_patch_that_was_cut_is_left_out_and_said_so(tmp_path: Path, checkout: Path) -> None:
    store = Store.open(Settings(home=tmp_path / "home"))
    (checkout / "src/mlassets/__init__.py").write_text("VERSION = 2\n" * 100_000)
    code = lay_out_code(made_with(store, state_of(checkout)), tmp_path / "code", checkout / "src")
    provenance.forget_git()
    assert (code.folder / "mlassets/__init__.py").read_text() == "VERSION = 1\n"
    assert not code.faithful
    assert "too many to be stored" in code.told


def test_requirements_name_every_package_but_ours_and_nothing_that_is_none() -> None:
    recorded = {
        "mlassets": "0.1.0",
        "numpy": "2.4.0",
        "x; rm": "1",
        "y": "1 --option z",
        "torch": "2+cpu",
    }
    assert requirements(recorded) == ["numpy==2.4.0", "torch==2+cpu"]


def wheel(folder: Path, name: str, version: str) -> None:
    """Write a wheel of one empty module, so that pip needs no index."""
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", "")
        file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(
            f"{about}/RECORD", f"{name}.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n"
        )


def test_an_environment_holds_the_recorded_versions_or_says_which_cannot_be_had(tmp_path: Path) -> None:
    for version in ("1.0", "2.0"):
        wheel(tmp_path, "ours_alone", version)
    offline = ["--no-index", "-f", str(tmp_path)]
    recorded: dict[str, Any] = {"python": "3.99.1", "packages": {"ours-alone": "1.0", "mlassets": "0.1.0"}}
    python, notes = make_environment(recorded, tmp_path / "venv", offline)
    told = "from importlib.metadata import distributions; print(*(one.name + one.version for one in distributions()))"
    done = subprocess.run([str(python), "-c", told], capture_output=True, text=True, check=True)
    assert "ours_alone1.0" in done.stdout.split()
    assert "numpy" not in done.stdout
    assert notes == [f"python {sys.version.split()[0]} stands in for 3.99.1"]
    recorded["packages"]["ours-alone"] = "3.0"
    with pytest.raises(NoEnvironment, match=r"ours-alone==3\.0"):
        make_environment(recorded, tmp_path / "other", offline)
