"""The verification table: rows of verify.csv, one line for each implementation and dtype."""

from typing import Any

import pandas as pd

from suite.pages.sheets import Part, Sheet
from suite.pages.words import count, made_on, two
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
    text = f"""# Verification

{made_on(rows)}

Every implementation, in every dtype that it computes in, against the full-tensor form in float64 on the same rounded
numbers: output, final states, and the gradient of every parameter, input and given state, with all parameters random.
An error may be at most twice what the full-tensor form itself makes in that dtype, plus 64 eps in float64 and 4 eps in
the others; `worst` is the largest error as a multiple of what it may be, so 1.00 is the limit."""
    return [text, verify_table(rows), "Case by case: [verify.csv](verify.csv)."]
