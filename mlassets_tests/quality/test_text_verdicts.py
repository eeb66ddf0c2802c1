import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlassets.quality.checks import checks_of
from mlassets.quality.displays import Figure, Table
from mlassets.quality.judging import judge
from mlassets.quality.suites import Judgement, judge_draw
from mlassets.quality.text_pages import sampled
from mlassets.quality.text_verdicts import TextRows
from mlassets_tests.quality.written import HOSTILE, MATTERS, notes
from resources.verdicts import Verdict


def table(texts: list[str | None], labels: list[Any] | None = None) -> pa.Table:
    count = len(texts)
    return pa.table(
        {"id": list(range(count)), "note": texts, "late": labels or [i % 2 for i in range(count)]}
    )


def judged(rows: pa.Table, earlier: pa.Table | None = None, **options: Any) -> dict[str, Verdict]:
    return {one.claim: one for one in judgement(rows, earlier, **options).verdicts}


def judgement(rows: pa.Table, earlier: pa.Table | None = None, **options: Any) -> Any:
    def given(one: pa.Table | None) -> Callable[[], Any]:
        return lambda: None if one is None else ds.dataset(one)

    texts = TextRows(
        given(rows),
        rows.num_rows,
        lambda: rows[:1_000],
        earlier=given(earlier),
        **({"new": given(options.pop("new"))} if "new" in options else {}),
        **options,
    )
    observed = texts.observations()
    found = {
        entry.claim: judge(entry, {}, observed[entry.claim])
        for entry in checks_of(options.get("suite", "integrity"))
        if entry.claim in observed
    }
    return Judgement(
        tuple(verdict for verdict, _ in found.values()), {claim: shown for claim, (_, shown) in found.items()}
    )


@pytest.fixture(scope="module")
def usual() -> pa.Table:
    return table(notes(600))


def test_usual_texts_like_earlier_ones_pass(usual: pa.Table) -> None:
    found = judged(usual, table(notes(500, seed=1)), label="late")
    assert {claim: one.status for claim, one in found.items()} == dict.fromkeys(found, "passed")
    assert len(found) == 5
    assert judged(usual, table(notes(500, seed=1)), label="late") == found, (
        "the same texts, the same verdicts"
    )


def test_sources_and_draws_are_asked_the_same_of_texts() -> None:
    draws, sources = (
        {one.claim for one in checks_of(suite) if "text" in one.measure} for suite in ("integrity", "sources")
    )
    assert draws - sources == {"like_texts_share_a_label"}
    assert not sources - draws


def test_unusual_texts_are_counted_and_shown_without_harm(usual: pa.Table) -> None:
    strange = table([*usual["note"].to_pylist(), *HOSTILE * 20])
    found = judgement(strange)
    verdict = next(one for one in found.verdicts if one.claim == "texts_are_usual")
    assert verdict.status == "failed"
    shares = verdict.details["properties"]
    assert shares["note: unreadable"] == pytest.approx(20 / len(strange))
    assert max(shares.values()) == verdict.observed
    (shown,) = found.displays["texts_are_usual"]
    cells = " ".join(cell for row in shown.rows for cell in row)
    assert not set(cells) & set("\x00\x1b\u202e\u200b")


def test_lengths_are_unusual_by_a_factor_and_not_by_a_number() -> None:
    rng = np.random.default_rng(0)
    words = " ".join(notes(2_000)).split()
    lengths = np.exp(rng.normal(3, 0.8, 400)).astype(int) + 4
    spread = table([" ".join(rng.choice(words, length)) for length in lengths])
    assert judged(spread)["texts_are_usual"].status == "passed"


def test_repeats_are_counted_on_all_rows_and_near_ones_on_a_sample(usual: pa.Table) -> None:
    texts = usual["note"].to_pylist()
    twice = judged(table([*texts, *(one.upper() for one in texts[:300])]), sample=100)[
        "texts_are_not_repeated"
    ]
    assert (twice.status, twice.observed) == ("failed", pytest.approx(300 / 900))
    assert "a seeded sample of 100 of 900 rows" in twice.message
    near = judged(table([*texts, *(one + " !!" for one in texts[:300])]))["texts_are_not_repeated"]
    assert near.observed == pytest.approx(300 / 900)


def test_texts_of_another_matter_change_their_meaning_and_longer_ones_their_properties(
    usual: pa.Table,
) -> None:
    other = judgement(table(notes(300, ("radio",), seed=2)), usual)
    found = {one.claim: one for one in other.verdicts}
    assert found["texts_keep_their_meaning"].status == "failed"
    assert "AUC of 0.8" in found["texts_keep_their_meaning"].message
    picture, words = other.displays["texts_keep_their_meaning"][1:]
    assert isinstance(picture, Figure)
    assert {trace["name"] for trace in picture.figure["data"]} == {"earlier texts", "new texts"}
    assert isinstance(words, Table)
    assert set(words.rows[0][1].split(", ")[:3]) <= set(MATTERS["radio"].split())
    longer = judged(table([one + " " + one for one in notes(300, seed=3)]), usual)
    assert longer["texts_keep_their_properties"].status == "failed"


def test_dates_and_numbers_are_no_new_meaning() -> None:
    then, now = (
        table([f"2024-{month:02}-{i % 28:02} 10{i}: {one}" for i, one in enumerate(notes(300, seed=month))])
        for month in (3, 4)
    )
    assert judged(now, then)["texts_keep_their_meaning"].status == "passed"


def test_the_packaged_model_may_tell_what_texts_mean(usual: pa.Table) -> None:
    found = judged(table(notes(200, ("radio",), seed=2)), usual, embedding="wordllama")[
        "texts_keep_their_meaning"
    ]
    assert found.status == "failed"
    assert "wordllama" in found.details["columns"]["note"]["embedding"]


