"""Times calls: by the clock on a CPU; on a GPU by events on the device, which is idle and has an emptied cache.

A round is some calls of one model, a turn a round of the baseline and then one of each form of a candidate.
"""

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from suite.shared.cases import Case
from suite.shared.process import Row

Work = Callable[[], object]
#: [T, B, I], or packed sequences.
Input = Tensor | PackedSequence
#: A pass: (model, x).
Pass = Callable[[nn.Module, Input], None]

#: Two calls agree if neither takes more than AGREE times as long as the other; at most MOST calls are tried.
AGREE, MOST = 2.0, 12
#: A round has as many calls as take BURST seconds, so that the time of a shorter call is a mean. What takes less than
#: WARM runs once untimed before each round, to take caches, memory and sleeping threads back from the other side.
BURST, WARM = 0.02, 0.1
#: Least number of turns of a pass in a visit, unless one takes more seconds than LONG: then it is the only one.
LEAST, LONG = 2, 0.3
#: A round is disturbed if its baseline took this multiple of the median, and throttled if the clock after it is below
#: this share of the fastest clock read.
DISTURBED, THROTTLED = 1.5, 0.9


class Stopwatch:
    """Times calls on a CPU, where a call is done when it returns."""

    def seconds(self, work: Work) -> float:
        """Seconds of a call."""
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    def in_a_loop(self, work: Work, calls: int) -> float | None:
        """Seconds of a call when the next does not wait for it; None if a call is done when it returns."""
        return None

    def clock(self) -> int | None:
        """Clock of the processor in MHz; None if it cannot be read, as a CPU's that differs by core."""
        return None


class DeviceEvents(Stopwatch):
    """Times calls on a GPU."""

    def __init__(self, device: torch.device, flush: Tensor | None = None) -> None:
        """flush: the buffer that empties the second-level cache, by default twice as large as it."""
        self.device = device
        if flush is None:
            size = 2 * torch.cuda.get_device_properties(device).L2_cache_size
            flush = torch.empty(size, dtype=torch.uint8, device=device)
        self.flush = flush

    def seconds(self, work: Work) -> float:
        self.flush.zero_()
        return self._between_events(work)

    def in_a_loop(self, work: Work, calls: int) -> float:
        """Mean seconds of calls in a row, none of which waits for the one before, as in a training loop."""
        return self._between_events(work, calls) / calls

    def _between_events(self, work: Work, calls: int = 1) -> float:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        stream = torch.cuda.current_stream(self.device)  # the current device may be another
        torch.cuda.synchronize(self.device)  # otherwise launches would overlap with what was queued before
        start.record(stream)
        for _ in range(calls):
            work()
        end.record(stream)
        torch.cuda.synchronize(self.device)
        return float(start.elapsed_time(end)) / 1e3

    def clock(self) -> int | None:
        """Clock of the multiprocessors in MHz; None if it cannot be read."""
        try:
            return torch.cuda.clock_rate(self.device)
        # Its module is missing, or NVML refuses, as it does in containers and on virtual GPUs; NVML's own errors derive
        # from Exception only.
        except Exception:
            return None


def stopwatch(device: torch.device) -> Stopwatch:
    return DeviceEvents(device) if device.type == "cuda" else Stopwatch()


def warm_up(watch: Stopwatch, work: Work, compiles: bool = False) -> list[float]:
    """Call until two calls in a row agree, as first calls load and allocate; return the seconds of each.

    One call is enough if it took longer than WARM, unless the first one compiles.
    """
    seconds = [watch.seconds(work)]
    if seconds[0] > WARM and not compiles:
        return seconds
    while len(seconds) < MOST and (len(seconds) < 2 or max(seconds[-2:]) > AGREE * min(seconds[-2:])):
        seconds.append(watch.seconds(work))
    return seconds


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


def turns_in(budget: float, *sides: Repeats) -> int:
    """Number of turns that take a budget of seconds: at least LEAST, but one if it takes longer than LONG."""
    turn_s = sum(side.round_s for side in sides)
    return 1 if turn_s > LONG else max(LEAST, int(budget / turn_s))


