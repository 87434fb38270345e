"""The page of compiled kernels: rows of kernels.csv, one line for each kernel and card."""

import pandas as pd

from suite.pages.page import Page, Values
from suite.pages.sheets import Sheet
from suite.shared.format import count

#: The figures of the page, by column: the most over sizes and arithmetics.
_MOST = {"registers": "registers", "stack_bytes": "spilled", "shared_bytes": "shared", "shared_limit": "of"}


def _values(rows: pd.DataFrame) -> Values:
    found = rows.assign(compiled=1, card=(rows["capability"] / 10).map("{:.1f}".format))
    how: dict[str, str] = {"compiled": "sum", **dict.fromkeys(_MOST, "max")}
    lines = found.groupby(["kernel", "card"], sort=False).agg(how).rename(columns=_MOST).reset_index()
    table = Sheet(lines.to_dict("records"), dict.fromkeys(("compiled", *_MOST.values()), count))
    return {"triton": str(rows["triton"].iloc[0]), "sizes": "; ".join(rows["size"].unique()), "table": table}


PAGE = Page("kernels", _values)
