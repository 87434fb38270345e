"""Which rows are believed: none that is faster than the hardware, or beside which the baseline was slow."""

from collections.abc import Mapping, Sequence

from suite.candidates import submission
from suite.candidates.names import BASELINE
from suite.results.columns import SETTING, Row
from suite.results.statistics import FEWEST, FIGURES, Interval
from suite.results.status import Ended, Status

#: No row can multiply more than this share of the rate of products, which other moments may reach than the best one.
MOST = 1.25
#: Times as long as alone that the baseline may take beside a file.
SLOWED = 1.5


def believed(rows: Sequence[Row], ceilings: Mapping[str, Row]) -> list[Row]:
    """Rows with their shares of the ceilings of their dtypes; those that are not believed are refused."""
    where = (*SETTING, "pass")
    alone = {tuple(row[column] for column in where): row for row in rows if row["implementation"] == BASELINE}
    result = []
    for row in rows:
        columns, reason = share(row, ceilings)
        if row["implementation"] in submission.files():
            reason = reason or _baseline_slowed(row, alone.get(tuple(row[column] for column in where), {}))
        if reason:
            of_visits = [f"{name}_visits" for name in FIGURES]
            columns = Ended(Status.REFUSED, reason).columns
            columns |= dict.fromkeys((*FIGURES, *of_visits, *Interval._fields))
        result.append(row | columns)
    return result


def share(row: Row, ceilings: Mapping[str, Row]) -> tuple[Row, str]:
    """Columns that compare a row with the ceilings of its dtype, none without figures or ceilings; and why not, or "".

    The share is the longer of the times of its multiply-adds and bytes at the ceilings, over the measured time. No row
    multiplies faster than MOST; it may move bytes faster, which a cache may hold.
    """
    ceiling = ceilings.get(row["dtype"])
    if ceiling is None or row["status"] != Status.OK:
        return {}, ""
    compute = row["multiply_adds"] / ceiling["multiply_adds_per_s"]
    memory = row["least_bytes"] / ceiling["bytes_per_s"]
    if compute > MOST * row["median_s"]:
        rate = f"{compute / row['median_s']:.3g} times the rate of its products"
        return {}, f"faster than this machine multiplies, at {rate}"
    bound = "compute" if compute >= memory else "memory"
    return {"bound": bound, "share": max(compute, memory) / row["median_s"]}, ""


def _baseline_slowed(row: Row, alone: Row) -> str:
    """Sentence that says that the baseline of a row took longer than beside itself; "" if not, or of few visits."""
    if min(row.get("visits") or 0, alone.get("visits") or 0) < FEWEST:
        return ""
    slower = row["baseline_s"] / alone["median_s"]
    if slower <= SLOWED:
        return ""
    return f"beside it {BASELINE} takes {slower:.2g} times as long as beside itself"
