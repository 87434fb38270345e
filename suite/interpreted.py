"""What can be checked of a GPU's kernels on a CPU.

Run as `python -m suite.interpreted FILE.csv` with TRITON_INTERPRET=1, in a process of its own.
The kernels are the very functions that a GPU runs, started phase by phase in the same order. Not seen here: speed, what
programs of one launch do to one another, the order of memory, streams and graph capture, TF32. Interpreted runs are
checked, never timed.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import torch

from impls import recurrence
from impls.registry import dtype_name, find

from .cases import VERIFY, VERIFY_TILES, Case
from .compare import Verdict, compare, implementation
from .results import write_whole

NAME = "batched_cuda"
#: Draws of a case: sizes that need several tiles have enough numbers in one.
DRAWS = 1
#: The smallest of the sizes that every implementation is checked at, and all that have edges between tiles.
PAIRS = [(case, dtype) for case in (*VERIFY[:2], *VERIFY_TILES) for dtype in find(NAME).dtypes]


def two_steps_a_chunk(case: Case, dtype: torch.dtype) -> Any:
    """Return the patch that lets a case span chunks, whose borders are where a sweep's first and last step are."""
    size = 2 * 40 * case.B * case.H * dtype.itemsize
    return mock.patch.dict(recurrence.CHUNK_BYTES, cpu=size, cuda=size)


def judged(case: Case, dtype: torch.dtype, device: torch.device) -> Verdict:
    """Return the worst verdict on a case."""
    with two_steps_a_chunk(case, dtype):
        return compare(implementation(NAME), case, dtype, device, draws=DRAWS)[0]


def rows() -> Iterator[dict[str, Any]]:
    """Run every pair on the CPU and yield its verdict."""
    for case, dtype in PAIRS:
        worst = judged(case, dtype, torch.device("cpu"))
        yield {"case": case.id, "dtype": dtype_name(dtype), **vars(worst)}


def verdict(row: Any) -> Verdict:
    """Return the verdict in a row of `table`."""
    return Verdict(row["tensor"], row["error"], row["allowed"])


def table(path: Path) -> pd.DataFrame:
    """Run the pairs in a child process whose Triton interprets, and return the rows; RuntimeError says what failed."""
    command, root = [sys.executable, "-m", "suite.interpreted", str(path)], Path(__file__).parents[1]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    child = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=root, check=False)
    if child.returncode:
        raise RuntimeError(f"python -m suite.interpreted: expected every case to run, got:\n{child.stderr}")
    return pd.read_csv(path)


if __name__ == "__main__":
    write_whole(Path(sys.argv[1]), pd.DataFrame(list(rows())).to_csv(index=False))
