"""What is found out about 100,000 texts, step by step; and the verdicts on a source that holds them.

    python -m mlassets_tests.benchmarks.bench_texts [--json] [--rows N]

The peer is what deepchecks computes of its own, as far as it runs without a connection: its properties, text by text.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

PEER_TEXTS = 10_000


def written(rows: int, seed: int = 0) -> list[str]:
    """Texts of 15 to 60 words about eight matters, one in fifty nearly a copy of another."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(rng.choice(letters, rng.integers(3, 10))) for _ in range(4_000)]
    common, matters = words[:800], np.array(words[800:]).reshape(8, 400)
    texts = []
    for i in range(rows):
        some = [*rng.choice(matters[i % 8], rng.integers(8, 30)), *rng.choice(common, rng.integers(7, 30))]
        texts.append(" ".join(some) + ".")
    for i in range(0, rows // 50):
        texts[-1 - i] = texts[i] + " !"
    return texts


def measured(rows: int) -> dict[str, Any]:
    """Return seconds by step, and the peak of memory in megabytes."""
    from mlassets.quality import deepchecks_compat
    from mlassets.quality.checks import checks_of
    from mlassets.quality.judging import judge
    from mlassets.quality.text_embeddings import embedding_of
    from mlassets.quality.text_likeness import cluster, near_copies, plane
    from mlassets.quality.text_pages import look_at
    from mlassets.quality.text_properties import properties_of
    from mlassets.quality.text_verdicts import TextRows

    seconds: dict[str, float] = {}

    def timed(what: str, do: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        done = do()
        seconds[what] = time.perf_counter() - start
        return done

    texts = written(rows)
    array = pa.array(texts)
    start = time.perf_counter()
    deepchecks_compat.load_nlp()
    seconds["(import of deepchecks)"] = time.perf_counter() - start
    timed("properties", lambda: properties_of(array))
    copies = timed("near copies", lambda: near_copies(texts))
    lsa = timed("learn LSA", lambda: embedding_of(texts))
    vectors = timed("LSA vectors", lambda: lsa.embed(texts))
    timed("wordllama vectors", lambda: embedding_of(texts, "wordllama").embed(texts))
    clusters = timed("clusters", lambda: cluster(texts, vectors))
    timed("picture", lambda: plane(vectors, clusters.of))
    table = pa.table({"note": texts})
    _, seen = timed("look at them all", lambda: look_at(ds.dataset(table), sample=rows))
    timed("page of them all", lambda: seen.page("benchmark"))
    rows_of = TextRows(
        lambda: ds.dataset(table), rows, lambda: table[:1_000], earlier=lambda: ds.dataset(table[: rows // 2])
    )
    observations = rows_of.observations()
    entries = [one for one in checks_of("sources") if one.claim in observations]
    verdicts = timed(
        "verdicts of a source", lambda: [judge(one, {}, observations[one.claim])[0] for one in entries]
    )
    if crashed := [one.message for one in verdicts if one.status == "crashed"]:
        raise RuntimeError(f"a check crashed while measured: {crashed}")
    seconds[f"deepchecks' properties of {PEER_TEXTS:,}"] = _theirs(texts[:PEER_TEXTS])
    return {
        "rows": rows,
        "copies": copies.repeats,
        "seconds": seconds,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def _theirs(texts: list[str]) -> float:
    """Return how long those of deepchecks' properties take that fetch nothing."""
    from deepchecks.nlp.utils import text_properties as theirs

    of_each = (
        theirs.text_length,
        theirs.average_word_length,
        theirs.max_word_length,
        theirs.percentage_special_characters,
        theirs.percentage_punctuation,
        theirs.urls_count,
    )
    start = time.perf_counter()
    for one in of_each:
        for text in texts:
            one(text)
    return time.perf_counter() - start


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", type=int, default=100_000)
    options = parser.parse_args()
    found = measured(options.rows)
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    print(f"{found['rows']:,} texts; {found['copies']:,} near copies; peak {found['peak_mb']:,.0f} MB")
    for what, one in found["seconds"].items():
        print(f"  {what:<34} {one:7.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
