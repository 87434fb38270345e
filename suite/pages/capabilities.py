"""The page of capabilities: rows of capabilities.csv, one line for each capability and one column an implementation."""

import pandas as pd

from suite.pages.page import Page
from suite.pages.sheets import Part, Sheet


def matrix(rows: pd.DataFrame) -> list[Part]:
    """Return the matrix and below it the reasons that its cells number, without what a star would do to a list."""
    reasons = list(rows["reason"].dropna().unique())
    numbers = rows["reason"].map(lambda reason: f" ({reasons.index(reason) + 1})" if reason in reasons else "")
    cells = rows.assign(name="`" + rows["implementation"] + "`", cell=rows["outcome"] + numbers)
    lines = [
        {"": capability} | dict(zip(group["name"], group["cell"], strict=True))
        for capability, group in cells.groupby("capability", sort=False)
    ]
    return [Sheet(lines), "\n".join(f"{n}. {reason.replace('*', '·')}" for n, reason in enumerate(reasons, 1))]


PAGE = Page("capabilities", lambda rows: {"matrix": matrix(rows)})
