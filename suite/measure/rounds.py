"""Rounds and turns: how often calls are repeated, and which row of the benchmark gets the next rounds."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import cycle
from typing import Any, NamedTuple

from suite.measure.jobs import Job
from suite.measure.stopwatch import Stopwatch, clock_columns, stopwatch, warm_up
from suite.measure.work import Input, Pass
from suite.shared import pairing
from suite.shared.cases import BASELINE, Case
from suite.shared.pairing import FEWEST, LEAST

#: A round has as many calls as take BURST seconds, so that the time of a shorter call is a mean. What takes less than
#: WARM runs once untimed before each round, to take caches, memory and sleeping threads back from the other side.
BURST, WARM = 0.02, 0.1
#: Seconds of the first rounds of a row that the answer rests on, by kind of device; they are LEAST or more unless one
#: takes longer than LONG. The A/A run, whose interval is the noise floor of all others, has AA times as long.
FIRST, AA, LONG = {"cpu": 0.8, "cuda": 0.4}, 2, 1.0
#: No row has more rounds.
MOST = 50
#: An interval that is no wider, as a share of the ratio, needs no more rounds.
NARROW = 0.01


class Batch(NamedTuple):
    """Input of a turn, and the case with the lengths of its sequences."""

    case: Case
    x: Input


class Repeats:
    """Rounds of one model; once: seconds of a call."""

    def __init__(self, watch: Stopwatch, work: Callable[..., object], once: float) -> None:
        self.watch, self.work = watch, work
        self.calls = max(1, math.ceil(BURST / once))
        self.warms = once < WARM
        self.round_s = once * (self.calls + self.warms)

    def round(self, *x: Input, before: Sequence[Input] = ()) -> float:
        """Time a round; return the mean seconds of its calls. before: input of the untimed call."""
        if self.warms:
            self.work(*before)
        return sum(self.watch.seconds(partial(self.work, *x)) for _ in range(self.calls)) / self.calls


class Turns:
    """Rounds of a candidate in one pass: a turn is one round of the baseline and then one of each form.

    forms: by case, without layer norm and with it. batch: makes the batch of a turn, given its number.
    """

    def __init__(self, baseline: Repeats, forms: Mapping[Case, Repeats], batch: Callable[[int], Batch]) -> None:
        self.baseline, self.forms, self.batch = baseline, forms, batch
        self.batches = [batch(0)]
        self.baseline_s: list[float] = []
        self.seconds: dict[Case, list[float]] = {case: [] for case in forms}
        self.clocks = [baseline.watch.clock()]
        self.turn_s = sum(side.round_s for side in (baseline, *forms.values()))
        self.gain = 0.0

    def turn(self) -> None:
        self.batches.append(self.batch(len(self.batches)))
        before, x = (batch.x for batch in self.batches[-2:])
        self.baseline_s.append(self.baseline.round(x, before=[before]))
        for case, form in self.forms.items():
            self.seconds[case].append(form.round(x, before=[before]))
        self.clocks.append(self.baseline.watch.clock())
        self.gain = self._gain()

    def _gain(self) -> float:
        """How much one more turn would narrow the intervals, per second: over n rounds they shrink as 1 / sqrt(n)."""
        n = len(self.baseline_s)
        if not FEWEST <= n < MOST:
            return 0.0
        found = (pairing.paired_ratio(seconds, self.baseline_s) for seconds in self.seconds.values())
        widths = [math.log(interval.ratio_high / interval.ratio_low) for interval in found]
        return sum(width for width in widths if width > NARROW) * (1 - math.sqrt(n / (n + 1))) / self.turn_s

    def in_a_loop(self, side: Repeats) -> float | None:
        """Seconds of a call among others that do not wait for it, see `Stopwatch.in_a_loop`."""
        inputs = cycle(batch.x for batch in self.batches[1:])
        return side.watch.in_a_loop(lambda: side.work(next(inputs)), 2 * side.calls + 1)

    @property
    def typical(self) -> Case:
        """Case with the median number of tokens, which the median time is about."""
        of_rounds = sorted((batch.case for batch in self.batches[1:]), key=lambda case: case.tokens)
        return of_rounds[(len(of_rounds) - 1) // 2]

    def columns(self, case: Case) -> dict[str, Any]:
        """Columns of a row that its rounds give."""
        return pairing.columns(self.seconds[case], self.baseline_s) | clock_columns(self.clocks)


def fewest(job: Job, slowest: float, baseline: float) -> int:
    """Number of first rounds of a pass; slowest, baseline: seconds of a round of the slowest form and the baseline."""
    if not job.answer:
        return FEWEST
    together = slowest + baseline
    seconds = FIRST[job.device.type] * (AA if job.candidate == BASELINE else 1)
    return max(FEWEST if together > LONG else LEAST, min(MOST, int(seconds / together)))


def spend(every: Sequence[Turns], left: Callable[[], float]) -> None:
    """Spend the seconds that are left on turns: each where it narrows intervals most per second."""
    while affordable := [turns for turns in every if turns.gain > 0 and turns.turn_s <= left()]:
        max(affordable, key=lambda turns: turns.gain).turn()


def interleaved(
    step: Pass, models: Mapping[str, Any], x: Input, budget: float, least: int, most: int
) -> dict[str, list[float]]:
    """Time rounds of a pass of several models in turns, so that a drift hits all; return seconds of a call, by name.

    budget: seconds for each model. least, most: rounds.
    """
    watch = stopwatch(x.data.device)
    calls = {name: partial(step, model, x) for name, model in models.items()}
    sides = {name: Repeats(watch, call, warm_up(watch, call)[-1]) for name, call in calls.items()}
    rounds = {name: max(least, min(most, int(budget / side.round_s))) for name, side in sides.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(max(rounds.values(), default=0)):
        for name, side in sides.items():
            if turn < rounds[name]:
                seconds[name].append(side.round())
    return seconds
