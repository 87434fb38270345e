"""The page of the hardware's ceilings: rows of hardware.csv, one line for each dtype."""

import pandas as pd

from suite.pages.page import Page, Values
from suite.pages.sheets import Sheet
from suite.shared.words import count, three


def _values(rows: pd.DataFrame) -> Values:
    table = Sheet.of(
        rows,
        {
            "dtype": "dtype",
            "large product, GFLOP/s": (lambda row: 2e-9 * row["multiply_adds_per_s"], count),
            "by": "product",
            "side": ("side", count),
            "large copy, GB/s": (lambda row: row["bytes_per_s"] / 1e9, three),
        },
    )
    return {"copied": f"{int(rows['copied_bytes'].iloc[-1]) >> 20}", "table": table}


PAGE = Page("hardware", _values)
