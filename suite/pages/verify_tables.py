"""The verification table: rows of verify.csv, one line for each implementation and dtype."""

import pandas as pd

from suite.shared.tables import environments, markdown

#: The reason in the row of a run through Triton's interpreter.
INTERPRETED = "interpreted"


def verify_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one line for each implementation and dtype: how many cases, the worst of them, the verdict."""
    lines = []
    for _, group in rows.groupby(["implementation", "dtype"], sort=False):
        ran = group[group["verdict"] != "skipped"]
        measured = ran.dropna(subset="ratio").sort_values("ratio")
        worst = measured.iloc[-1] if len(measured) else None
        lines.append(
            {
                "implementation": group["implementation"].iloc[0],
                "dtype": group["dtype"].iloc[0],
                "cases": str(len(ran)),
                "worst": "-" if worst is None else f"{worst['ratio']:.2f}",
                "on": worst["tensor"] if worst is not None else group["reason"].iloc[0],
                "verdict": _verdict(ran),
            }
        )
    return pd.DataFrame(lines)


def _verdict(ran: pd.DataFrame) -> str:
    if ran.empty:
        return "skipped"
    failed = int((ran["verdict"] == "FAIL").sum())
    word = f"{failed} FAILED" if failed else "pass"
    return f"{word}, interpreted" if (ran["reason"] == INTERPRETED).all() else word


def verify_markdown(rows: pd.DataFrame) -> str:
    """Return verify.md."""
    return f"""# Verification

{environments(rows)}

Every implementation, in every dtype that it computes in, against the full-tensor form in float64 on the same rounded
numbers: output, final states, and the gradient of every parameter, input and given state, with all parameters random.
An error may be at most twice what the full-tensor form itself makes in that dtype, plus 64 eps in float64 and 4 eps in
the others; `worst` is the largest error as a multiple of what it may be, so 1.00 is the limit.

{markdown(verify_table(rows))}

Case by case: [verify.csv](verify.csv).
"""
