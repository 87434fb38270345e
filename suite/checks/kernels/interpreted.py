"""What can be checked of a GPU's kernels on a CPU.

Run as `python -m suite.checks.kernels.interpreted FILE` with TRITON_INTERPRET=1, in a process of its own.
The kernels are the very functions that a GPU runs, started phase by phase in the same order. Not seen here: speed, what
programs of one launch do to one another, the order of memory, streams and graph capture, TF32. Interpreted runs are
checked, never timed.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from impls.chunks import limited
from impls.registry import dtype_name, find
from suite.shared.cases import RAGGED, VERIFY, VERIFY_TILES, Case
from suite.shared.children import leave
from suite.shared.compare import Verdict, compare, implementation

NAME = "batched_cuda"
#: Draws of a case: sizes that need several tiles have enough numbers in one.
DRAWS = 1
#: The smallest of the sizes that every implementation is checked at, packed sequences, and all that have edges between
#: tiles.
PAIRS = [(case, dtype) for case in (*VERIFY[:2], RAGGED[0], *VERIFY_TILES) for dtype in find(NAME).dtypes]


def judged(case: Case, dtype: torch.dtype, device: torch.device) -> Verdict:
    """Return the worst verdict on a case, in chunks of two steps: a sweep's first and last step are special."""
    two_steps = 2 * 40 * case.B * case.H * dtype.itemsize
    with limited(device.type, forward=two_steps, backward=two_steps):
        return compare(implementation(NAME), case, dtype, device, draws=DRAWS)[0]


def rows() -> Iterator[dict[str, Any]]:
    """Run every pair on the CPU and yield its verdict."""
    for case, dtype in PAIRS:
        worst = judged(case, dtype, torch.device("cpu"))
        yield {"case": case.id, "dtype": dtype_name(dtype), **vars(worst)}


def verdict(row: Any) -> Verdict:
    """Return the verdict in a row."""
    return Verdict(row["tensor"], row["error"], row["allowed"])


if __name__ == "__main__":
    for row in rows():
        leave(Path(sys.argv[1]), row)
