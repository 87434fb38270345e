"""The payback page: rows of payback.csv as the number of steps after which a slow start has paid for itself."""

import math
from typing import Any

import pandas as pd

from suite.pages.page import Page
from suite.pages.sheets import Sheet
from suite.pages.study_tables import about, latest, unfinished
from suite.shared.cases import BASELINE
from suite.shared.fits import steps_to_pay
from suite.shared.format import count, three


def payback_table(rows: pd.DataFrame) -> Sheet:
    """Return for each implementation the first step, a later one, and when it has overtaken the next best.

    The next best is the fastest of those that start sooner.
    """
    started = rows[(rows["kind"] == "start") & (rows["status"] == "ok") & (rows["implementation"] != BASELINE)]
    lines = [
        {
            "implementation": row["implementation"],
            "layer norm": row["layer_norm"],
            "first step, s": row["first_s"],
            "later step, ms": 1e3 * row["step_s"],
            **_payback(row, group[group["first_s"] < row["first_s"]]),
        }
        for _, group in started.groupby("layer_norm", sort=False)
        for _, row in group.iterrows()
    ]
    figures = ("first step, s", "later step, ms", "gain a step, ms", "seconds by then")
    return Sheet(lines, dict.fromkeys(figures, three) | {"paid after, steps": count})


def _payback(row: pd.Series, sooner: pd.DataFrame) -> dict[str, Any]:
    if sooner.empty:
        return {"next best": "starts first"}
    other = sooner.loc[sooner["step_s"].idxmin()]
    steps = steps_to_pay(row["first_s"], row["step_s"], other["first_s"], other["step_s"])
    return {
        "next best": other["implementation"],
        "gain a step, ms": 1e3 * (other["step_s"] - row["step_s"]),
        "paid after, steps": "never" if steps is None else math.ceil(steps - 1e-6),
        "seconds by then": None if steps is None else row["first_s"] + (steps - 1) * row["step_s"],
    }


PAGE = Page(
    "payback",
    lambda rows: {"about": about(rows.iloc[0]), "table": payback_table(rows), "unfinished": unfinished(rows)},
    latest,
)
