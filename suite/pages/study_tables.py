"""What the pages of the studies share: the rows they are about, and what did not come to its end."""

import pandas as pd


def latest(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the workload and dtype that were studied last: a page is about one, its CSV file has all."""
    last = rows.iloc[-1]
    found: pd.DataFrame = rows[(rows["workload"] == last["workload"]) & (rows["dtype"] == last["dtype"])]
    return found


def unfinished(rows: pd.DataFrame) -> str:
    """Return a sentence on what was refused, failed or ran out of time; empty if all came to its end."""
    left = rows[~rows["status"].isin(["ok", "out of memory"])]
    if left.empty:
        return ""
    named = [
        f"{row['part']}, {row['implementation']}, layer norm {row['layer_norm']}: {row['status']}"
        for _, row in left.iterrows()
    ]
    return f"Not complete: {'; '.join(named)}.\n"
