"""The page of the hardware's ceilings: rows of hardware.csv, one line for each dtype."""

import pandas as pd

from suite.shared.tables import environments, markdown


def hardware_markdown(rows: pd.DataFrame) -> str:
    """Return hardware.md."""
    table = pd.DataFrame(
        {
            "dtype": row["dtype"],
            "large product, GFLOP/s": f"{2 * row['multiply_adds_per_s'] / 1e9:,.0f}",
            "by": row["product"],
            "side": f"{row['side']}",
            "large copy, GB/s": f"{row['bytes_per_s'] / 1e9:,.1f}",
        }
        for _, row in rows.iterrows()
    )
    return f"""# What the hardware allows

{environments(rows)}

The fastest of torch.mm and oneDNN over square matrices, two operations for each multiply-add, and a copy of
{int(rows["copied_bytes"].iloc[-1]) >> 20} MiB, whose bytes count twice, read and written; each the best of half a
second. The benchmark's shares of the bound rest on these.

{markdown(table)}
"""