def test_few_new_texts_say_that_they_are_few(usual: pa.Table) -> None:
    for few in (table(notes(1)), table(notes(4)), table(notes(20, ("radio",)))):
        found = judged(usual, usual, new=few)
        assert found["texts_keep_their_meaning"].status == "not_applicable"
        assert "Too few rows" in found["texts_keep_their_meaning"].message
    assert "no text is new" in judged(usual, usual, new=None)["texts_keep_their_properties"].message


def test_equal_texts_with_several_labels_are_told() -> None:
    texts = notes(200)
    mixed = table([*texts, *texts[:100]], [*("a" if i % 2 else "b" for i in range(200)), *["b"] * 100])
    found = judged(mixed, label="late")
    assert found["like_texts_share_a_label"].status == "failed"


def test_blank_texts_and_nulls_are_left_out() -> None:
    some = table([None, " ", "", *notes(40)] * 1)
    found = judged(some, table([None] * 30), columns=["note"])
    assert found["texts_are_not_repeated"].n == 40
    assert found["texts_keep_their_meaning"].status == "not_applicable"
    blank = judged(table(["", None] * 10), columns=["note"])
    assert {one.status for one in blank.values()} == {"not_applicable"}


def test_what_was_no_text_before_is_not_compared(usual: pa.Table) -> None:
    numbers = usual.set_column(1, "note", pa.array(range(len(usual))))
    for earlier in (numbers, usual.drop_columns(["note"])):
        assert "no earlier texts" in judged(usual, earlier)["texts_keep_their_meaning"].message


def test_a_column_that_is_not_there_is_a_failed_verdict(usual: pa.Table) -> None:
    found = judged(usual, columns=["nota"])["texts_are_usual"]
    assert found.status == "crashed"
    assert "no column of strings is named `nota`" in found.message


def test_hostile_names_and_texts_of_one_kind_crash_nothing() -> None:
    name = "no\"te'); DROP TABLE rows; --<b>"
    rows = pa.table({name: [*HOSTILE, *notes(8)] * 3, "same": ["the very same text, again and again"] * 60})
    found = judged(rows, rows, columns=[name, "same"])
    assert not [one for one in found.values() if one.status == "crashed"]


def test_a_draw_is_judged_by_its_texts_too(usual: pa.Table) -> None:
    found = {
        one.claim: one
        for one in judge_draw(usual, target="late", task="binary", limits={}, drop=["id"]).verdicts
    }
    assert found["texts_are_usual"].status == "passed"
    assert "no earlier texts" in found["texts_keep_their_meaning"].message


def test_where_no_column_holds_texts_nothing_is_imported_for_them() -> None:
    code = (
        "import sys, pyarrow as pa\n"
        "from mlassets.quality.checks import entry_of\n"
        "from mlassets.quality.judging import judge\n"
        "from mlassets.quality.text_verdicts import TextRows\n"
        "rows = pa.table({'carrier': ['AA', 'UA'] * 500, 'delay': range(1000)})\n"
        "texts = TextRows(lambda: 1 / 0, 1000, lambda: rows)\n"
        "claims = [one for one in texts.observations() if one != 'like_texts_share_a_label']\n"
        "found = [judge(entry_of(one), {}, texts.observations()[one])[0] for one in claims]\n"
        "print({one.message for one in found}, len(found))\n"
        "print(sorted({'deepchecks', 'sklearn', 'duckdb', 'scipy'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["{'Does not apply: no column holds texts.'} 4", "[]"]


def test_a_sample_is_the_same_for_the_same_seed_and_keeps_the_order(tmp_path: Any) -> None:
    rows = table(notes(500))
    ds.write_dataset(rows, tmp_path, format="parquet", max_rows_per_file=120, max_rows_per_group=60)
    stored = ds.dataset(tmp_path)
    first, again, other = (sampled(stored, ["id", "note"], 50, seed)["id"].to_pylist() for seed in (1, 1, 2))
    assert first == again != other
    assert len(set(first)) == 50
    assert sampled(stored, ["note"], 1_000, 1).num_rows == 500


def test_of_a_very_long_text_the_start_is_looked_at() -> None:
    rows = pa.table({"note": ["word " * 100_000, *notes(40)], "id": range(41)})
    assert max(map(len, sampled(ds.dataset(rows), ["note"], 100, 0)["note"].to_pylist())) == 20_000
    assert judged(rows)["texts_are_usual"].details["properties"]["note: words"] == pytest.approx(1 / 41)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.none() | st.text(max_size=30) | st.sampled_from(HOSTILE), min_size=1, max_size=30))
def test_no_text_crashes_a_verdict(texts: list[str | None]) -> None:
    rows = table([*texts, *texts[:3]])
    found = judged(rows, rows, columns=["note"], label="late")
    assert [one.message for one in found.values() if one.status == "crashed"] == []


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_texts_of_every_arrow_type_are_looked_at(kind: pa.DataType) -> None:
    rows = table(notes(60))
    rows = rows.set_column(1, "note", rows["note"].combine_chunks().cast(kind))
    columns = ["note"] if pa.types.is_dictionary(kind) else None
    assert {one.status for one in judged(rows, rows, columns=columns, label="late").values()} == {"passed"}


def test_of_many_columns_of_texts_the_first_are_looked_at() -> None:
    wide = pa.table({f"note {i}": notes(30, seed=i) for i in range(12)})
    found = judged(wide)["texts_are_not_repeated"]
    assert "of the columns that hold texts the first 10 were looked at" in found.message.lower()
