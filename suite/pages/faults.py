"""The page of planted faults: rows of faults.csv, one line for each planted fault and each equivalent rewrite."""

import math

import pandas as pd

from suite.pages.page import Page
from suite.pages.sheets import Columns, Sheet
from suite.shared.format import count, two

#: The dtypes of the rewrites' columns.
DTYPES = ("float64", "float32", "bfloat16")
#: By what is planted, the verdict that it should have, and what it is called.
WANTED = {"fault": ("rejected", "planted faults"), "rewrite": ("accepted", "equivalent rewrites")}


def faults_lead(rows: pd.DataFrame) -> str:
    """Return the one sentence that the page is for; of a quick run, which has no rewrites, half of it."""
    parts = []
    for planted, (wanted, what) in WANTED.items():
        found = (rows["verdict"] == wanted)[rows["planted"] == planted].groupby(rows["edit"]).all()
        parts += [f"{found.sum()} of {len(found)} {what} {wanted}"] * (len(found) > 0)
    return f"{', '.join(parts)}."


def _factor(ratio: float) -> str:
    return f"{ratio:.0e}" if 1e5 <= ratio < math.inf else two(ratio)


def faults_table(rows: pd.DataFrame) -> Sheet:
    """Return one line for each fault: where and on which tensor it was caught, and how far beyond the tolerance."""
    faults = rows[rows["planted"] == "fault"]
    killed = faults["verdict"] == "rejected"
    other = (", " + faults["dtype"]).where(faults["dtype"] != "float64", "")
    shown = faults.assign(
        where=faults["implementation"] + other,
        case=faults["case"].where(killed, "SURVIVED"),
        error=faults["error"].where(killed),
        ratio=faults["ratio"].where(killed),
    )
    columns: Columns = {
        "fault": "edit",
        "kind": "kind",
        "in": "where",
        "caught on": "case",
        "tensor": "tensor",
        "error": ("error", lambda error: f"{error:.1e}" if error < 0.01 else f"{error:.2g}"),
        "/ allowed": ("ratio", _factor),
        "tensors wrong": ("wrong", count),
    }
    return Sheet.of(shown, columns)


def kinds_table(rows: pd.DataFrame) -> Sheet:
    """Return one line for each kind of fault, with the one that came nearest to passing."""
    faults = rows[rows["planted"] == "fault"]
    killed = faults[faults["verdict"] == "rejected"].sort_values("ratio", kind="stable").drop_duplicates("kind")
    counts = faults.assign(killed=faults["verdict"] == "rejected").groupby("kind", sort=False)["killed"]
    shown = counts.agg(["size", "sum"]).join(killed.set_index("kind")).reset_index()
    columns: Columns = {
        "kind": "kind",
        "faults": ("size", count),
        "rejected": ("sum", count),
        "nearest to passing": "edit",
        "error / allowed": ("ratio", _factor),
    }
    return Sheet.of(shown, columns)


def rewrites_table(rows: pd.DataFrame) -> Sheet:
    """Return one line for each rewrite: the worst error as a multiple of what it may be, by dtype."""
    lines = []
    for name, group in rows[rows["planted"] == "rewrite"].groupby("edit", sort=False):
        worst = group.loc[group["ratio"].idxmax()]
        rejected = ", ".join(group["dtype"][group["verdict"] != "accepted"])
        line = {"rewrite": name, "kind": worst["kind"], "in": worst["implementation"], **dict.fromkeys(DTYPES)}
        line |= dict(zip(group["dtype"], group["ratio"], strict=True))
        line |= {"worst on": worst["tensor"], "verdict": f"REJECTED in {rejected}" if rejected else "accepted"}
        lines.append(line)
    return Sheet(lines, dict.fromkeys(DTYPES, two))


TABLES = {"kinds": kinds_table, "rewrites": rewrites_table, "faults": faults_table}
PAGE = Page("faults", lambda rows: {"lead": faults_lead(rows)} | {name: made(rows) for name, made in TABLES.items()})
