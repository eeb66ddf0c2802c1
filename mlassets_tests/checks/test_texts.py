"""The texts of sources and draws: what they are compared with, and what a spec says of them."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mlassets.checks.draw_data import verdicts_on as verdicts_on_draw
from mlassets.checks.sources import verdicts_on as verdicts_on_source
from mlassets.home import Home
from mlassets.steps import SOURCES
from mlassets_tests.checks.test_draw_data import drawn, released
from mlassets_tests.modelling.drawn import departures
from mlassets_tests.quality.written import notes
from mlassets_tests.small_homes import write_spec
from resources.things import Draft, Partition, Thing
from resources.verdicts import Verdict


def taken(home: Home, folder: Path, texts: Sequence[Sequence[str]]) -> Thing:
    """A version of a source with a file for each list of texts."""
    files = {}
    for i, one in enumerate(texts):
        path = folder / f"part-{i}.parquet"
        pq.write_table(pa.table({"id": range(len(one)), "note": one}), path)
        files[path.name] = path
    records = [{"name": name, "mtime_ns": i * 10**9, "component": name} for i, name in enumerate(files)]
    parameters = {"files": records, "quarantined": []}
    return home.store.commit(SOURCES, Partition.source("logbook"), Draft(files=files, parameters=parameters))


def by_claim(found: Sequence[Verdict]) -> dict[str, Verdict]:
    return {one.claim: one for one in found}


def test_the_texts_of_new_files_are_compared_with_those_of_earlier_ones(tmp_path: Path) -> None:
    home = Home(home=str(tmp_path))
    first = notes(200)
    found = by_claim(verdicts_on_source(home, taken(home, tmp_path, [first])).verdicts)
    assert found["texts_are_usual"].status == "passed"
    assert "no earlier texts" in found["texts_keep_their_meaning"].message
    second = taken(home, tmp_path, [first, notes(100, ("radio",), seed=1), notes(100, ("radio",), seed=2)])
    judgement = verdicts_on_source(home, second)
    found = by_claim(judgement.verdicts)
    assert found["texts_keep_their_meaning"].status == "failed"
    assert found["texts_keep_their_meaning"].n == 200, "of new files only"
    assert found["texts_are_usual"].n == 400
    assert judgement.displays["texts_keep_their_meaning"]


def test_a_source_says_which_columns_hold_texts_and_how_they_become_vectors(tmp_path: Path) -> None:
    home = Home(home=str(tmp_path))
    (tmp_path / "sources").mkdir()
    spec = tmp_path / "sources/logbook.yaml"
    spec.write_text("expect: {texts: {columns: [note], embedding: wordllama}}\n", encoding="utf-8")
    taken(home, tmp_path, [notes(80)])
    found = by_claim(verdicts_on_source(home, taken(home, tmp_path, [notes(80), notes(80, seed=1)])).verdicts)
    assert "wordllama" in found["texts_keep_their_meaning"].details["columns"]["note"]["embedding"]
    spec.write_text("expect: {texts: {columns: []}}\n", encoding="utf-8")
    found = by_claim(verdicts_on_source(home, taken(home, tmp_path, [notes(80, seed=2)])).verdicts)
    assert found["texts_are_usual"].message == "Does not apply: no column holds texts."


def test_the_texts_of_a_draw_are_compared_with_those_of_the_champions(tmp_path: Path) -> None:
    count = 300
    write_spec(
        tmp_path,
        segments=["EWR"],
        key=None,
        features={"drop": ["delay", "cause", "remark"]},
        expect={"texts": {"columns": ["remark"]}},
    )
    home = Home(home=str(tmp_path))
    rows = departures(count)
    first = drawn(home, rows.append_column("remark", pa.array(notes(count))))
    released(home, first)
    other = drawn(home, rows.append_column("remark", pa.array(notes(count, ("cabin",), seed=1))))
    found = by_claim(verdicts_on_draw(home, other).verdicts)
    assert found["texts_keep_their_meaning"].status == "failed"
    assert found["like_texts_share_a_label"].status == "passed"
    assert found["texts_are_not_repeated"].n == count
