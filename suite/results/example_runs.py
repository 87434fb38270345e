"""Rows as a verification and a benchmark make them, for tests."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from suite.candidates.names import BASELINE
from suite.cases.examples import CPU, TINY
from suite.cases.verification import MULTIPLIED
from suite.cases.workloads import WORKLOADS, Pass
from suite.results.columns import Row, about_pass
from suite.results.outcomes import Verdict
from suite.results.run import Run, new_run
from suite.results.status import Ended, Status


def verified(
    implementation: str = "batched",
    ratio: float | None = 0.5,
    dtype: str = "float32",
    reason: str = "",
    **changes: Any,
) -> Row:
    """Row as a verification makes it; ratio: of the error to what is allowed, None for a skipped comparison."""
    verdict = Verdict.SKIPPED
    if ratio is not None:
        verdict = Verdict.FAIL if ratio > 1 else Verdict.PASS
    return {
        "implementation": implementation, "dtype": dtype, "case": MULTIPLIED[0], "oracle": "", "verdict": verdict,
        "ratio": ratio, "reason": reason, "tensor": "" if ratio is None else f"out {ratio}",
    } | changes  # fmt: skip


def verification(*rows: Row, commit: str = "c", **tables: list[Row]) -> Run:
    """A run of nox -s verify."""
    return replace(new_run("verify", CPU, {"verify": rows, **tables}), commit=commit, dirty=False)


def benchmark(*rows: Row, hardware: Sequence[Row] = (), **changes: Any) -> Run:
    """A run of nox -s bench; changes: of its fields."""
    run = replace(new_run("bench", CPU, {"bench": rows, "hardware": hardware}), commit="c", dirty=False)
    return replace(run, **changes)


def timed(
    candidate: str,
    seconds: float,
    peak: int = 1_000_000,
    layer_norm: bool = False,
    spread: float = 0.01,
    **changes: Any,
) -> list[Row]:
    """Rows of a candidate, one for each pass, with a baseline of 50 ms; 0 seconds mean a time-out.

    spread: half of the interval, as a share of the ratio.
    """
    ratio = seconds / 0.05
    figures = {
        **Ended().columns, "median_s": seconds, "baseline_s": 0.05, "ratio": ratio, "ratio_low": ratio * (1 - spread),
        "ratio_high": ratio * (1 + spread), "peak_bytes": peak, "work": 1.45,
        "multiply_adds": 1e6, "least_bytes": 1e5, "share": 0.25, "bound": "compute", "visits": 5,
    }  # fmt: skip
    timed_out = Ended(Status.TIME_OUT, "9 s").columns
    return [
        about_pass(WORKLOADS["small"], replace(TINY, layer_norm=layer_norm), candidate, "float32", each)
        | (figures if seconds else timed_out)
        | changes
        for each in Pass
    ]


def at(workload: str, rows: list[Row], **changes: Any) -> list[Row]:
    """Rows as those of another workload, which the run shortened."""
    whole = WORKLOADS[workload].case
    return [row | {"workload": workload, "whole_T": whole.T, "whole_B": whole.B} | changes for row in rows]


LSTM = timed(BASELINE, 0.05)
OURS = timed("batched_cpu", 0.1)
NORM = timed("batched_cpu", 0.2, layer_norm=True)
