"""The table of compiled kernels: rows of kernels.csv, one line for each kernel and card."""

import pandas as pd

from suite.pages.sheets import Part, Sheet, page_of
from suite.pages.words import count

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
    words = {"triton": str(rows["triton"].iloc[0]), "sizes": ", ".join(rows["size"].unique())}
    return page_of("kernels", rows, table=kernels_table(rows), **words)
