"""The columns of result files, and which of them identify a row."""

from collections.abc import Mapping, Sequence
from typing import Any

from suite.cases.case import SIZES, Case
from suite.cases.workloads import Pass, Workload

#: A row of a table, by column.
Row = dict[str, Any]
_SIZES = dict.fromkeys(SIZES, float)
#: By table, its columns and the type of their values; `tuple`: the figures of all visits, between spaces in a file.
#: The end of a name is the unit: `_s` seconds, `_bytes` bytes, `_per_s` per second. `*_low` and `*_high` are the ends
#: of the 95 % confidence interval between visits.
COLUMNS: Mapping[str, Mapping[str, type]] = {
    "bench": {
        "workload": str, **dict.fromkeys(SIZES, int), "layer_norm": bool, "implementation": str, "dtype": str,
        # Of the whole workload, where the run shortened it.
        "whole_T": float, "whole_B": float,
        "tokens": int, "pass": str, "status": str, "detail": str, "visits": float,
        "median_s": float, "median_s_visits": tuple,
        # Of the rounds of torch.nn.LSTM that alternate with these.
        "baseline_s": float, "baseline_s_visits": tuple,
        "ratio": float, "ratio_low": float, "ratio_high": float, "ratio_visits": tuple,
        "peak_bytes": float, "multiply_adds": float, "work": float, "least_bytes": float,
        # Which rate of the hardware limits the time, "compute" or "memory", and the least time by it over the time.
        "bound": str, "share": float,
        # Share of the cores that other processes had, where visits beside them count.
        "busy": float,
    },
    "hardware": {"dtype": str, "multiply_adds_per_s": float, "bytes_per_s": float, "side": float, "product": str},
    "verify": {
        "implementation": str, "dtype": str, "case": str, "oracle": str, **_SIZES, "verdict": str, "error": float,
        "allowed": float, "ratio": float, "tensor": str, "use": str, "finding": str, "interpreted": bool,
        "forward_only": bool, "reason": str,
    },
    "faults": {
        "edit": str, "kind": str, "implementation": str, "dtype": str, "verdict": str, "case": str, "error": float,
        "allowed": float, "ratio": float, "tensor": str, "finding": str, "use": str, "wrong": float,
    },
    "capabilities": {"capability": str, "implementation": str, "outcome": str, "reason": str},
}  # fmt: skip
#: Columns of a benchmark that make a setting, a place (at which candidates are compared), and a row.
SETTING: Sequence[str] = ("dtype", "workload", "T", "B")
PLACE: Sequence[str] = (*SETTING, "layer_norm")
#: By table, the columns that identify a row in its run.
KEYS: Mapping[str, Sequence[str]] = {
    "bench": (*PLACE, "implementation", "pass"),
    "hardware": ("dtype",),
    "verify": ("implementation", "dtype", "case", "oracle"),
    "faults": ("edit", "dtype"),
    "capabilities": ("capability", "implementation"),
}
#: By size that a run of the benchmark may shorten, the column with that of the whole workload.
WHOLE = {"T": "whole_T", "B": "whole_B"}


def key_of(row: Mapping[Any, Any]) -> tuple[Any, ...]:
    """What identifies a row of the benchmark."""
    return tuple(row.get(column) for column in KEYS["bench"])


def about_pass(workload: Workload, case: Case, implementation: str, dtype: str, timed: Pass) -> Row:
    """Columns that describe a row of the benchmark; case: of the workload. timed: the pass that is."""
    sizes = case.sizes
    of_whole = (workload.whole or workload.case).sizes
    return {
        "workload": workload.name,
        **sizes,
        "layer_norm": case.layer_norm,
        "implementation": implementation,
        "dtype": dtype,
        **{column: of_whole[size] if of_whole[size] != sizes[size] else None for size, column in WHOLE.items()},
        "tokens": case.tokens,
        "pass": timed,
    }
