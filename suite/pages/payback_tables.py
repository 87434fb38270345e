"""The payback page: rows of payback.csv as the number of steps after which a slow start has paid for itself."""

import math

import pandas as pd

from suite.pages.study_tables import digits, latest, sizes, unfinished
from suite.shared.cases import BASELINE
from suite.shared.fits import steps_to_pay
from suite.shared.tables import environments, markdown


def payback_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return for each implementation the first step, a later one, and when it has overtaken the next best.

    The next best is the fastest of those that start sooner.
    """
    lines = []
    for _, group in rows[(rows["kind"] == "start") & (rows["status"] == "ok")].groupby(
        ["workload", "dtype", "layer_norm"], sort=False
    ):
        group = group[group["implementation"] != BASELINE]
        for _, row in group.iterrows():
            sooner = group[group["first_s"] < row["first_s"]]
            line = {
                "implementation": row["implementation"],
                "layer norm": row["layer_norm"],
                "first step, s": digits(row["first_s"]),
                "later step, ms": digits(row["step_s"] * 1e3),
            }
            lines.append(line | _payback(row, sooner))
    return pd.DataFrame(lines)


def _payback(row: pd.Series, sooner: pd.DataFrame) -> dict[str, str]:
    if sooner.empty:
        return {"next best": "starts first", "gain a step, ms": "-", "paid after, steps": "-", "seconds by then": "-"}
    other = sooner.loc[sooner["step_s"].idxmin()]
    steps = steps_to_pay(row["first_s"], row["step_s"], other["first_s"], other["step_s"])
    seconds = None if steps is None else row["first_s"] + (steps - 1) * row["step_s"]
    return {
        "next best": other["implementation"],
        "gain a step, ms": digits((other["step_s"] - row["step_s"]) * 1e3),
        "paid after, steps": "never" if steps is None else f"{math.ceil(steps - 1e-6):,}",
        "seconds by then": "-" if seconds is None else digits(seconds),
    }


def payback_markdown(rows: pd.DataFrame) -> str:
    """Return payback.md."""
    rows = latest(rows)
    row = rows.iloc[0]
    return (
        f"# When a slow start has paid for itself\n\n{environments(rows)}\n\n{row['workload']} "
        f"({sizes(row, 'TBIHSZL')}), {row['dtype']}. The first training step of a fresh process, with every build, "
        "compiler and kernel cache empty, and the median of later ones. A start has paid for itself after the step at "
        "which all the time since the process began to train is no longer than that of the *next best*: the fastest of "
        "those whose first step is shorter. From the second process on, batched_cpu finds its build and torch.compile "
        "most of its code in a cache.\n\n"
        f"{markdown(payback_table(rows))}\n\n{unfinished(rows)}Row by row: [payback.csv](payback.csv).\n"
    )
