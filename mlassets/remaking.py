"""Makes one step of one partition of a home, without its checks and without a daemon.

`mlassets reproduce` hands the text of this file to a process of its own, which may have an older mlassets: it asks for
nothing but the definitions of a home.
"""

import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg


def remake(home: str, step: str, partition: str, known: Mapping[str, Sequence[str]]) -> None:
    """Run one step.

    Args:
        home: The home.
        step: The step.
        partition: Key of the partition.
        known: Partition keys that Dagster is to know, by the name of their dimension.

    Raises:
        Exception: Whatever the step raises.
    """
    from mlassets.definitions import definitions

    found: Any = definitions(home)
    config: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    if step == "sources":
        config["ops"] = {step: {"config": {"quiet_seconds": 0.0}}}
    with dg.DagsterInstance.ephemeral() as instance:
        for dimension, keys in known.items():
            instance.add_dynamic_partitions(dimension, list(keys))
        dg.materialize(
            list(found.assets),
            selection=[step],
            partition_key=partition,
            resources=dict(found.resources),
            instance=instance,
            run_config=config,
        )


def main(path: str) -> None:
    """Read from a file what to make, and write beside it what went wrong, if anything did."""
    asked = json.loads(Path(path).read_text("utf-8"))
    told = {"error": "", "trace": ""}
    try:
        from mlassets.home import Home

        # The home has a lake and no catalog yet.
        Home(home=asked["home"]).store.sync()
        remake(**asked)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the other process tells it
        told = {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
    Path(path).with_name("done.json").write_text(json.dumps(told), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
