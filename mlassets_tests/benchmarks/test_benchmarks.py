import importlib

import pytest

from mlassets_tests.benchmarks.__main__ import BENCHMARKS


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_can_be_started(name: str) -> None:
    module = importlib.import_module(f"mlassets_tests.benchmarks.{name}")
    assert callable(module.main)


def test_what_a_benchmark_takes_apart_is_there() -> None:
    from mlassets_tests.benchmarks.bench_overhead import WORK

    lost = [(module, name) for module, name in WORK if not hasattr(importlib.import_module(module), name)]
    assert lost == []
