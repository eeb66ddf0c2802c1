"""Which texts are nearly the same, which are about the same, and what tells two sets of texts apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mlassets.quality.text_embeddings import starts, weighted_words
from mlassets.quality.text_properties import code_points

LIKE = 0.8
"""Share of their runs of characters that two texts have in common from which on they count as one text."""

_RUN = 5
_BINS = 64
_ROWS_OF_BAND = 4
_BATCH = 1_000_000
_MOST_COUNTED = 20_000
_LEARNED_FROM = 10_000
_MOST_POINTS = 2_000
_MOST_READ = 5_000
_NUMBERS_OF_CLUSTERS = (2, 3, 4, 5, 6, 8, 10, 12)
_LEAST_SILHOUETTE = 0.05


@dataclass(frozen=True)
class Copies:
    """Which texts are copies of each other.

    Attributes:
        group: For each text the number of its group; texts that are like no other have a group of their own.
        repeats: Texts beyond the first of their group.
    """

    group: Any
    repeats: int

    def largest(self, count: int) -> list[Any]:
        """Return the positions of the texts in each of the largest groups of several."""
        sizes = np.bincount(self.group)
        chosen = [one for one in np.argsort(-sizes, kind="stable")[:count] if sizes[one] > 1]
        return [np.flatnonzero(self.group == one) for one in chosen]


def near_copies(texts: Sequence[str]) -> Copies:
    """Group texts that are nearly the same: whose runs of five characters are the same to four fifths (Jaccard).

    Case and white space count for nothing. Candidates are found by MinHash in one permutation (Li, Owen and Zhang 2012,
    densified after Shrivastava and Li 2014) and bands of its bins, so that the cost grows with the number of texts and
    not with its square. What the bins leave unsure is counted, for 20,000 pairs at most.

    Args:
        texts: Texts; `starts` tells how much of each is looked at.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(texts)
    number: dict[str, int] = {}
    of_text = np.array(
        [number.setdefault(" ".join(one.lower().split()), len(number)) for one in starts(texts)], int
    )
    plain = list(number)
    edges = _like_each_other(plain)
    joined = coo_array(
        (np.ones(len(edges), dtype=np.int8), (edges[:, 0], edges[:, 1])), shape=(len(plain), len(plain))
    )
    groups, group = connected_components(joined, directed=False) if count else (0, np.zeros(0, dtype=int))
    return Copies(group[of_text], count - groups)


def _like_each_other(texts: Sequence[str]) -> Any:
    """Return the positions of texts that are nearly the same as the first in a bucket of theirs, in pairs."""
    count = len(texts)
    marks = _marks(texts)
    found = []
    for band in range(0, _BINS, _ROWS_OF_BAND):
        part = np.ascontiguousarray(marks[:, band : band + _ROWS_OF_BAND])
        _, first, bucket = np.unique(
            part.view(np.dtype((np.void, part.itemsize * _ROWS_OF_BAND))).ravel(),
            return_index=True,
            return_inverse=True,
        )
        like = first[bucket.ravel()]
        others = np.flatnonzero(like != np.arange(count))
        found.append(like[others] * count + others)
    pairs = np.stack(np.divmod(np.unique(np.concatenate(found)), max(count, 1)), axis=1)
    alike = np.empty(len(pairs))
    for at in range(0, len(pairs), 100_000):
        part = pairs[at : at + 100_000]
        alike[at : at + len(part)] = (marks[part[:, 0]] == marks[part[:, 1]]).mean(axis=1)
    # The bins estimate what is shared to within 0.05 (one standard deviation): what is near the bound is counted.
    unsure = np.flatnonzero(np.abs(alike - LIKE) < 0.15)[:_MOST_COUNTED]
    for i in unsure:
        one, other = (_runs(texts[int(k)]) for k in pairs[i])
        shared = len(one & other)
        alike[i] = shared / (len(one) + len(other) - shared)
    return pairs[alike >= LIKE]


def _runs(text: str) -> set[str]:
    return {text[at : at + _RUN] for at in range(max(1, len(text) - _RUN + 1))}


