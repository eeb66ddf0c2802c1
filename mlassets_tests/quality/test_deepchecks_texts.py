"""Every NLP check of deepchecks runs here without a connection, or is listed with why it is not asked."""

import socket
import sys

import numpy as np
import pandas as pd
import pytest

from mlassets.quality import deepchecks_compat
from mlassets.quality.deepchecks_texts import NOT_RUNNING, RUNNING, TextSide, run_text_check

WORDS = [f"word{i}" for i in range(200)]


def a_side(seed: int, rows: int = 300) -> TextSide:
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, rng.integers(4, 30))) for _ in range(rows)]
    texts[1:4] = ["Copied, word for word.", "copied word for word", "☃☃☃ 雪だるま \U0001f600"]
    texts[5] = "long " * 400
    properties = pd.DataFrame(
        {
            "characters": [float(len(one)) for one in texts],
            "parity": pd.Series(["odd" if len(one) % 2 else "even" for one in texts], dtype=object),
        }
    )
    labels = [None if i % 9 == 8 else str(len(one) % 2) for i, one in enumerate(texts)]
    return TextSide(texts, properties, labels, rng.normal(size=(rows, 40)))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a check asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_every_check_of_texts_runs_or_says_why_it_is_not_asked() -> None:
    deepchecks_compat.load_nlp()
    from deepchecks.nlp import checks

    theirs = {name for name in checks.__all__ if isinstance(getattr(checks, name), type)}
    assert set(RUNNING) | set(NOT_RUNNING) == theirs
    assert not set(RUNNING) & set(NOT_RUNNING)


@pytest.mark.parametrize("name", RUNNING)
def test_a_check_of_texts_runs_without_a_connection(name: str, offline: None) -> None:
    compares = name.endswith(("Drift", "Mix"))
    value = run_text_check(name, a_side(1), a_side(2) if compares else None)
    if name == "TextPropertyOutliers":
        assert 5 in value["characters"]["indices"]
    if name == "TextDuplicates":
        assert value["percent_of_duplicates"] > 0
    if name == "TrainTestSamplesMix":
        assert value["ratio"] == pytest.approx(4 / 300)
    if name == "PropertyDrift":
        assert set(value) == {"characters", "parity"}
    if name == "TextEmbeddingsDrift":
        assert 0.3 < value["domain_classifier_auc"] < 0.7
    if name == "SpecialCharacters":
        assert "☃" in value["samples_per_special_char"]


def test_what_is_not_installed_is_stood_in_for_only_while_deepchecks_is_imported() -> None:
    deepchecks_compat.load_nlp()
    from deepchecks.nlp.utils import text

    names = (
        "nltk",
        "nltk.corpus",
        "textblob",
        "torch",
        "torch.cuda",
        "transformers",
        "umap",
        "numba",
        "seqeval",
    )
    assert not [one for one in names if isinstance(sys.modules.get(one), deepchecks_compat._StandIn)]
    with pytest.raises(
        ImportError, match=r"deepchecks asks for `nltk.download`, which mlassets does without"
    ):
        text.remove_stopwords("a word")
