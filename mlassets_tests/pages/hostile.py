"""A store in which everything that a user can name or hand over is as bad as it gets."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from mlassets_tests.quality.test_report import HOSTILE, PNG
from resources.settings import Settings
from resources.store import Store
from resources.things import Draft, Partition, Thing
from resources.verdicts import Verdict

# Right-to-left override, wide letters, quotes of both kinds.
ODD = "東京 \u202eevil\u202c 🛫 \"q\" 's' & <b>"
LONG = "l" * 180
SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" width="120" height="60" onload="alert(1)">
<script>alert(1)</script><rect width="120" height="60" fill="#7a4"/></svg>"""
PAGE = b"""<!doctype html><p>a page of its own</p><script>
const add = (text) => document.body.append(text);
try { add(parent.document.title); } catch { add("no access"); }
try { top.location = "about:blank"; } catch { add(", no escape"); }
</script>"""


@dataclass(frozen=True)
class Hostile:
    """The store and what is in it.

    Attributes:
        model: Has everything: a dataset, artifacts of all kinds, verdicts, an upstream that is in no catalog.
        damaged: Its file is gone.
        figures: An upload with a plotly figure and a matplotlib picture.
        retired: A release, retired.
    """

    store: Store
    model: Thing
    damaged: Thing
    figures: Thing
    retired: Thing


def hostile(folder: Path) -> Hostile:
    """Make the store in a new home."""
    import plotly.graph_objects as go

    store = Store.open(Settings(home=folder))
    damaged = store.commit(
        "sources", Partition.source(ODD * 3), Draft(dataset=pa.table({HOSTILE: [1, None]}))
    )
    store.lake.delete_folder(damaged.folder)
    data = {
        HOSTILE: [1.5, None, float("nan")],
        "long": ["y" * 5000, "<img src=x onerror=alert(1)>", None],
        "when": [dt.datetime(2026, 1, 1, tzinfo=dt.UTC)] * 3,
        "list": [[1, 2], None, []],
        "bytes": [b"\x00\xff", b"", None],
        **{f"column {number}": [number] * 3 for number in range(60)},
    }
    draft = Draft(
        dataset=pa.table(data),
        parameters={
            HOSTILE: ODD,
            "sql": "SELECT *\nFROM x -- </pre><script>alert(1)</script>",
            "long": "z" * 30_000,
        },
        metrics={"loss": 1.0, "test.roc_auc": float("nan"), HOSTILE: float("inf"), "test.f1": 0.5}
        | {"test.f1.low": 0.4, "test.f1.high": 0.6},
        labels={"ticket.a b": HOSTILE, ODD: ODD, "w" * 300: 1},
        artifacts={
            f"a/b {HOSTILE}.png": PNG,
            "evil.svg": SVG,
            "page.html": PAGE,
            "notes.md": f"# {HOSTILE}".encode(),
            "model.skops": b"no model",
        },
        based_on=[damaged.id, "01a20200-0000-7000-8000-000000000000"],
    )
    model = store.commit("model", Partition.segment(f"late{HOSTILE}", ODD + LONG), draft)
    store.record_verdicts(
        model.id,
        "one",
        [
            Verdict(HOSTILE, "failed", "ERROR", float("nan"), "<= 0.2", 10, f"{ODD}{HOSTILE}", {}),
            Verdict("beats_the_baseline", "passed", "WARN", 1.0, ">= 1", 10**7, "m" * 600, {}),
            Verdict("is_quick", "crashed", "WARN", None, None, 0, "boom", {}),
        ],
        b"<p>the report</p>",
    )
    figures = store.log(
        name=f"figures {HOSTILE}",
        artifacts={"lines": go.Figure(go.Scatter(x=[1, 2, 3], y=[3, 1, 2], name=HOSTILE))},
        based_on=[model],
    )
    release = store.commit("publish", Partition.project(f"late{HOSTILE}"), Draft(based_on=[model.id]))
    return Hostile(store, model, damaged, figures, store.retire(release.id, f"wrong {HOSTILE}"))