def _marks(texts: Sequence[str]) -> Any:
    """Return 64 numbers for each text, of which two texts share about as large a part as of their runs."""
    parts, batch, size = [], [], 0
    for one in texts:
        batch.append(one)
        size += len(one)
        if size > _BATCH:
            parts.append(_marks_of(batch))
            batch, size = [], 0
    parts.append(_marks_of(batch))
    return np.concatenate(parts)


def _marks_of(texts: Sequence[str]) -> Any:
    count = len(texts)
    # Blanks at the end let the shortest text have a run, and a text's last run end where it does.
    padded = [one if len(one) >= _RUN else one.ljust(_RUN) for one in texts]
    codes, lengths = code_points(pa.array(padded, pa.string()))
    marks = np.full((count, _BINS), np.iinfo(np.uint32).max, dtype=np.uint32)
    if not len(codes):
        return marks
    with np.errstate(over="ignore"):
        hashed = np.zeros(len(codes) - _RUN + 1, dtype=np.uint64)
        for at in range(_RUN):
            hashed = hashed * np.uint64(0x100000001B3) + codes[at : at + len(hashed)]
        hashed ^= hashed >> np.uint64(33)
        hashed *= np.uint64(0xFF51AFD7ED558CCD)  # the finaliser of MurmurHash3
        hashed ^= hashed >> np.uint64(33)
    starts = np.cumsum(lengths) - lengths
    owner = np.repeat(np.arange(count), lengths)[: len(hashed)]
    whole = np.arange(len(hashed)) <= (starts + lengths - _RUN)[owner]
    owner, hashed = owner[whole], hashed[whole]
    bins = owner * _BINS + (hashed >> np.uint64(58)).astype(np.int64)
    np.minimum.at(marks.reshape(-1), bins, hashed.astype(np.uint32))
    return _densified(marks)


def _densified(marks: Any) -> Any:
    """Fill the empty bins of short texts with the next full one's number, mixed with the distance to it."""
    empty = np.iinfo(np.uint32).max
    filled = marks.copy()
    for distance in range(1, _BINS):
        missing = filled == empty
        if not missing.any():
            break
        moved = np.roll(marks, -distance, axis=1)
        borrowed = missing & (moved != empty)
        filled[borrowed] = moved[borrowed] + np.uint32(distance * 0x9E3779B1 % 2**32)
    return filled


@dataclass(frozen=True)
class Clusters:
    """Texts by what they are about.

    Attributes:
        of: For each text the number of its cluster, the largest first.
        words: For each cluster the words that tell it from the others.
        silhouette: How well the clusters are apart, from -1 to 1, on a sample.
    """

    of: Any
    words: tuple[tuple[str, ...], ...]
    silhouette: float


def cluster(texts: Sequence[str], vectors: Any, *, seed: int = 0) -> Clusters:
    """Group texts by their vectors: k-means, with the number of clusters that has the best silhouette.

    Where no number of clusters sets the texts apart they are one.

    Args:
        texts: The texts.
        vectors: A row for each.
        seed: Seed of whatever is drawn.
    """
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.metrics import silhouette_score
    from threadpoolctl import threadpool_limits

    count = len(texts)
    of, best = np.zeros(count, dtype=np.int64), _LEAST_SILHOUETTE
    rng = np.random.default_rng(seed)
    learned, seen = (_some(count, most, rng) for most in (_LEARNED_FROM, _MOST_POINTS))
    different = len(np.unique(np.round(vectors[seen], 6), axis=0)) if count else 0
    with threadpool_limits(limits=1):
        for number in _NUMBERS_OF_CLUSTERS:
            if number >= different:
                break
            found = MiniBatchKMeans(number, random_state=seed, n_init=3, batch_size=1024).fit(
                vectors[learned]
            )
            labels = found.predict(vectors[seen])
            if len(np.unique(labels)) < 2:
                continue
            score = float(silhouette_score(vectors[seen], labels))
            if score > best + 0.01:
                of, best = np.unique(found.predict(vectors), return_inverse=True)[1], score
    by_size = np.argsort(-np.bincount(of), kind="stable") if count else np.zeros(0, dtype=int)
    rank = np.empty(len(by_size), dtype=np.int64)
    rank[by_size] = np.arange(len(by_size))
    of = rank[of] if count else of
    several = len(by_size) > 1
    return Clusters(of, _words_of(texts, of, len(by_size), rng), best if several else 0.0)


