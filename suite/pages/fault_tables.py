"""The kill table: rows of faults.csv, one line for each planted fault and each equivalent rewrite."""

import math
from typing import Any

import pandas as pd

from suite.pages.sheets import Part, Sheet, page_of
from suite.pages.words import count, two

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
    return f"{ratio:.0e}" if 1e5 <= ratio < math.inf else two(ratio)


def _error(error: float) -> str:
    return f"{error:.1e}" if error < 0.01 else f"{error:.2g}"


def faults_table(rows: pd.DataFrame) -> Sheet:
    """Return one line for each fault: where and on which tensor it was caught, and how far beyond the tolerance."""
    lines = []
    for _, row in rows[rows["planted"] == "fault"].iterrows():
        rejected = row["verdict"] == "rejected"
        line: dict[str, Any] = {
            "fault": row["edit"],
            "kind": row["kind"],
            "in": row["implementation"] if row["dtype"] == "float64" else f"{row['implementation']}, {row['dtype']}",
            "caught on": row["case"] if rejected else "SURVIVED",
            "tensor": row["tensor"],
            "error": row["error"] if rejected else None,
            "/ allowed": row["ratio"] if rejected else None,
            "tensors wrong": row["wrong"],
        }
        lines.append(line)
    return Sheet(lines, {"error": _error, "/ allowed": _factor, "tensors wrong": count})


def kinds_table(rows: pd.DataFrame) -> Sheet:
    """Return one line for each kind of fault, with the one that came nearest to passing."""
    lines = []
    for kind, group in rows[rows["planted"] == "fault"].groupby("kind", sort=False):
        killed = group[group["verdict"] == "rejected"]
        nearest = killed.loc[killed["ratio"].idxmin()] if len(killed) else {"edit": None, "ratio": None}
        lines.append(
            {
                "kind": kind,
                "faults": len(group),
                "rejected": len(killed),
                "nearest to passing": nearest["edit"],
                "error / allowed": nearest["ratio"],
            }
        )
    return Sheet(lines, {"faults": count, "rejected": count, "error / allowed": _factor})


def rewrites_table(rows: pd.DataFrame) -> Sheet:
    """Return one line for each rewrite: the worst error as a multiple of what it may be, by dtype."""
    lines = []
    for name, group in rows[rows["planted"] == "rewrite"].groupby("edit", sort=False):
        worst = group.loc[group["ratio"].idxmax()]
        rejected = list(group["dtype"][group["verdict"] != "accepted"])
        lines.append(
            {"rewrite": name, "kind": worst["kind"], "in": worst["implementation"]}
            | dict.fromkeys(DTYPES)
            | dict(zip(group["dtype"], group["ratio"], strict=True))
            | {
                "worst on": worst["tensor"],
                "verdict": f"REJECTED in {', '.join(rejected)}" if rejected else "accepted",
            }
        )
    return Sheet(lines, dict.fromkeys(DTYPES, two))


def faults_page(rows: pd.DataFrame) -> list[Part]:
    """Return the page."""
    tables = {"kinds": kinds_table(rows), "rewrites": rewrites_table(rows), "faults": faults_table(rows)}
    return page_of("faults", rows, lead=faults_lead(rows), **tables)
