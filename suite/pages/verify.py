"""The verification page: rows of verify.csv, one line for each implementation and dtype."""

import pandas as pd

from suite.pages.page import Page
from suite.pages.sheets import Sheet
from suite.shared.cases import INTERPRETED
from suite.shared.format import count, two


def verify_table(rows: pd.DataFrame) -> Sheet:
    """Return one line for each implementation and dtype: how many cases, the worst of them, the verdict."""
    lines = []
    for _, group in rows.groupby(["implementation", "dtype"], sort=False):
        ran = group[group["verdict"] != "skipped"]
        worst = ran.sort_values("ratio").dropna(subset="ratio")[-1:]
        lines.append(
            {
                "implementation": group["implementation"].iloc[0],
                "dtype": group["dtype"].iloc[0],
                "cases": len(ran),
                "worst": worst["ratio"].max(),
                "on": (worst["tensor"] if len(worst) else group["reason"]).iloc[0],
                "verdict": _verdict(ran),
            }
        )
    return Sheet(lines, {"cases": count, "worst": two})


def _verdict(ran: pd.DataFrame) -> str:
    if ran.empty:
        return "skipped"
    failed = int((ran["verdict"] == "FAIL").sum())
    word = f"{failed} FAILED" if failed else "pass"
    return f"{word}, interpreted" if (ran["reason"] == INTERPRETED).all() else word


def verdict(rows: pd.DataFrame) -> str:
    """Return in a sentence what verification found."""
    ran = rows[rows["verdict"] != "skipped"]
    if failed := failures(ran):
        return f"**Verification is red**: {failed}."
    return (
        f"Verification is green: {ran['implementation'].nunique()} implementations against the full-tensor form in "
        f"float64, {len(ran)} comparisons, the worst error {ran['ratio'].max():.2f} of what is allowed."
    )


def failures(ran: pd.DataFrame) -> str:
    """Return which implementations failed in which dtype; empty where none did."""
    failed = ran[ran["verdict"] == "FAIL"].drop_duplicates(["implementation", "dtype"])
    return ", ".join(failed["implementation"] + " in " + failed["dtype"])


PAGE = Page("verify", lambda rows: {"table": verify_table(rows)})
