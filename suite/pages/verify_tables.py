"""The verification table: rows of verify.csv, one line for each implementation and dtype."""

from typing import Any

import pandas as pd

from suite.pages.sheets import Part, Sheet, page_of
from suite.pages.words import count, two
from suite.shared.cases import INTERPRETED


def verify_table(rows: pd.DataFrame) -> Sheet:
    """Return one line for each implementation and dtype: how many cases, the worst of them, the verdict."""
    lines = []
    for _, group in rows.groupby(["implementation", "dtype"], sort=False):
        ran = group[group["verdict"] != "skipped"]
        measured = ran.dropna(subset="ratio").sort_values("ratio")
        worst = measured.iloc[-1] if len(measured) else None
        line: dict[str, Any] = {
            "implementation": group["implementation"].iloc[0],
            "dtype": group["dtype"].iloc[0],
            "cases": len(ran),
            "worst": None if worst is None else worst["ratio"],
            "on": worst["tensor"] if worst is not None else group["reason"].iloc[0],
            "verdict": _verdict(ran),
        }
        lines.append(line)
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
    failed = ran[ran["verdict"] == "FAIL"].drop_duplicates(["implementation", "dtype"])
    if len(failed):
        return f"**Verification is red**: {', '.join(failed['implementation'] + ' in ' + failed['dtype'])}."
    return (
        f"Verification is green: {ran['implementation'].nunique()} implementations against the full-tensor form in "
        f"float64, {len(ran)} comparisons, the worst error {ran['ratio'].max():.2f} of what is allowed."
    )


def verify_page(rows: pd.DataFrame) -> list[Part]:
    """Return the page."""
    return page_of("verify", rows, table=verify_table(rows))
