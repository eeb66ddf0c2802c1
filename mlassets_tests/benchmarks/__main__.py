"""Run every benchmark: `python -m mlassets_tests.benchmarks`, or `make bench`."""

import os
import platform
import subprocess
import sys

BENCHMARKS = (
    "bench_load",
    "bench_overhead",
    "bench_verdicts",
    "bench_dimensions",
    "bench_store",
    "bench_catalog",
    "bench_keeping",
    "bench_io",
    "bench_ticks",
    "bench_texts",
    "bench_ingestion",
)


def main() -> int:
    """Print the machine, then every benchmark's figures; return 1 if any did not run."""
    load = os.getloadavg()[0]
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, load average {load:.1f}\n"
    )
    failed = []
    for name in BENCHMARKS:
        print(f"== {name}", flush=True)
        module = f"mlassets_tests.benchmarks.{name}"
        if subprocess.run([sys.executable, "-W", "ignore", "-m", module], check=False).returncode:
            failed.append(name)
        print(flush=True)
    if failed:
        print(f"did not run: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
