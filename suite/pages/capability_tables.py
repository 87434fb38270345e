"""The capability matrix: rows of capabilities.csv, one line for each capability and one column an implementation."""

import pandas as pd

from impls import names
from suite.shared.tables import environments, markdown


def capability_matrix(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the matrix, and the reasons that its cells number from 1."""
    reasons: list[str] = []
    lines = []
    for capability, group in rows.groupby("capability", sort=False):
        found = group[["implementation", "outcome", "reason"]].to_numpy()
        cells = {name: _cell(word, reason, reasons) for name, word, reason in found}
        lines.append({"": str(capability), **{f"`{name}`": cells.get(name, "-") for name in names()}})
    return pd.DataFrame(lines), reasons


def _cell(outcome: str, reason: object, reasons: list[str]) -> str:
    """Return a cell, with the number of its reason if it has one."""
    if not isinstance(reason, str) or not reason:
        return outcome
    if reason not in reasons:
        reasons.append(reason)
    return f"{outcome} ({reasons.index(reason) + 1})"


def capability_summary(rows: pd.DataFrame) -> str:
    """Return the matrix in Markdown, with its reasons below it."""
    matrix, reasons = capability_matrix(rows)
    # What a bar or a star would do to a table and a list.
    listed = "\n".join(f"{n}. {reason.replace('|', '/').replace('*', '·')}" for n, reason in enumerate(reasons, 1))
    return f"{markdown(matrix)}\n\n{listed}"


def capabilities_markdown(rows: pd.DataFrame) -> str:
    """Return capabilities.md."""
    return f"""# Capabilities

{environments(rows)}

Each cell is a check that ran (`suite/checks/module/capabilities.py`): `pass`; `no` where the implementation said so
in an error of its own, or the measurement did; `FAIL` for any other error or a wrong number; `not run` with the
reason.

{capability_summary(rows)}
"""
