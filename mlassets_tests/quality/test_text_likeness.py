import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlassets.quality import text_likeness
from mlassets.quality.text_embeddings import embedding_of
from mlassets.quality.text_likeness import LIKE, cluster, near_copies, plane, telling_words, told_apart
from mlassets_tests.quality.written import HOSTILE, MATTERS, notes


def runs(text: str) -> set[str]:
    plain = " ".join(text.lower().split())
    return {plain[at : at + 5] for at in range(max(1, len(plain) - 4))}


def test_near_copies_are_found_and_nothing_else_is() -> None:
    texts = [*notes(500), *HOSTILE]
    changed = [one.upper().replace(" ", "  ") for one in texts[:20]] + [one + " !" for one in texts[20:40]]
    found = near_copies([*texts, *changed])
    assert found.repeats == 40
    assert [found.group[i] for i in range(40)] == found.group[-40:].tolist()
    assert {len(one) for one in found.largest(100)} == {2}


def test_pairs_are_those_whose_runs_are_the_same_to_four_fifths() -> None:
    rng = np.random.default_rng(0)
    originals = notes(150)
    edited = []
    for one in originals:
        letters = list(one)
        for at in rng.choice(len(letters), rng.integers(0, 5), replace=False):
            letters[at] = "#"
        edited.append("".join(letters))
    found = near_copies([*originals, *edited])
    told = [bool(found.group[i] == found.group[150 + i]) for i in range(150)]
    shared = [len(runs(a) & runs(b)) / len(runs(a) | runs(b)) for a, b in zip(originals, edited, strict=True)]
    assert 20 < sum(told) < 130
    assert told == [one >= LIKE for one in shared]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from(["", " ", "a", "ab", "A", "\U0001f600", "same text", "other text"]), max_size=8)
)
def test_short_texts_are_copies_only_of_themselves(texts: list[str]) -> None:
    plain = [" ".join(one.lower().split()) for one in texts]
    assert near_copies(texts).repeats == len(texts) - len(set(plain))


def test_texts_that_share_most_of_a_template_cost_no_more_than_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted = []
    runs_of = text_likeness._runs
    monkeypatch.setattr(text_likeness, "_runs", lambda text: counted.append(text) or runs_of(text))
    monkeypatch.setattr(text_likeness, "_MOST_COUNTED", 100)
    texts = [
        f"Your order {i * 7919} was sent by road from {city}" for i in range(300) for city in ("Ulm", "Graz")
    ]
    near_copies(texts)
    assert len(counted) <= 200


def test_clusters_are_what_the_texts_are_about() -> None:
    texts = notes(600)
    vectors = embedding_of(texts).embed(texts)
    found = cluster(texts, vectors)
    assert len(found.words) == len(MATTERS)
    for number, words in enumerate(found.words):
        members = np.flatnonzero(found.of == number) % len(MATTERS)
        matter = np.bincount(members).argmax()
        assert (members == matter).mean() > 0.95
        assert set(words[:3]) <= set(list(MATTERS.values())[matter].split())
    assert plane(vectors, found.of).shape == (600, 2)


@pytest.mark.parametrize("texts", [["one text"], ["same here"] * 30, ["a b c", "d e f"], [""] * 3])
def test_texts_that_do_not_fall_into_clusters_are_one(texts: list[str]) -> None:
    vectors = embedding_of(texts).embed(texts)
    found = cluster(texts, vectors)
    assert set(found.of.tolist()) == {0}
    assert len(found.words) == 1
    assert plane(vectors, found.of).shape == (len(texts), 2)


def test_a_classifier_tells_new_matters_and_no_others() -> None:
    earlier, alike, other = notes(300), notes(300, seed=1), notes(300, ("radio",), seed=2)
    embedding = embedding_of([*earlier, *alike, *other])
    before, same, new = (embedding.embed(one) for one in (earlier, alike, other))
    assert told_apart(same, before).score < 2.4 * np.sqrt(2 / 300)
    assert told_apart(new, before).score > 0.5
    words = telling_words(other, earlier)
    assert set(words[:5]) <= set(MATTERS["radio"].split())


def test_words_that_tell_are_none_where_there_are_no_words() -> None:
    assert telling_words([], []) == ()
    assert telling_words(["..."], ["!!"]) == ()
