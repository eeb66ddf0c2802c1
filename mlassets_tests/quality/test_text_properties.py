import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlassets.quality.text_properties import NUMERIC, PROPERTIES, properties_of, text_columns
from mlassets_tests.quality.written import HOSTILE, notes


def the(text: str) -> dict[str, object]:
    return properties_of(pa.array([text])).to_pylist()[0]


def test_a_text_is_measured_by_its_characters_and_words() -> None:
    found = the("Leak FOUND at 12:30,\nsee https://example.org/é  ")
    assert found["characters"] == 48
    assert (found["words"], found["lines"], found["longest_word"]) == (6, 2, 21)
    assert found["word_length"] == pytest.approx(41 / 6)
    assert found["digits"] == pytest.approx(4 / 41)
    assert found["capitals"] == pytest.approx(6 / 30)
    assert (found["links"], found["script"], found["unreadable"]) == (1, "latin", 0)


@pytest.mark.parametrize(
    ("text", "script"),
    [("Привет мир abc", "cyrillic"), ("油圧が低い", "cjk"), ("تم استبدال", "arabic"), ("12 %", None)],
)
def test_the_script_is_that_of_most_letters(text: str, script: str | None) -> None:
    assert the(text)["script"] == script


def test_lost_bytes_and_control_characters_are_unreadable_and_joiners_are_not() -> None:
    assert the("a\ufffdb\x00")["unreadable"] == 0.5
    assert the("\U0001f468\u200d\U0001f527 ok")["unreadable"] == 0


def test_null_has_no_properties_and_an_empty_text_has_none_of_anything() -> None:
    found = properties_of(pa.chunked_array([["", None, "  "], ["x"]])).to_pylist()
    assert set(found[1].values()) == {None}
    assert {found[0][name] for name in NUMERIC} == {0}
    assert found[2]["words"] == 0
    assert properties_of(pa.chunked_array([], pa.string())).num_rows == 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=40), max_size=6))
def test_a_batch_says_of_each_text_what_is_said_of_it_alone(texts: list[str]) -> None:
    together = properties_of(pa.array(texts, pa.string()))
    assert together.column_names == list(PROPERTIES)
    for text, found in zip(texts, together.to_pylist(), strict=True):
        assert found == the(text)
        assert found["characters"] == len(text)
        # Python takes four control characters for white space that Unicode does not.
        if not set(text) & set("\x1c\x1d\x1e\x1f"):
            assert found["words"] == len(text.split())
        assert all(0 <= found[name] <= 1 for name in ("letters", "capitals", "digits", "unreadable"))


def test_many_texts_are_measured_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = pa.array([*notes(50), None, *HOSTILE])
    whole = properties_of(texts)
    monkeypatch.setattr("mlassets.quality.text_properties._BATCH", 300)
    assert properties_of(texts).equals(whole)


def test_columns_of_texts_are_told_from_names_keys_categories_and_addresses() -> None:
    rng = np.random.default_rng(0)
    rows = 200
    table = pa.table(
        {
            "note": notes(rows),
            "japanese": [f"{i}番の発動機の油圧が低いため、始動装置を交換しました。" for i in range(rows)],
            "name": [f"Anna {'abcdefghij'[i % 10]}. Muster" for i in range(rows)],
            "airport": rng.choice(
                ["Newark Liberty International Airport (EWR)", "La Guardia in New York City"], rows
            ),
            "key": [f"0a1b2c3d-{i:04}-4000-8000-{i * 7:012}" for i in range(rows)],
            "url": [f"https://example.org/a/long/path/with/number/{i}" for i in range(rows)],
            "when": [f"2024-01-01 00:{i % 60:02}:{i % 50:02} +00 00 {i}" for i in range(rows)],
            "number": list(range(rows)),
            "coded": pa.array(notes(rows)).dictionary_encode(),
            "null": pa.nulls(rows, pa.string()),
        }
    )
    assert text_columns(table) == ["note", "japanese"]
    assert text_columns(table[:0]) == []
