"""The table of compiled kernels: rows of kernels.csv, one line for each kernel and size."""

import pandas as pd

from suite.shared.tables import markdown


def kernels_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return, as strings, the most of each figure that a kernel takes at a size, over arithmetics and layer norm."""
    figures = {"registers": "registers", "stack_bytes": "spilled", "shared_bytes": "shared"}
    most = rows.groupby(["size", "kernel", "capability"], sort=False)[list(figures)].max().unstack()
    most.columns = pd.Index([f"{figures[figure]}, {capability / 10:.1f}" for figure, capability in most.columns])
    table: pd.DataFrame = most.map(lambda value: f"{value:,.0f}").reset_index()
    return table


def kernels_markdown(rows: pd.DataFrame) -> str:
    """Return kernels.md."""
    return f"""# Kernels of batched_cuda

Compiled ahead of time by `python -m suite.checks.kernels.kernels FILE.csv`, without a GPU, by Triton
{rows["triton"].iloc[0]} for compute capability 8.0, 9.0 and 10.0. Registers and bytes spilled are for each thread,
bytes of shared memory for each block; each figure is the most over arithmetics, with and without layer norm.

{markdown(kernels_table(rows))}

Kernel by kernel, with tiles and instructions: [kernels.csv](kernels.csv).
"""
