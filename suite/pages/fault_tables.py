"""The kill table: rows of faults.csv, one line for each planted fault and each equivalent rewrite."""

import math

import pandas as pd

from suite.shared.tables import environments, markdown

#: The dtypes of the rewrites' columns.
DTYPES = ("float64", "float32", "bfloat16")


def faults_lead(rows: pd.DataFrame) -> str:
    """Return the one sentence that the page is for."""
    killed = int((rows["verdict"] == "rejected").sum())
    faults = int((rows["planted"] == "fault").sum())
    rewrites = rows[rows["planted"] == "rewrite"].groupby("edit")["verdict"]
    accepted = sum(bool((verdicts == "accepted").all()) for _, verdicts in rewrites)
    return f"{killed} of {faults} planted faults rejected, {accepted} of {len(rewrites)} equivalent rewrites accepted."


def _factor(ratio: float) -> str:
    if math.isinf(ratio):
        return "inf"
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}" if ratio < 1e5 else f"{ratio:.0e}"


def _error(error: float) -> str:
    return "inf" if math.isinf(error) else f"{error:.1e}" if error < 0.01 else f"{error:.2g}"


def faults_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one line for each fault: where and on which tensor it was caught, and how far beyond the tolerance."""
    lines = [
        {
            "fault": row["edit"],
            "kind": row["kind"],
            "in": row["implementation"] if row["dtype"] == "float64" else f"{row['implementation']}, {row['dtype']}",
            "caught on": row["case"] if row["verdict"] == "rejected" else "SURVIVED",
            "tensor": row["tensor"],
            "error": _error(row["error"]) if row["verdict"] == "rejected" else "-",
            "/ allowed": _factor(row["ratio"]) if row["verdict"] == "rejected" else "-",
            "tensors wrong": str(int(row["wrong"])),
        }
        for _, row in rows[rows["planted"] == "fault"].iterrows()
    ]
    return pd.DataFrame(lines)


def kinds_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one line for each kind of fault, with the one that came nearest to passing."""
    lines = []
    for kind, group in rows[rows["planted"] == "fault"].groupby("kind", sort=False):
        killed = group[group["verdict"] == "rejected"]
        nearest = killed.loc[killed["ratio"].idxmin()] if len(killed) else None
        lines.append(
            {
                "kind": str(kind),
                "faults": str(len(group)),
                "rejected": str(len(killed)),
                "nearest to passing": "-" if nearest is None else nearest["edit"],
                "error / allowed": "-" if nearest is None else _factor(nearest["ratio"]),
            }
        )
    return pd.DataFrame(lines)


def rewrites_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one line for each rewrite: the worst error as a multiple of what it may be, by dtype."""
    lines = []
    for name, group in rows[rows["planted"] == "rewrite"].groupby("edit", sort=False):
        by_dtype = group.set_index("dtype")
        figures = {dtype: (f"{by_dtype['ratio'][dtype]:.2f}" if dtype in by_dtype.index else "-") for dtype in DTYPES}
        worst = group.loc[group["ratio"].idxmax()]
        rejected = list(group["dtype"][group["verdict"] != "accepted"])
        verdict = f"REJECTED in {', '.join(rejected)}" if rejected else "accepted"
        lines.append(
            {"rewrite": str(name), "kind": worst["kind"], "in": worst["implementation"]}
            | figures
            | {"worst on": worst["tensor"], "verdict": verdict}
        )
    return pd.DataFrame(lines)


def faults_markdown(rows: pd.DataFrame) -> str:
    """Return faults.md."""
    return f"""# Faults planted on purpose

**{faults_lead(rows)}**

{environments(rows)}

Each fault is an edit of a right implementation (`suite/checks/faults/faults.py`), run through the comparison that
every implementation passes (`suite/shared/compare.py`). It is rejected when the comparison finds wrong the very
tensor that the fault damages; one in a gradient must leave the output unblamed. The cases are tried in one order, and
the first that catches it is named; then the relative error, and that as a multiple of what it may be. *inf* stands
for what no tolerance bounds: NaN, a number where zero belongs, and an input, given state, parameter or incoming
gradient that is not what it was, bit for bit.

{markdown(kinds_table(rows))}

## Equivalent rewrites

The same function written otherwise (`suite/checks/faults/rewrites.py`), by the same rule: error / allowed, so 1.00 is
the limit. A dash stands for a dtype in which a rewrite rounds otherwise than it claims, so that the rule is not for
it.

{markdown(rewrites_table(rows))}

## Every fault

{markdown(faults_table(rows))}

Row by row: [faults.csv](faults.csv).
"""
