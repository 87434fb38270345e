"""Statistics of visits to fresh processes: a figure is the median of the visits', its interval is taken between them.

A visit times a candidate and its baseline in turns, so that drift affects both.
"""

from collections import ChainMap, defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from suite.results.status import Ended
from suite.results.tables import TABLES, Row

#: Share of runs whose interval has the ratio, and the fewest visits that give an interval.
COVERAGE, FEWEST = 0.95, 3
#: A machine has two states if each visit in one takes more than APART times as long as in the other.
APART = 1.3
#: Degrees of freedom that the pooled variance of a run counts as.
PRIOR_DOF = 4
#: Figures of a visit. Each has a further column with that of every visit, such as `ratio_visits`.
FIGURES = ("median_s", "baseline_s", "ratio")


class Interval(NamedTuple):
    """A ratio and its confidence interval."""

    ratio: float
    ratio_low: float
    ratio_high: float


def interval(row: Any) -> Interval:
    """The ratio of a row (a mapping or a series), and its interval, NaN where there were too few visits."""
    return Interval(*(row.get(column, float("nan")) for column in Interval._fields))


def quotient(one: Interval, other: Interval) -> Interval:
    """Quotient of two ratios that were measured apart, with its interval, NaN if one of them has none."""
    ratio = one.ratio / other.ratio
    down = np.hypot(np.log(one.ratio / one.ratio_low), np.log(other.ratio_high / other.ratio))
    up = np.hypot(np.log(one.ratio_high / one.ratio), np.log(other.ratio / other.ratio_low))
    return Interval(ratio, float(ratio * np.exp(-down)), float(ratio * np.exp(up)))


def between(ratios: Sequence[float], pooled: float = float("nan"), coverage: float = COVERAGE) -> Interval:
    """Median of the visits' ratios, with Student's interval of their logarithms, which is NaN for fewer than FEWEST.

    pooled: the run's `pooled_variance`, toward which the variance of these visits is shrunk: a few visits may all have
    met one state of the host, but the visits of all rows met several.
    """
    middle, n = float(np.median(ratios)), len(ratios)
    if n < FEWEST:
        return Interval(middle, float("nan"), float("nan"))
    logs, freedom = np.log(ratios), n - 1
    spread = float(logs.var(ddof=1))
    if pooled == pooled:
        spread, freedom = (freedom * spread + PRIOR_DOF * pooled) / (freedom + PRIOR_DOF), freedom + PRIOR_DOF
    half = student(freedom, coverage) * (spread / n) ** 0.5
    low, high = (float(np.exp(logs.mean() + side * half)) for side in (-1, 1))
    return Interval(middle, min(low, middle), max(high, middle))


def pooled_variance(rows: Iterable[Sequence[float]]) -> float:
    """Variance of the logarithms between visits, the median over the rows of a run; NaN without any."""
    several = [np.log(ratios) for ratios in rows if len(ratios) >= FEWEST]
    # A sample variance is skewed: the divisor is its median as a share of the true variance (Wilson and Hilferty).
    variances = [logs.var(ddof=1) / (1 - 2 / (9 * (len(logs) - 1))) ** 3 for logs in several]
    return float(np.median(variances)) if variances else float("nan")


def summarised(visits: Iterable[Sequence[Row]]) -> list[Row]:
    """Rows of a run's visits, one for each key of the benchmark, with medians, and intervals of the ratios."""
    groups = defaultdict[tuple[str, ...], list[Row]](list)
    for row in chain.from_iterable(visits):
        groups[tuple(str(row.get(column)) for column in TABLES["bench"].key)].append(row)
    result = list(map(_summary, groups.values()))
    ratios: list[Sequence[float]] = [row.get("ratio_visits", ()) for row in result]
    pooled = pooled_variance(ratios)
    for row, each in zip(result, ratios, strict=True):
        if each:
            _, row["ratio_low"], row["ratio_high"] = between(each, pooled)
    return result


def _summary(rows: Sequence[Row]) -> Row:
    """Row with the medians of the visits' figures, how the last one ended, and the first one's other columns."""
    summary = {**ChainMap(*rows), **Ended.of(rows[-1]).columns}
    for name in FIGURES:
        if figures := [row[name] for row in rows if row.get(name) is not None]:
            summary |= {name: float(np.median(figures)), "visits": len(figures)}
            summary[f"{name}_visits"] = tuple(figures)
    return summary


def two_states(seconds: Sequence[float]) -> tuple[list[float], list[float]] | None:
    """The visits of two states of a machine, the fast ones first; None if it had one state or more than two.

    A state has at least two visits, which differ less from one another than the states do.
    """
    ordered = sorted(seconds)
    for n in range(2, len(ordered) - 1):
        fast, slow = ordered[:n], ordered[n:]
        apart, within = slow[0] / fast[-1], max(fast[-1] / fast[0], slow[-1] / slow[0])
        if apart > max(APART, within):
            return fast, slow
    return None


@cache
def student(freedom: int, coverage: float) -> float:
    """Quantile t of Student's distribution, which has this share between -t and t."""
    # With t = tan(a) sqrt(freedom), the density of a is a power of its cosine.
    angles = np.linspace(0, np.pi / 2, 200_001)
    density = np.cos(angles) ** (freedom - 1)
    share = np.cumsum(density) / density.sum()
    return float(np.tan(np.interp(coverage, share, angles)) * freedom**0.5)
