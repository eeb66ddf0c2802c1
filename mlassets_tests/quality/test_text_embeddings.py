import importlib.util

import numpy as np
import pytest

from mlassets.quality import text_embeddings
from mlassets.quality.text_embeddings import NoSuchEmbedding, embedding_of
from mlassets_tests.quality.written import HOSTILE, MATTERS, notes


@pytest.mark.parametrize("how", ["lsa", "wordllama"])
def test_texts_about_one_matter_lie_closer_than_others_whatever_stands_between(how: str) -> None:
    texts = [*notes(400), *HOSTILE, "", " "]
    embedding = embedding_of(texts, how)
    vectors = embedding.embed(texts)
    lengths = np.linalg.norm(vectors, axis=1)
    assert np.isfinite(vectors).all()
    assert np.all((np.abs(lengths - 1) < 1e-5) | (lengths == 0))
    likeness = vectors[:400] @ vectors[:400].T
    matter = np.arange(400) % len(MATTERS)
    same = matter[:, None] == matter[None, :]
    assert likeness[same].mean() > likeness[~same].mean() + 0.05
    assert lengths[-2] == 0


def test_the_packaged_model_knows_words_of_like_meaning_that_never_stand_together() -> None:
    embedding = embedding_of([], "wordllama")
    asked, near, far = embedding.embed(
        ["the automobile is broken", "a car needs repair", "a recipe for soup"]
    )
    assert asked @ near > asked @ far + 0.1


def test_the_same_texts_give_the_same_vectors() -> None:
    texts = notes(300)
    first, second = (embedding_of(texts, seed=3).embed(texts) for _ in range(2))
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("texts", [[], [""], ["...", "!!"], ["one word"], ["same"] * 5, ["a b", "a b c"]])
def test_few_or_empty_texts_have_vectors_too(texts: list[str]) -> None:
    vectors = embedding_of(texts).embed([*texts, "unheard of"])
    assert len(vectors) == len(texts) + 1
    assert np.isfinite(vectors).all()


def test_words_are_found_where_no_spaces_stand_between_them() -> None:
    texts = ["油圧が低い", "油圧を確認", "座席の布を交換", "座席と布"] * 3
    vectors = embedding_of(texts).embed(texts)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


def test_of_many_texts_some_are_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_embeddings, "_LEARNED_FROM", 50)
    texts = notes(120)
    assert embedding_of(texts, seed=1).embed(texts).shape[0] == 120


def test_an_embedding_that_is_not_there_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoSuchEmbedding, match="choose one of lsa, wordllama"):
        embedding_of([], "word2vec")
    text_embeddings._wordllama.cache_clear()
    monkeypatch.setattr(text_embeddings, "find_spec", lambda _: None)
    with pytest.raises(NoSuchEmbedding, match=r"mlassets\[embeddings\]"):
        embedding_of([], "wordllama")


def test_the_packaged_model_is_read_without_its_loader() -> None:
    assert importlib.util.find_spec("wordllama") is not None
    text_embeddings._wordllama.cache_clear()
    tokenizer, vectors = text_embeddings._wordllama()
    assert vectors.shape == (tokenizer.get_vocab_size(), 256)
