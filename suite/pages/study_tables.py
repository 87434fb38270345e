"""What the tables of the studies share: the rows they are of, figures in words, and what did not come to its end."""

import pandas as pd

MB = 1e6


def latest(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the workload and dtype that were studied last: a page is about one, its CSV file has all."""
    last = rows.iloc[-1]
    found: pd.DataFrame = rows[(rows["workload"] == last["workload"]) & (rows["dtype"] == last["dtype"])]
    return found


def label(implementation: str, layer_norm: str) -> str:
    """Return how a line of a plot is called."""
    return f"{implementation}, norm" if layer_norm == "on" else implementation


def digits(value: float) -> str:
    """Return three digits of a figure, with thousands apart; "-" where there is none."""
    if pd.isna(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def megabytes(value: float) -> str:
    """Return bytes as MB."""
    return digits(value / MB)


def sizes(row: pd.Series, dims: str) -> str:
    """Return the sizes of a row in words."""
    return ", ".join(f"{n} {row[n]}" for n in dims)


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
