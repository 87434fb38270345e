"""Paired rounds: each round of a candidate follows one of its baseline, so that a drifting clock hits both alike."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from suite.shared.stopwatch import Stopwatch, Work, warm_up

#: Resamples of the bootstrap, and how much of them the interval holds.
RESAMPLES, COVERAGE = 2000, 0.95
#: Rounds of a pass. With fewer than LEAST a bootstrap could not give such an interval: they are all on one side of the
#: median with probability 2 / 2^6, 3 %. Where a round takes longer than LONG seconds, or the
#: ratio is above FAR and the budget short, there may be as few as FEWEST, and the interval is Student's, of logarithms.
FEWEST, LEAST, MOST, LONG, FAR = 3, 6, 50, 1.0, 10
#: What Student's t is at most in 95 % of cases, by degrees of freedom.
_STUDENT = {2: 4.303, 3: 3.182, 4: 2.776}
#: A round is called disturbed when its baseline took so many times as long as in the median round.
DISTURBED = 1.5


class Interval(NamedTuple):
    """A ratio and the interval that holds it."""

    ratio: float
    low: float
    high: float


def rounds(candidate: float, baseline: float, budget: float) -> int:
    """Return how many rounds to take, of so many seconds on either side, within a budget of seconds where that can be.

    A candidate that takes many times as long as its baseline needs no narrow interval either.
    """
    seconds = candidate + baseline
    few = seconds > LONG or (seconds > budget / LEAST and candidate > FAR * baseline)
    return max(FEWEST if few else LEAST, min(MOST, int(budget / seconds)))


def paired_ratio(candidate: Sequence[float], baseline: Sequence[float]) -> Interval:
    """Return the median of the rounds' ratios, with a percentile bootstrap interval from seeded resamples.

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
    """Return how far from 1 a ratio can be by chance, from an A/A run: the baseline held against itself."""
    return max(twin.high, 1 / twin.low) - 1


def verdict(interval: Interval, noise: float) -> str:
    """Return whether the candidate is faster or slower than its baseline: all of the interval is beyond the noise."""
    if interval.high < 1 / (1 + noise):
        return "faster"
    return "slower" if interval.low > 1 + noise else "undecided"


def quartiles(seconds: Sequence[float]) -> dict[str, Any]:
    """Return what a row says of its rounds."""
    q1, median, q3 = map(float, np.quantile(seconds, (0.25, 0.5, 0.75)))
    return {"median_s": median, "q1_s": q1, "q3_s": q3, "rounds": len(seconds)}


def interleaved(
    watch: Stopwatch, calls: Mapping[str, Work], budget: float, least: int, most: int
) -> dict[str, list[float]]:
    """Return the seconds of calls' rounds by name; the rounds take turns, so that a drift hits all.

    budget: seconds for each call. least, most: rounds.
    """
    seconds = {name: warm_up(watch, call)[-1:] for name, call in calls.items()}
    rounds = {name: max(least, min(most, int(budget / first))) for name, (first,) in seconds.items()}
    for turn in range(1, max(rounds.values(), default=0)):
        for name, call in calls.items():
            if turn < rounds[name]:
                seconds[name].append(watch.seconds(call))
    return seconds


def columns(candidate: Sequence[float], baseline: Sequence[float]) -> dict[str, Any]:
    """Return what a row says of its paired rounds."""
    interval = paired_ratio(candidate, baseline)
    usual = float(np.median(baseline))
    return quartiles(candidate) | {
        "baseline_s": usual,
        "ratio": interval.ratio,
        "ratio_low": interval.low,
        "ratio_high": interval.high,
        "disturbed": sum(seconds > DISTURBED * usual for seconds in baseline),
    }
