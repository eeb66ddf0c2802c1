import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlassets.quality.text_pages import NoTexts, TextsSeen, excerpt, histogram, look_at, points
from mlassets.quality.text_properties import properties_of
from mlassets_tests.browsers import launched, looking
from mlassets_tests.quality.written import HOSTILE, notes


@pytest.fixture(scope="module")
def seen() -> TextsSeen:
    rows = pa.table({"note": [*notes(400), *notes(3) * 4, *HOSTILE, "", None], "id": range(426)})
    column, seen = look_at(ds.dataset(rows), sample=1_000)
    assert column == "note"
    return seen


def test_the_page_shows_hostile_texts_and_runs_nothing_of_theirs(seen: TextsSeen, tmp_path: Path) -> None:
    page = tmp_path / "texts.html"
    page.write_bytes(seen.page("Texts of notes", [("Column", "note")], like=HOSTILE[0]))
    assert page.stat().st_size < 6_000_000
    with launched() as browser, looking(browser) as look:
        look.page.goto(page.as_uri())
        look.page.locator(".figure .scatterlayer .point").first.wait_for()
        assert look.page.title() == "Texts of notes"
        headings = look.page.locator("h2").all_inner_texts()
        assert headings == [
            "Nearest texts",
            "What they are about",
            "Properties",
            "Copies",
            "Far from all others",
        ]
        shown = look.page.locator("body").inner_text()
        assert "<script>document.title='owned'</script>" in shown
        assert not set(shown) & set("\x00\x1b\u202e\u200b")
        assert look.page.locator("b, a, img", has_text="bold").count() == 0


def test_what_is_seen_is_plain_values(seen: TextsSeen) -> None:
    told = json.loads(json.dumps(seen.as_dict("The radio hears static")))
    assert (told["rows"], told["texts"]) == (426, 424)
    assert len(told["clusters"]) == 4
    assert sum(one["texts"] for one in told["clusters"]) == 424
    assert told["copies"]["texts"] == 12
    assert [one["texts"] for one in told["copies"]["groups"]] == [5, 5, 5]
    assert "static" in told["nearest"][0]["text"].lower()
    assert told["nearest"][0]["likeness"] >= told["nearest"][1]["likeness"]
    assert told["scripts"]["latin"] > 0.9


def test_a_column_is_found_or_asked_for() -> None:
    rows = pa.table({"a": notes(30), "b": notes(30, seed=1), "n": range(30), "blank": [""] * 30})
    with pytest.raises(NoTexts, match="the columns `a`, `b` hold texts; name the one"):
        look_at(ds.dataset(rows), sample=100)
    with pytest.raises(NoTexts, match="no column holds texts"):
        look_at(ds.dataset(rows.select(["n"])), sample=100)
    with pytest.raises(NoTexts, match="no column of strings named `n`; there is `a`, `b`, `blank`"):
        look_at(ds.dataset(rows), "n", sample=100)
    with pytest.raises(NoTexts, match="every value of `blank` is blank"):
        look_at(ds.dataset(rows), "blank", sample=100)
    assert look_at(ds.dataset(rows), "b", sample=10)[1].rows == 30


@given(st.text(max_size=700))
def test_an_excerpt_is_short_and_on_one_line(text: str) -> None:
    shown = excerpt(text)
    assert len(shown) <= 140 + 10
    assert shown.isprintable() or set(shown) & set("\u200c\u200d")


def test_of_many_points_a_sample_of_each_group_is_drawn() -> None:
    import numpy as np

    where = np.arange(8_000).reshape(-1, 2).astype(float)
    figure = points(
        where, [("few", np.arange(3)), ("many", np.arange(3, 4_000))], ["<b>"] * 4_000, most=100
    ).figure
    assert [len(trace["x"]) for trace in figure["data"]] == [1, 100]
    assert figure["data"][0]["text"] == ["&lt;b&gt;"]


@pytest.mark.parametrize("texts", [["a"], ["a", "a"], ["", "b " * 500]])
def test_a_histogram_of_few_values_has_an_axis(texts: list[str]) -> None:
    properties = properties_of(pa.chunked_array([texts]))
    for name in ("characters", "letters"):
        json.dumps(histogram({"texts": properties[name]}, name).figure)


def test_the_python_that_is_shown_runs() -> None:
    page = Path(__file__).parents[2] / "docs/how-to/texts.md"
    (block,) = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)
    exec(block, {})
