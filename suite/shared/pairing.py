"""Statistics of paired rounds: those of a candidate and its baseline alternate, so that a drift hits both."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from pytest_benchmark.stats import Stats

#: Resamples of the bootstrap, and the share of them in the interval.
RESAMPLES, COVERAGE = 2000, 0.95
#: Rounds of a pass. With fewer than LEAST a bootstrap cannot give such an interval: all are on one side of the median
#: with probability 2 / 2^6, 3 %. From FEWEST on the interval is Student's, of logarithms.
FEWEST, LEAST = 3, 6
#: Quantile of Student's t for a 95 % interval, by degrees of freedom.
_STUDENT = {2: 4.303, 3: 3.182, 4: 2.776}
#: A round is disturbed if its baseline took this multiple of the median.
DISTURBED = 1.5


class Interval(NamedTuple):
    """A ratio and its confidence interval, as the columns of a row."""

    ratio: float
    ratio_low: float
    ratio_high: float


def paired_ratio(candidate: Sequence[float], baseline: Sequence[float]) -> Interval:
    """Median of the ratios of rounds, with a bootstrap interval, or Student's of their logarithms below LEAST rounds.

    candidate, baseline: seconds of each round; ValueError unless there are as many of each.
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
    """Distance from 1 that a ratio can have by chance, from the baseline against itself (A/A run)."""
    return max(twin.ratio_high, 1 / twin.ratio_low) - 1


def verdict(interval: Interval, noise: float) -> str:
    """Faster or slower than the baseline if the whole interval is beyond the noise, else undecided."""
    if interval.ratio_high < 1 / (1 + noise):
        return "faster"
    return "slower" if interval.ratio_low > 1 + noise else "undecided"


def quartiles(seconds: Sequence[float]) -> dict[str, Any]:
    """Columns about the rounds of a row."""
    stats = Stats()
    for each in seconds:
        stats.update(each)
    return {"median_s": stats.median, "q1_s": stats.q1, "q3_s": stats.q3, "rounds": len(seconds)}


def columns(candidate: Sequence[float], baseline: Sequence[float]) -> dict[str, Any]:
    """Columns about the paired rounds of a row."""
    usual = float(np.median(baseline))
    disturbed = sum(seconds > DISTURBED * usual for seconds in baseline)
    ratio = paired_ratio(candidate, baseline)._asdict()
    return quartiles(candidate) | {"baseline_s": usual, "disturbed": disturbed} | ratio
