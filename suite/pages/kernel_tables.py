"""The table of compiled kernels: rows of kernels.csv, one line for each kernel and size."""

from typing import Any

import pandas as pd

from suite.pages.sheets import Format, Part, Sheet
from suite.pages.words import count, made_on

FIGURES = {"registers": "registers", "stack_bytes": "spilled", "shared_bytes": "shared"}


def kernels_table(rows: pd.DataFrame) -> Sheet:
    """Return the most of each figure that a kernel takes at a size, over arithmetics and layer norm."""
    lines, formats = [], dict[str, Format]()
    for _, group in rows.groupby(["size", "kernel"], sort=False):
        line: dict[str, Any] = {name: group[name].iloc[0] for name in ("size", "kernel")}
        for figure, called in FIGURES.items():
            for capability, most in group.groupby("capability")[figure].max().items():
                line[f"{called}, {capability / 10:.1f}"] = most
        lines.append(line)
        formats |= dict.fromkeys(set(line) - {"size", "kernel"}, count)
    return Sheet(lines, formats)


def kernels_page(rows: pd.DataFrame) -> list[Part]:
    """Return the page."""
    cards = ", ".join(f"{capability / 10:.1f}" for capability in sorted(rows["capability"].unique()))
    text = f"""# Kernels of batched_cuda

{made_on(rows)}

Compiled ahead of time, without a GPU, by Triton {rows["triton"].iloc[0]} for compute capability {cards}. Registers and
bytes spilled are for each thread, bytes of shared memory for each block; each figure is the most over arithmetics, with
and without layer norm."""
    return [text, kernels_table(rows), "Kernel by kernel, with tiles and instructions: [kernels.csv](kernels.csv)."]
