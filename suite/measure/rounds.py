"""Rounds: how many a pass has, and rounds of several calls that take turns."""

from collections.abc import Mapping

from suite.measure.stopwatch import Stopwatch, Work, warm_up
from suite.shared.pairing import FEWEST, LEAST

#: The most rounds of a pass. Where a round takes longer than LONG seconds, or the ratio is above FAR and the budget
#: short, there may be as few as FEWEST.
MOST, LONG, FAR = 50, 1.0, 10


def rounds(candidate: float, baseline: float, budget: float) -> int:
    """Return how many rounds to take, of so many seconds on either side, within a budget of seconds where that can be.

    A candidate that takes many times as long as its baseline needs no narrow interval either.
    """
    seconds = candidate + baseline
    few = seconds > LONG or (seconds > budget / LEAST and candidate > FAR * baseline)
    return max(FEWEST if few else LEAST, min(MOST, int(budget / seconds)))


def interleaved(
    watch: Stopwatch, calls: Mapping[str, Work], budget: float, least: int, most: int, warm: float = 0.0
) -> dict[str, list[float]]:
    """Return the seconds of calls' rounds by name; the rounds take turns, so that a drift hits all.

    budget: seconds for each call. least, most: rounds. warm: what takes fewer seconds is called once untimed before
    each round, so that caches and threads are its own.
    """
    seconds = {name: warm_up(watch, call)[-1:] for name, call in calls.items()}
    rounds = {name: max(least, min(most, int(budget / first))) for name, (first,) in seconds.items()}
    for turn in range(1, max(rounds.values(), default=0)):
        for name, call in calls.items():
            if turn < rounds[name]:
                if seconds[name][0] < warm:
                    call()
                seconds[name].append(watch.seconds(call))
    return seconds
