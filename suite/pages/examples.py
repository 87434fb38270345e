"""Rows of a benchmark for tests of its pages."""

from typing import Any

from suite.candidates.names import BASELINE
from suite.cases.workloads import WORKLOADS
from suite.pages import bench
from suite.pages.benchmark import Benchmark
from suite.results.columns import Row
from suite.results.example_runs import benchmark, timed


def at(workload: str, rows: list[Row], **changes: Any) -> list[Row]:
    whole = WORKLOADS[workload].case
    return [row | {"workload": workload, "whole_T": whole.T, "whole_B": whole.B} | changes for row in rows]


def page(rows: list[Row]) -> str:
    return bench.page(benchmark(*rows))


def compared(rows: list[Row]) -> Benchmark:
    return Benchmark.of(benchmark(*rows).rows)


LSTM = timed(BASELINE, 0.05)
OURS, NORM = timed("batched_cpu", 0.1), timed("batched_cpu", 0.2, layer_norm=True)
