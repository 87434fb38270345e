"""The page of the hardware's ceilings: rows of hardware.csv, one line for each dtype."""

import pandas as pd

from suite.pages.sheets import Part, Sheet
from suite.pages.words import count, made_on, three


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
    text = f"""# What the hardware allows

{made_on(rows)}

The fastest of torch.mm and oneDNN over square matrices, two operations for each multiply-add, and a copy of
{int(rows["copied_bytes"].iloc[-1]) >> 20} MiB, whose bytes count twice, read and written; each the best of half a
second. The benchmark's shares of the bound rest on these."""
    formats = {"large product, GFLOP/s": count, "side": count, "large copy, GB/s": three}
    return [text, Sheet(lines, formats)]
