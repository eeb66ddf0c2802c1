"""Drawn tables for the modelling tests: small, seeded, with signal in known columns."""

import numpy as np
import pyarrow as pa


def departures(rows: int, seed: int = 0) -> pa.Table:
    """`late` (bool) depends on `wind`, `hour` and `carrier`; `delay` is its number, `cause` its class."""
    rng = np.random.default_rng(seed)
    wind, other = rng.normal(size=rows), rng.normal(size=rows)
    hour = rng.integers(5, 23, rows)
    carrier = rng.choice(["AA", "B6", "DL"], rows)
    strength = 1.5 * wind + (hour - 14) / 4 + 1.5 * (carrier == "B6")
    delay = 10 * strength + rng.normal(scale=8, size=rows)
    cause = np.where(delay > 15, "carrier / late", np.where(wind > 0, "weather", "none"))
    start = np.datetime64("2013-01-01T00:00:00", "us")
    return pa.table(
        {
            "wind": pa.array(wind, mask=rng.random(rows) < 0.05),
            "other": other,
            "hour": hour,
            "carrier": pa.array(carrier, mask=rng.random(rows) < 0.03),
            "rain": pa.array(rng.random(rows) < 0.3, mask=rng.random(rows) < 0.03),
            "time": start + np.arange(rows).astype("timedelta64[h]"),
            "late": delay > 5,
            "delay": delay,
            "cause": cause,
        }
    )
