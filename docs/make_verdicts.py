"""Writes docs/verdicts.md from the table of checks: `make docs`."""

from pathlib import Path

from mlassets.quality.checks import CHECKS, CheckEntry, Suite

PAGE = Path(__file__).parent / "verdicts.md"

SUITES: dict[Suite, tuple[str, str]] = {
    "sources": ("sources", "When files have been taken in."),
    "integrity": ("draw_data", "deepchecks' data integrity suite, and checks of our own on all rows."),
    "train_test": (
        "model_ready",
        "deepchecks' train-test validation suite, and checks of our own on all rows.",
    ),
    "evaluation": ("model", "deepchecks' model evaluation suite, and what the training measured."),
    "aggregate": ("aggregate", "Does it speak for the whole project?"),
    "review": ("review", "Is the decision in keeping with the project's rules?"),
    "publish": ("publish", "Does the release do again what was released?"),
}

INTRODUCTION = """\
# Verdicts

<!-- Generated from mlassets/quality/checks.py by docs/make_verdicts.py: run `make docs`, do not edit. -->

Every check makes a **claim**, observes one figure (its **measure**), and holds it against a **limit**. The result is
a verdict: `passed`, `failed`, `not_applicable` (with the reason), or `crashed`, which counts as failed. A failed
verdict of severity **ERROR** blocks what is downstream, one of severity **WARN** informs.

A project moves a limit or a severity in its spec, by claim or by measure, and can drop no check:

```yaml
checks:
  fail: {roc_auc: ">= 0.60", nulls: "<= 0.2"}
  warn: {features_do_not_drift: "<= 0.3"}
```

A metric under `fail` or `warn` (`roc_auc` above) is held against the model's value on the test split.

*Measured by*: **mlassets** sees every row (for a model: what training measured on the test split); **deepchecks**
names the class in `deepchecks.tabular.checks`, which sees a seeded sample of at most `checks.sample` rows (10,000 by
default). Where both are named, ours takes the place of deepchecks' own. Where few rows were compared, a figure that
chance alone could have made is no failure: the verdict then says `not_applicable` and how many rows there were.

On every step there is one more asset check, `no_verdict_blocks`: it fails when any verdict of severity ERROR failed,
and is the one that holds up what is downstream ([why](decisions/002-one-blocking-check.md)).
"""


def page() -> str:
    """Return the whole page."""
    parts = [INTRODUCTION]
    for suite, (step, about) in SUITES.items():
        rows = [row(entry) for entry in CHECKS if entry.suite == suite]
        parts.append(
            "\n".join(
                [
                    f"## {step}\n",
                    f"{about}\n",
                    "| claim | measure | what is observed | limit | severity | tasks | measured by |",
                    "|---|---|---|---|---|---|---|",
                    *rows,
                    "",
                ]
            )
        )
    return "\n".join(parts)


def row(entry: CheckEntry) -> str:
    """Return the table row of one check."""
    by = ["mlassets"] if entry.own else []
    by += [f"deepchecks `{entry.deepchecks}`"] if entry.deepchecks else []
    cells = (
        f"`{entry.claim}`",
        f"`{entry.measure}`",
        entry.description,
        f"{entry.limit}",
        entry.severity,
        "all" if len(entry.tasks) == 3 else ", ".join(entry.tasks),
        ", for ".join(by),
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
