"""Loading the code location beside importing Dagster alone: `python -m mlassets_tests.benchmarks.bench_load`.

Each figure is the median of several fresh processes, the two in turn.
"""

import json
import statistics
import subprocess
import sys

REPEATS = 7

_CHILD = """
import json, resource, sys, time
started = time.perf_counter()
{imports}
seconds = time.perf_counter() - started
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""
_DAGSTER = "import dagster"
_OURS = "import dagster, mlassets.definitions; mlassets.definitions.defs.get_repository_def()"


def measured(imports: str) -> tuple[float, float]:
    """Return the seconds and the peak memory (MB) of a fresh process that runs `imports`."""
    child = _CHILD.format(imports=imports)
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, check=True, text=True)
    seconds, megabytes = json.loads(done.stdout.splitlines()[-1])
    return seconds, megabytes


def main() -> None:
    """Print what our code location adds to Dagster."""
    pairs = [(measured(_DAGSTER), measured(_OURS)) for _ in range(REPEATS + 1)][1:]
    dagster, ours = (
        [statistics.median(pair[side][figure] for pair in pairs) for figure in (0, 1)] for side in (0, 1)
    )
    print(f"import dagster alone:        {dagster[0]:.2f} s, {dagster[1]:.0f} MB")
    print(
        f"load the code location:      {ours[0]:.2f} s, {ours[1]:.0f} MB (ratio {ours[0] / dagster[0]:.2f})"
    )
    print(
        f"ours adds:                   {ours[0] - dagster[0]:.2f} s (budget 1.0), "
        f"{ours[1] - dagster[1]:.0f} MB (budget 150)"
    )


if __name__ == "__main__":
    main()
