"""The share that a row reaches of the limiting rate of the hardware."""

from collections.abc import Mapping
from typing import Any

from suite.results.columns import Row
from suite.results.statistics import FIGURES, Interval
from suite.results.status import Ended, Status

#: No row can multiply more than this share of the rate of products, which other moments may reach than the best one.
MOST = 1.25


def share(row: Mapping[str, Any], ceilings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Columns that compare a row with the ceilings of its dtype; none without figures or ceilings.

    The share is the longer of the times of its multiply-adds and bytes at the ceilings, over the measured time. A row
    that multiplies faster than MOST is refused; it may move bytes faster, which a cache may hold.
    """
    ceiling = ceilings.get(row["dtype"])
    if ceiling is None or row["status"] != Status.OK:
        return {}
    compute = row["multiply_adds"] / ceiling["multiply_adds_per_s"]
    memory = row["least_bytes"] / ceiling["bytes_per_s"]
    if compute > MOST * row["median_s"]:
        rate = f"{compute / row['median_s']:.3g} times the rate of its products"
        return without_figures(Ended(Status.REFUSED, f"faster than this machine multiplies, at {rate}"))
    return {
        "bound": "compute" if compute >= memory else "memory",
        "share": max(compute, memory) / row["median_s"],
    }


def without_figures(why: Ended) -> Row:
    """Columns of a row that has a figure, but none to be believed."""
    of_visits = [f"{name}_visits" for name in FIGURES]
    return why.columns | dict.fromkeys((*FIGURES, *of_visits, *Interval._fields))
