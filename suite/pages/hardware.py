"""The page of the hardware's ceilings: rows of hardware.csv, one line for each dtype."""

import pandas as pd

from suite.pages.page import Page, Values
from suite.pages.sheets import Columns, Sheet
from suite.shared.format import count, three

COLUMNS: Columns = {
    "dtype": "dtype",
    "large product, GFLOP/s": (lambda row: 2e-9 * row["multiply_adds_per_s"], count),
    "by": "product",
    "side": ("side", count),
    "large copy, GB/s": (lambda row: row["bytes_per_s"] / 1e9, three),
}


def _values(rows: pd.DataFrame) -> Values:
    return {"copied": f"{int(rows['copied_bytes'].iloc[-1]) >> 20}", "table": Sheet.of(rows, COLUMNS)}


PAGE = Page("hardware", _values)