class Batch(NamedTuple):
    """Input of a turn, and the case with the lengths of its sequences."""

    case: Case
    x: Input


class Turns:
    """Turns of a candidate in one pass.

    forms: by case, without layer norm and with it. batch: makes the batch of a turn, given its number.
    """

    def __init__(self, baseline: Repeats, forms: Mapping[Case, Repeats], batch: Callable[[int], Batch]) -> None:
        self.baseline, self.forms, self.batch = baseline, forms, batch
        self.batches = [batch(0)]
        self.baseline_s: list[float] = []
        self.seconds: dict[Case, list[float]] = {case: [] for case in forms}
        self.clocks = [baseline.watch.clock()]

    def take(self, budget: float) -> None:
        """Take turns; budget: see `turns_in`."""
        for _ in range(turns_in(budget, self.baseline, *self.forms.values())):
            self.batches.append(self.batch(len(self.batches)))
            before, x = (batch.x for batch in self.batches[-2:])
            sides = [
                (self.baseline, self.baseline_s),
                *((side, self.seconds[case]) for case, side in self.forms.items()),
            ]
            for side, seconds in sides if random.random() < 0.5 else sides[::-1]:
                seconds.append(side.round(x, before=[before]))
            self.clocks.append(self.baseline.watch.clock())

    def in_a_loop(self, side: Repeats) -> float | None:
        """Seconds of a call among others that do not wait for it, see `Stopwatch.in_a_loop`."""
        inputs = cycle(batch.x for batch in self.batches[1:])
        return side.watch.in_a_loop(lambda: side.work(next(inputs)), 2 * side.calls + 1)

    @property
    def typical(self) -> Case:
        """Case with the median number of tokens, which the median time is about."""
        of_rounds = sorted((batch.case for batch in self.batches[1:]), key=lambda case: case.tokens)
        return of_rounds[(len(of_rounds) - 1) // 2]

    def columns(self, case: Case) -> Row:
        """Columns of a form that its rounds give."""
        mine, theirs = self.seconds[case], self.baseline_s
        usual = float(np.median(theirs))
        row = {"median_s": float(np.median(mine)), "baseline_s": usual, "ratio": ratio(mine, theirs)}
        row |= {"rounds": len(theirs), "disturbed": sum(each > DISTURBED * usual for each in theirs)}
        loops = self.in_a_loop(self.forms[case]), self.in_a_loop(self.baseline)
        if loops[0] is not None and loops[1] is not None:
            row |= {"loop_s": loops[0], "loop_ratio": loops[0] / loops[1]}
        return row | clock_columns(self.clocks)


def ratio(mine: Sequence[float], theirs: Sequence[float]) -> float:
    """Median ratio of rounds that took turns."""
    return float(np.median(np.asarray(mine) / np.asarray(theirs)))


def interleaved(step: Pass, models: Mapping[str, Any], x: Input, budget: float) -> dict[str, list[float]]:
    """Time rounds of several models in turns, so that a drift hits all; return the seconds of a call, by name.

    budget: see `turns_in`.
    """
    watch = stopwatch(x.data.device)
    calls = {name: partial(step, model, x) for name, model in models.items()}
    sides = {name: Repeats(watch, call, warm_up(watch, call)[-1]) for name, call in calls.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(turns_in(budget, *sides.values())):
        for name, side in sides.items():
            seconds[name].append(side.round())
    return seconds


def clock_columns(clocks: Sequence[int | None]) -> Row:
    """Columns about clocks, read before the first round and after each."""
    known = [clock for clock in clocks if clock is not None]
    if len(known) < len(clocks):
        return {"clock_before_mhz": "unknown", "clock_after_mhz": "unknown", "throttled": "unknown"}
    throttled = sum(clock < THROTTLED * max(known) for clock in known[1:])
    return {"clock_before_mhz": known[0], "clock_after_mhz": known[-1], "throttled": throttled}
