"""Paired rounds: a candidate's and its baseline's follow each other in a turn, so that a drift hits both alike."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

#: Resamples of the bootstrap, and how much of them the interval holds.
RESAMPLES, COVERAGE = 2000, 0.95
#: Rounds of a pass. With fewer than LEAST a bootstrap could not give such an interval: they are all on one side of the
#: median with probability 2 / 2^6, 3 %. From FEWEST on the interval is Student's, of logarithms.
FEWEST, LEAST = 3, 6
#: What Student's t is at most in 95 % of cases, by degrees of freedom.
_STUDENT = {2: 4.303, 3: 3.182, 4: 2.776}
#: A round is called disturbed when its baseline took so many times as long as in the median round.
DISTURBED = 1.5


class Interval(NamedTuple):
    """A ratio and the interval that holds it."""

    ratio: float
    low: float
    high: float


def paired_ratio(candidate: Sequence[float], baseline: Sequence[float]) -> Interval:
    """Median of the rounds' ratios, with a percentile bootstrap interval from seeded resamples.

    With fewer rounds than LEAST it is the interval of Student's t about the mean of their logarithms.

    candidate, baseline: seconds of each round; ValueError unless there is one of each for every round.
    """
    if len(candidate) != len(baseline) or len(candidate) < FEWEST:
        raise ValueError(
            f"rounds: expected as many of each, at least {FEWEST}; got {len(candidate)} and {len(baseline)}"
        )
    ratios = np.asarray(candidate) / np.asarray(baseline)
    if len(ratios) < LEAST:
        logs = np.log(ratios)
        half = _STUDENT[len(logs) - 1] * logs.std(ddof=1) / len(logs) ** 0.5
        return Interval(float(np.median(ratios)), float(np.exp(logs.mean() - half)), float(np.exp(logs.mean() + half)))
    resamples = np.random.default_rng(0).choice(ratios, (RESAMPLES, len(ratios)))
    outside = (1 - COVERAGE) / 2
    low, high = np.quantile(np.median(resamples, axis=1), (outside, 1 - outside))
    return Interval(float(np.median(ratios)), float(low), float(high))


def noise_floor(twin: Interval) -> float:
    """Distance from 1 that a ratio can have by chance, from an A/A run: the baseline against itself."""
    return max(twin.high, 1 / twin.low) - 1


def verdict(interval: Interval, noise: float) -> str:
    """Verdict: faster or slower than the baseline if all of the interval is beyond the noise, else undecided."""
    if interval.high < 1 / (1 + noise):
        return "faster"
    return "slower" if interval.low > 1 + noise else "undecided"


def quartiles(seconds: Sequence[float]) -> dict[str, Any]:
    """Columns about the rounds of a row."""
    q1, median, q3 = map(float, np.quantile(seconds, (0.25, 0.5, 0.75)))
    return {"median_s": median, "q1_s": q1, "q3_s": q3, "rounds": len(seconds)}


def columns(candidate: Sequence[float], baseline: Sequence[float]) -> dict[str, Any]:
    """Columns about the paired rounds of a row."""
    interval = paired_ratio(candidate, baseline)
    usual = float(np.median(baseline))
    return quartiles(candidate) | {
        "baseline_s": usual,
        "ratio": interval.ratio,
        "ratio_low": interval.low,
        "ratio_high": interval.high,
        "disturbed": sum(seconds > DISTURBED * usual for seconds in baseline),
    }
