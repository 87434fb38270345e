"""What the pages of the studies share: the rows they are about, and what did not come to its end."""

import pandas as pd

from suite.shared.format import sizes
from suite.shared.rows import BUSY


def latest(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the workload and dtype that were studied last: a page is about one, its CSV file has all."""
    return rows.merge(rows[["workload", "dtype"]].tail(1))


def about(row: pd.Series, dims: str = "TBIHSZL") -> str:
    """Return in words the workload that a row is about, its sizes and its dtype."""
    return f"{row['workload']} ({sizes(row, dims)}), {row['dtype']}"


def unfinished(rows: pd.DataFrame) -> str:
    """Return sentences on what did not come to its end or was slowed by other processes; empty if all went well."""
    slowed = rows[rows["taken_cores"] > BUSY] if "taken_cores" in rows else rows[:0]
    parts = ", ".join(dict.fromkeys(slowed["part"]))
    first = f"Not to be relied on, as other processes took cores meanwhile: {parts}.\n" if parts else ""
    left = rows[~rows["status"].isin(["ok", "out of memory"])]
    named = map("{part}, {implementation}, layer norm {layer_norm}: {status}".format_map, left.to_dict("records"))
    return first + (f"Not complete: {'; '.join(named)}.\n" if len(left) else "")
