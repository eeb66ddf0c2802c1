"""Texts as vectors of length one, so that texts of like meaning lie close to each other.

By default the words of the texts themselves make the vectors: TF-IDF, reduced to its main directions (latent semantic
analysis; Deerwester et al. 1990). Nothing has to be installed or fetched for that, and it knows every language that the
texts are in, but words are alike only if they occur beside the same others. A small model of English that ships in a
package, `wordllama`, knows more, where it is installed.
"""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, get_args

import numpy as np

from mlassets.expectations import EmbeddingName
from resources.errors import MlassetsError

EMBEDDINGS: tuple[EmbeddingName, ...] = get_args(EmbeddingName)

_LONGEST = 10_000
_SHORTEST_CUT = 1_000
_MOST_CHARACTERS = 50_000_000

_DIRECTIONS = 100
_MOST_WORDS = 30_000
_LEARNED_FROM = 20_000
# Where words are written without spaces, each sign stands for one.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
WORDS = rf"[{_UNSPACED}]|[^\W\d_{_UNSPACED}][^\W{_UNSPACED}]+"
"""What counts as a word, as a regular expression; numbers do not: a date is new every day, and means the same."""


def starts(texts: Sequence[str]) -> list[str]:
    """Return what is looked at of texts, so that the time it takes is bounded.

    That is 10,000 characters of each, and of many texts fewer, 50 million in all; but no fewer than 1,000 of each.
    """
    longest = max(_SHORTEST_CUT, min(_LONGEST, _MOST_CHARACTERS // max(1, len(texts))))
    return [one[:longest] for one in texts]


class NoSuchEmbedding(MlassetsError):
    """An embedding was asked for that is unknown, or whose package is not installed."""


class Embedding(Protocol):
    """Turns texts into vectors; `name` tells people how."""

    name: str

    def embed(self, texts: Sequence[str]) -> Any:
        """Return an array of a row for each text, of length one each; a text without a known word is all zeros."""
        ...


def embedding_of(texts: Sequence[str], how: EmbeddingName = "lsa", *, seed: int = 0) -> Embedding:
    """Return an embedding for texts like these, learned from them where it has to be.

    Args:
        texts: Texts to learn from; at most 20,000 of them, drawn by the seed, are.
        how: `lsa`, or the packaged model `wordllama`.
        seed: Seed of what is drawn.

    Raises:
        NoSuchEmbedding: If there is none of that name here.
    """
    if how == "lsa":
        return Lsa(texts, seed)
    if how == "wordllama":
        return WordLlama()
    raise NoSuchEmbedding(f"there is no embedding `{how}`; choose one of {', '.join(EMBEDDINGS)}")


class Lsa:
    """Latent semantic analysis of the texts it was made with."""

    def __init__(self, texts: Sequence[str], seed: int = 0) -> None:
        from sklearn.decomposition import TruncatedSVD
        from threadpoolctl import threadpool_limits

        learned = texts
        if len(texts) > _LEARNED_FROM:
            drawn = np.random.default_rng(seed).choice(len(texts), _LEARNED_FROM, replace=False)
            learned = [texts[i] for i in np.sort(drawn)]
        self._words = weighted_words(learned)
        self._svd: Any = None
        if self._words is not None:
            weights = self._words.transform(starts(learned))
            directions = min(_DIRECTIONS, *(size - 1 for size in weights.shape))
            if directions >= 1:
                # Sums in one order: the same texts give the same vectors. Texts that are all the same vary by nothing.
                with threadpool_limits(limits=1), np.errstate(invalid="ignore"):
                    self._svd = TruncatedSVD(directions, random_state=seed, n_iter=4).fit(weights)
        shown = self._svd.n_components if self._svd is not None else 0
        self.name = f"TF-IDF of the texts' own words, reduced to {shown} directions (LSA)"

    def embed(self, texts: Sequence[str]) -> Any:
        """Return a row for each text."""
        from threadpoolctl import threadpool_limits

        if self._words is None or not len(texts):
            return np.zeros((len(texts), 1), dtype=np.float32)
        weights = self._words.transform(starts(texts))
        if self._svd is None:
            return _of_length_one(weights.toarray())
        with threadpool_limits(limits=1):
            return _of_length_one(self._svd.transform(weights))


class WordLlama:
    """The static token vectors of the package `wordllama` (English, 256 dimensions), averaged over a text's tokens."""

    def __init__(self) -> None:
        self._tokenizer, self._vectors = _wordllama()
        self.name = "vectors of the packaged model wordllama (l2_supercat, 256 dimensions)"

    def embed(self, texts: Sequence[str]) -> Any:
        """Return a row for each text."""
        from scipy.sparse import csr_array

        rows = np.zeros((len(texts), self._vectors.shape[1]), dtype=np.float32)
        seen = starts(texts)
        for start in range(0, len(texts), 1_000):
            part = seen[start : start + 1_000]
            encoded = self._tokenizer.encode_batch_fast(part, add_special_tokens=False)
            tokens = [one.ids for one in encoded]
            ends = np.cumsum([0, *map(len, tokens)])
            ids = np.fromiter(chain.from_iterable(tokens), dtype=np.int64, count=ends[-1])
            # The sum of a text's vectors points where their mean does.
            counts = csr_array(
                (np.ones(len(ids), dtype=np.float32), ids, ends), shape=(len(part), len(self._vectors))
            )
            rows[start : start + len(part)] = counts @ self._vectors
        return _of_length_one(rows)


@cache
def _wordllama() -> tuple[Any, Any]:
    """Return the tokenizer and the vectors that the package ships.

    They are read from its folder: its own loader looks for the tokenizer in another folder than the one it ships in,
    and would then fetch it, which is why the package itself is not even imported.
    """
    found = find_spec("wordllama")
    if found is None or not found.submodule_search_locations:
        raise NoSuchEmbedding(
            "the embedding `wordllama` needs the package of that name; pip install 'mlassets[embeddings]', or use `lsa`"
        )
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    folder = Path(next(iter(found.submodule_search_locations)))
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizers/l2_supercat_tokenizer_config.json"))
        vectors = load_file(folder / "weights/l2_supercat_256.safetensors")["embedding.weight"]
    except Exception as error:  # tokenizers raises bare exceptions
        raise NoSuchEmbedding(
            f"the installed package `wordllama` does not ship its model where it did: {error}. "
            "Install wordllama 0.4, or use `lsa`"
        ) from error
    return tokenizer, vectors.astype(np.float32)


def weighted_words(texts: Sequence[str]) -> Any:
    """Return a fitted TF-IDF vectorizer of the texts' words, or None if they have none."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        token_pattern=WORDS,
        sublinear_tf=True,
        max_features=_MOST_WORDS,
        min_df=2 if len(texts) >= 200 else 1,
        dtype=np.float32,
    )
    try:
        return vectorizer.fit(starts(texts))
    except ValueError:  # no word at all, or none twice
        return None


def _of_length_one(rows: Any) -> Any:
    rows = np.asarray(rows, dtype=np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 1e-12)
