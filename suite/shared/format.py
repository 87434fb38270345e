"""How figures and names are written, in every table and plot."""

import math
from typing import Any

import pandas as pd

from suite.shared.pairing import Interval
from suite.shared.provenance import stale

#: What a page says of where its rows were made.
ENVIRONMENT = ("device", "processor", "cpu_capability", "threads", "torch", "python")

#: What stands where there is no figure.
NONE = "-"
MB = 1e6
#: The columns that tell the lines of a study's plots apart.
GROUP = ["workload", "dtype", "layer_norm", "implementation"]


def three(value: float) -> str:
    """Return three digits of a figure, or all of its whole part, with thousands apart."""
    return f"{value:#.3g}" if 0 < abs(value) < 99.95 else count(value)


def count(value: float) -> str:
    """Return a whole number, with thousands apart."""
    return f"{value:,.0f}"


def two(ratio: float) -> str:
    """Return a ratio with two decimals, or three where two would say little, or one where two would say too much."""
    if ratio >= 10:
        return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.1f}"
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.3f}"


def millions(number: float) -> str:
    """Return a number in millions, with two decimals."""
    return f"{number / 1e6:.2f}"


def percent(share: float) -> str:
    """Return a share in per cent, small ones with a decimal."""
    return f"{share:.0%}" if abs(share) >= 0.1 else f"{share:.1%}"


def ranged(interval: Interval) -> str:
    """Return a ratio, with its interval if it has one."""
    if math.isnan(interval.low):
        return two(interval.ratio)
    return f"{two(interval.ratio)} ({two(interval.low)}-{two(interval.high)})"


def label(implementation: str, layer_norm: str) -> str:
    """Return how a line of a plot is called."""
    return f"{implementation}, norm" if layer_norm == "on" else implementation


def sizes(row: pd.Series, dims: str) -> str:
    """Return the sizes of a row in words."""
    return ", ".join(f"{n} {row[n]:.0f}" for n in dims)


def status(row: Any) -> str:
    """Return the first words of why a row has no figures."""
    return NONE if row is None else str(row["status"]).split(":")[0]


def made_on(rows: pd.DataFrame, rests_on: str = "") -> str:
    """Say where and when rows were made, in a line for each environment among them, and which rest on other sources.

    rests_on: whose sources rows without a column `implementation` rest on.
    """
    lines = [
        "Made on {processor} ({device}, {cpu_capability}, {threads} CPU threads), {dates}, torch {torch}, "
        "Python {python}, commit {commits}.".format_map(
            here.iloc[0].to_dict()
            | {
                "dates": " to ".join(dict.fromkeys([min(here["date"]), max(here["date"])])),
                "commits": " and ".join(f"`{commit}`" for commit in here["commit"].unique()),
            }
        )
        for _, here in rows.groupby(list(ENVIRONMENT), sort=False, dropna=False)
    ]
    old = rows[stale(rows, rests_on)]
    if len(old):
        names = old["implementation"].str.split(",").str[0].unique() if "implementation" in rows else ()
        whose = f": those of {', '.join(names)}" if len(names) else ""
        lines.append(f"**Stale**: {len(old)} of {len(rows)} rows are of other sources{whose}.")
    return "\n".join(lines)
