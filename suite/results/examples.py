"""Rows as a verification and a benchmark make them, for tests."""

from dataclasses import replace
from typing import Any

from suite.cases.examples import CPU, TINY
from suite.cases.verification import MULTIPLIED
from suite.cases.workloads import WORKLOADS, Pass
from suite.results.names import TableName
from suite.results.outcomes import CaseOutcome
from suite.results.status import Ended, Status
from suite.results.tables import about_pass, stamp

HERE = stamp(CPU, TableName.HARDWARE, {}) | {"dirty": False}


def verified(implementation: str = "batched", ratio: float = 0.5, **changes: Any) -> dict[str, Any]:
    """Row as a verification makes it."""
    about = {"implementation": implementation, "dtype": "float32", "case": MULTIPLIED[0], "oracle": "", "tensor": "out"}
    about |= {"reason": "", "defined": ""}
    figures = {"verdict": CaseOutcome.of(wrong=ratio > 1), "ratio": ratio, "error": ratio / 1e6, "allowed": 1e-6}
    row = about | figures | changes
    return stamp(CPU, TableName.VERIFY, row) | {"dirty": False} | row


def runs(
    candidate: str,
    seconds: float,
    peak: int = 1_000_000,
    layer_norm: bool = False,
    spread: float = 0.01,
    **changes: Any,
) -> list[dict[str, Any]]:
    """Rows as a run makes them, with a baseline of 50 ms; 0 seconds mean a time-out.

    spread: half of the interval, as a share of the ratio.
    """
    stamp = HERE | {"commit": "c", "sources": "s"}
    ratio = seconds / 0.05
    figures = {
        **Ended().columns, "median_s": seconds, "baseline_s": 0.05, "ratio": ratio, "ratio_low": ratio * (1 - spread),
        "ratio_high": ratio * (1 + spread), "first_s": 9.0, "peak_bytes": peak, "work": 1.45,
        "multiply_adds": 1e6, "least_bytes": 1e5, "share": 0.25, "bound": "compute", "visits": 5,
    }  # fmt: skip
    timed_out = Ended(Status.TIME_OUT, "9 s").columns
    return [
        about_pass(WORKLOADS["small"], replace(TINY, layer_norm=layer_norm), candidate, "float32", timed)
        | (figures if seconds else timed_out)
        | stamp
        | changes
        for timed in Pass
    ]