def _some(count: int, most: int, rng: Any) -> Any:
    return np.sort(rng.choice(count, most, replace=False)) if count > most else np.arange(count)


def _words_of(texts: Sequence[str], of: Any, number: int, rng: Any) -> tuple[tuple[str, ...], ...]:
    seen = _some(len(texts), _MOST_READ, rng)
    groups = [[texts[i] for i in seen.tolist() if of[i] == one] for one in range(number)]
    return tuple(
        telling_words(group, [one for other in groups if other is not group for one in other])
        for group in groups
    )


def telling_words(texts: Sequence[str], others: Sequence[str], most: int = 8) -> tuple[str, ...]:
    """Return the words by which texts are told from others: those whose average TF-IDF is larger by most."""
    words = weighted_words([*texts, *others])
    if words is None or not len(texts):
        return ()
    here = np.asarray(words.transform(starts(texts)).mean(axis=0)).ravel()
    if len(others):
        here = here - np.asarray(words.transform(starts(others)).mean(axis=0)).ravel()
    names = words.get_feature_names_out()
    return tuple(str(names[i]) for i in np.argsort(-here, kind="stable")[:most] if here[i] > 0)


def plane(vectors: Any, of: Any = None, *, seed: int = 0) -> Any:
    """Return two coordinates for each vector: where it lies in the plane in which they, or their clusters, differ most.

    Args:
        vectors: A row for each text.
        of: The cluster of each; with three or more of them the plane is laid through their centres.
        seed: Seed of the decomposition.
    """
    from sklearn.decomposition import PCA
    from threadpoolctl import threadpool_limits

    if len(vectors) < 3 or vectors.shape[1] < 2:
        return np.pad(vectors[:, :2].astype(float), ((0, 0), (0, max(0, 2 - vectors.shape[1]))))
    basis = vectors
    if of is not None and len(numbers := np.unique(of)) >= 3:
        basis = np.array([vectors[of == one].mean(axis=0) for one in numbers])
    with threadpool_limits(limits=1), np.errstate(invalid="ignore"):  # vectors may be all the same
        return PCA(2, random_state=seed).fit(basis).transform(vectors)


@dataclass(frozen=True)
class Apart:
    """How well texts are told from earlier ones.

    Attributes:
        auc: Area under the ROC curve of a classifier that saw neither of the texts it tells.
        score: What of the way from a coin toss to certainty that is: 2 x AUC - 1, not below 0.
    """

    auc: float
    score: float


def told_apart(now: Any, before: Any, *, seed: int = 0) -> Apart:
    """Measure how well a classifier tells new texts from earlier ones by their vectors.

    This is a two-sample test by a classifier (Lopez-Paz and Oquab 2017; the domain classifier of Rabanser, Guennemann
    and Lipton 2019): logistic regression, each text told by a model fitted on the other four fifths. Every text counts
    once, so that the figure settles as fast as a Kolmogorov-Smirnov distance does.

    Args:
        now: Vectors of the new texts.
        before: Vectors of the earlier ones.
        seed: Seed of the folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from threadpoolctl import threadpool_limits

    vectors = np.concatenate([before, now])
    new = np.r_[np.zeros(len(before), dtype=int), np.ones(len(now), dtype=int)]
    model = LogisticRegression(C=10.0, class_weight="balanced", max_iter=300)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    with threadpool_limits(limits=1):
        told = cross_val_predict(model, vectors, new, cv=folds, method="predict_proba")[:, 1]
    auc = float(roc_auc_score(new, told))
    return Apart(auc, max(0.0, 2 * auc - 1))
