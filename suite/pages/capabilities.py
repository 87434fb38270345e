"""The page of capabilities: rows of capabilities.csv, one line for each capability and one column an implementation."""

import pandas as pd

from suite.pages.page import Page
from suite.pages.sheets import Part, Sheet


def matrix(rows: pd.DataFrame) -> list[Part]:
    """Return the matrix and below it the reasons that its cells number, without what a star would do to a list."""
    reasons: list[str] = []
    lines = []
    for capability, group in rows.groupby("capability", sort=False):
        found = group[["implementation", "outcome", "reason"]].to_numpy()
        lines.append({"": capability} | {f"`{name}`": _cell(word, reason, reasons) for name, word, reason in found})
    return [Sheet(lines), "\n".join(f"{n}. {reason.replace('*', '·')}" for n, reason in enumerate(reasons, 1))]


def _cell(outcome: str, reason: object, reasons: list[str]) -> str:
    """Return a cell, with the number of its reason if it has one."""
    if not isinstance(reason, str) or not reason:
        return outcome
    if reason not in reasons:
        reasons.append(reason)
    return f"{outcome} ({reasons.index(reason) + 1})"


PAGE = Page("capabilities", lambda rows: {"matrix": matrix(rows)})
