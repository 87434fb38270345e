"""The page of the hardware's ceilings: rows of hardware.csv, one line for each dtype."""

import pandas as pd

from suite.pages.sheets import Part, Sheet, page_of
from suite.pages.words import count, three


def hardware_page(rows: pd.DataFrame) -> list[Part]:
    """Return the page."""
    lines = [
        {
            "dtype": row["dtype"],
            "large product, GFLOP/s": 2e-9 * row["multiply_adds_per_s"],
            "by": row["product"],
            "side": row["side"],
            "large copy, GB/s": row["bytes_per_s"] / 1e9,
        }
        for _, row in rows.iterrows()
    ]
    formats = {"large product, GFLOP/s": count, "side": count, "large copy, GB/s": three}
    copied = f"{int(rows['copied_bytes'].iloc[-1]) >> 20}"
    return page_of("hardware", rows, copied=copied, table=Sheet(lines, formats))
