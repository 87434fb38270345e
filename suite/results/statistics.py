"""Statistics of visits to fresh processes: a figure is the median of the visits', its interval is taken between them.

A visit times a candidate and its baseline in turns, so that drift affects both.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch

from suite.results.columns import Row, key_of
from suite.results.status import Ended

#: Share of runs whose interval has the ratio, and the fewest visits that give an interval.
COVERAGE, FEWEST = 0.95, 3
#: What Student's quantile is taken of for a run's rows, so that COVERAGE holds: visits end when an interval is narrow
#: enough, and those that are narrow by chance end first (measured by the simulation in measure/test_runner.py).
STOPPED_COVERAGE = 0.965
#: A machine has two states if each visit in one takes more than APART times as long as in the other.
APART = 1.3
#: Fewest degrees of freedom that the pooled variance of a run counts as.
LEAST_FREEDOM = 0.1
#: Figures of a visit. Each has a further column with that of every visit, such as `ratio_visits`.
FIGURES = ("median_s", "baseline_s", "ratio")


class Interval(NamedTuple):
    """A ratio and its confidence interval."""

    ratio: float
    ratio_low: float
    ratio_high: float


def interval(row: Any) -> Interval:
    """The ratio of a row (a mapping or a series), and its interval, NaN where there were too few visits."""
    values = [row.get(column, float("nan")) for column in Interval._fields]
    return Interval(*values)


def quotient(dividend: Interval, divisor: Interval) -> Interval:
    """Quotient of two ratios that were measured apart, with its interval, NaN if one of them has none."""
    ratio = dividend.ratio / divisor.ratio
    dividend_down = np.log(dividend.ratio / dividend.ratio_low)
    dividend_up = np.log(dividend.ratio_high / dividend.ratio)
    divisor_down = np.log(divisor.ratio / divisor.ratio_low)
    divisor_up = np.log(divisor.ratio_high / divisor.ratio)
    low = ratio * np.exp(-np.hypot(dividend_down, divisor_up))
    high = ratio * np.exp(np.hypot(dividend_up, divisor_down))
    return Interval(ratio, float(low), float(high))


def between(ratios: Sequence[float], pooled: tuple[float, float] | None = None, coverage: float = COVERAGE) -> Interval:
    """Median of the visits' ratios, with Student's interval of their logarithms, which is NaN for fewer than FEWEST.

    pooled: of `pooled_variance`, toward which the variance of these visits is shrunk: a few visits may all have met one
    state of the host, but the visits of all rows met several.
    """
    middle = float(np.median(ratios))
    n = len(ratios)
    if n < FEWEST:
        return Interval(middle, float("nan"), float("nan"))
    logs = np.log(ratios)
    variance = float(logs.var(ddof=1))
    freedom = float(n - 1)
    if pooled is not None:
        pooled_variance, pooled_freedom = pooled
        squares = freedom * variance + pooled_freedom * pooled_variance
        freedom += pooled_freedom
        variance = squares / freedom
    half = student(freedom, coverage) * (variance / n) ** 0.5
    low = float(np.exp(logs.mean() - half))
    high = float(np.exp(logs.mean() + half))
    return Interval(middle, min(low, middle), max(high, middle))


def pooled_variance(rows: Iterable[Sequence[float]]) -> tuple[float, float] | None:
    """Variance of the logarithms between visits by all rows of a run, and the degrees of freedom that it counts as.

    None if fewer than two rows tell it.

    The variances of rows are taken as draws from a scaled inverse chi-square distribution, whose scale and degrees of
    freedom follow from the mean and the variance of their logarithms (Smyth 2004, Linear models and empirical Bayes
    methods, section 6.2). The more the rows differ, the fewer degrees of freedom, and the less a row is shrunk.
    """
    # Visits that all agree have no logarithm of their variance; figures of a clock do not.
    logs = [np.log(ratios) for ratios in rows if len(ratios) >= FEWEST and min(ratios) < max(ratios)]
    if len(logs) < 2:
        return None
    freedoms = np.array([len(of_row) - 1 for of_row in logs])
    variances = np.array([of_row.var(ddof=1) for of_row in logs])
    levels = np.log(variances) - _mean_logarithm(freedoms)
    spread = levels.var(ddof=1) - _trigamma(freedoms / 2).mean()
    # As many as all rows have together, where they differ no more than samples of one variance would.
    possible = np.geomspace(LEAST_FREEDOM, freedoms.sum(), 1000)
    freedom = float(np.interp(spread, _trigamma(possible / 2)[::-1], possible[::-1]))
    variance = np.exp(levels.mean() + _mean_logarithm(np.array(freedom)))
    return float(variance), freedom


def _mean_logarithm(freedom: np.ndarray) -> np.ndarray:
    """Mean of the logarithm of a sample variance with these degrees of freedom, where the variance is 1."""
    digamma: np.ndarray = torch.special.digamma(torch.as_tensor(freedom / 2)).numpy()
    return np.asarray(digamma - np.log(freedom / 2))


def _trigamma(x: np.ndarray) -> np.ndarray:
    return np.asarray(torch.special.polygamma(1, torch.as_tensor(x)))


def summarised(rows: Iterable[Row], every: Iterable[Row] = ()) -> list[Row]:
    """Rows of the visits of a run, one for each key of the benchmark, with medians, and intervals of the ratios.

    rows: of the visits that count. every: of all visits, from which comes what no visit that counts has measured.
    """
    counting, of_every = _by_key(rows), _by_key(every)
    result = [_summary(of_key, of_every[key]) for key, of_key in counting.items()]
    ratios: list[Sequence[float]] = [row.get("ratio_visits", ()) for row in result]
    pooled = pooled_variance(ratios)
    for row, of_visits in zip(result, ratios, strict=True):
        if of_visits:
            _, row["ratio_low"], row["ratio_high"] = between(of_visits, pooled, STOPPED_COVERAGE)
    return result


def _by_key(rows: Iterable[Row]) -> defaultdict[tuple[Any, ...], list[Row]]:
    groups = defaultdict[tuple[Any, ...], list[Row]](list)
    for row in rows:
        groups[key_of(row)].append(row)
    return groups


def _summary(rows: Sequence[Row], every: Sequence[Row]) -> Row:
    """Row with the medians of the visits' figures, how the last one ended, and the first values of other columns."""
    summary: Row = {}
    for row in reversed([*rows, *every]):
        summary |= row
    summary |= Ended.of(rows[-1]).columns
    for name in FIGURES:
        figures = [row[name] for row in rows if row.get(name) is not None]
        if figures:
            summary[name] = float(np.median(figures))
            summary["visits"] = len(figures)
            summary[f"{name}_visits"] = tuple(figures)
    return summary


def two_states(seconds: Sequence[float]) -> tuple[list[float], list[float]] | None:
    """The visits of two states of a machine, the fast ones first; None if it had one state or more than two.

    A state has at least two visits, which differ less from one another than the states do.
    """
    ordered = sorted(seconds)
    for n in range(2, len(ordered) - 1):
        fast = ordered[:n]
        slow = ordered[n:]
        apart = slow[0] / fast[-1]
        within = max(fast[-1] / fast[0], slow[-1] / slow[0])
        if apart > max(APART, within):
            return fast, slow
    return None


@cache
def student(freedom: float, coverage: float) -> float:
    """Quantile t of Student's distribution, which has this share between -t and t."""
    # With t = tan(a) sqrt(freedom), the density of a is a power of its cosine.
    angles = np.linspace(0, np.pi / 2, 200_001)
    density = np.cos(angles) ** (freedom - 1)
    share = np.cumsum(density) / density.sum()
    return float(np.tan(np.interp(coverage, share, angles)) * freedom**0.5)
