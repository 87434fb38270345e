"""Times calls in a row: by the clock on a CPU, by events on a GPU, where no call waits for the one before.

A round is several calls of one model. A turn is a round of each model: the baseline and all forms of a candidate.
"""

import math
import random
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from pytest_benchmark.stats import Stats
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from suite.shared.cases import BASELINE, Case
from suite.shared.process import Row

Work = Callable[[], object]
#: [T, B, I], or packed sequences.
Input = Tensor | PackedSequence
#: A pass: (model, x).
Pass = Callable[[nn.Module, Input], None]

#: Two calls agree if neither takes more than AGREE times as long as the other; at most MOST calls are tried.
AGREE, MOST = 2.0, 12
#: The calls of a round take at least BURST seconds, and its time is their mean. A call shorter than WARM runs once
#: untimed before each round, to take caches, memory and sleeping threads back from the other side.
BURST, WARM = 0.02, 0.1
#: Least number of turns in a visit, unless one turn takes more than LONG seconds: then it is the only one.
LEAST, LONG = 2, 0.3


class Stopwatch:
    """Times calls on a CPU, where a call is done when it returns."""

    def seconds(self, work: Work, calls: int = 1) -> float:
        """Mean seconds of calls in a row."""
        start = time.perf_counter()
        for _ in range(calls):
            work()
        return (time.perf_counter() - start) / calls


class DeviceEvents(Stopwatch):
    """Times calls on a GPU, in a row as in a training loop."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def seconds(self, work: Work, calls: int = 1) -> float:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        stream = torch.cuda.current_stream(self.device)  # the current device may be another
        torch.cuda.synchronize(self.device)  # otherwise launches would overlap with what was queued before
        start.record(stream)
        for _ in range(calls):
            work()
        end.record(stream)
        torch.cuda.synchronize(self.device)
        return float(start.elapsed_time(end)) / 1e3 / calls


def stopwatch(device: torch.device) -> Stopwatch:
    return DeviceEvents(device) if device.type == "cuda" else Stopwatch()


def warm_up(watch: Stopwatch, work: Work) -> list[float]:
    """Call until two calls in a row agree, as first calls load and allocate; return the seconds of each call."""
    seconds = [watch.seconds(work), watch.seconds(work)]
    while len(seconds) < MOST and max(seconds[-2:]) > AGREE * min(seconds[-2:]):
        seconds.append(watch.seconds(work))
    return seconds


class Repeats:
    """Rounds of one model, which is warmed up with an input; first_s: seconds of the first call."""

    def __init__(self, watch: Stopwatch, work: Callable[[Input], object], x: Input) -> None:
        self.watch, self.work = watch, work
        seconds = warm_up(watch, partial(work, x))
        self.first_s, once = seconds[0], seconds[-1]
        self.calls = max(1, math.ceil(BURST / once))
        self.warms = once < WARM
        self.round_s = once * (self.calls + self.warms)

    def round(self, x: Input, before: Input) -> float:
        """Time a round; return the mean seconds of a call. before: input of the untimed call."""
        if self.warms:
            self.work(before)
        return self.watch.seconds(partial(self.work, x), self.calls)


class Turns:
    """Rounds of several models in turns, so that a drift of the machine affects all of them.

    sides: by name or case; `columns` needs one named BASELINE. inputs: returns the input of a turn, by its number.
    """

    def __init__(self, sides: Mapping[Any, Repeats], inputs: Callable[[int], Input]) -> None:
        self.sides, self.make = sides, inputs
        self.inputs = [inputs(0)]
        self.rounds = {name: Stats() for name in sides}

    def take(self, budget: float) -> None:
        """Take turns for a budget of seconds: at least LEAST, but one if it takes longer than LONG."""
        turn_s = sum(side.round_s for side in self.sides.values())
        for _ in range(1 if turn_s > LONG else max(LEAST, int(budget / turn_s))):
            self.inputs.append(self.make(len(self.inputs)))
            before, x = self.inputs[-2:]
            names = list(self.sides)
            for name in names if random.random() < 0.5 else names[::-1]:
                self.rounds[name].update(self.sides[name].round(x, before))

    def columns(self, case: Case) -> Row:
        """Columns of times, for a form."""
        mine, theirs = self.rounds[case], self.rounds[BASELINE]
        return {"median_s": mine.median, "baseline_s": theirs.median, "ratio": ratio(mine, theirs)}


def ratio(mine: Stats, theirs: Stats) -> float:
    """Median ratio of rounds that took turns."""
    return float(np.median(np.divide(mine.data, theirs.data)))
