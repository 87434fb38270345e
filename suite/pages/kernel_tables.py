"""The table of compiled kernels: rows of kernels.csv, one line for each kernel and card."""

import pandas as pd

from suite.pages.sheets import Part, Sheet
from suite.pages.words import count, made_on

#: The figures of the page, by column: the most over sizes and arithmetics.
_MOST = {"registers": "registers", "stack_bytes": "spilled", "shared_bytes": "shared", "shared_limit": "of"}


def kernels_table(rows: pd.DataFrame) -> Sheet:
    """Return the most of each figure that a kernel takes on a card."""
    lines = [
        {
            "kernel": group["kernel"].iloc[0],
            "card": f"{group['capability'].iloc[0] / 10:.1f}",
            "compiled": len(group),
            **{called: group[figure].max() for figure, called in _MOST.items()},
        }
        for _, group in rows.groupby(["kernel", "capability"], sort=False)
    ]
    return Sheet(lines, dict.fromkeys(("compiled", *_MOST.values()), count))


def kernels_page(rows: pd.DataFrame) -> list[Part]:
    """Return the page."""
    text = f"""# Kernels of batched_cuda

{made_on(rows)}

Compiled ahead of time by `nox -s kernels`, without a GPU, by Triton {rows["triton"].iloc[0]}, with and without layer
norm, in bfloat16 and TF32, and in float16 and float32 where these differ. Sizes: {", ".join(rows["size"].unique())};
what is named after one size is char-ptb but for that size. Cards are told by compute capability. Registers and bytes
spilled are for each thread, bytes of shared memory for each block, of those that it may take; each figure is the most
over sizes and arithmetics.

Rows are loaded 16 bytes at a time where H and S are multiples of 8 in half precision, of 4 in float32, and by what
divides a row elsewhere. An odd H in half precision, as H 513, is loaded number by number and without asynchronous
copies, so that products wait for their operands. TF32 products take operands rounded to nearest."""
    return [text, kernels_table(rows), "Kernel by kernel, with tiles and instructions: [kernels.csv](kernels.csv)."]
