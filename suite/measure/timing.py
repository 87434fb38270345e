"""Times calls in a row by the wall, on a GPU until everything that was queued is done.

A round is several calls of one model, each with an input of its own. A turn is a round of each model: the baseline and
all forms of a candidate. One timed call of each model is drawn at random, and what it got and gave is noted.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from time import perf_counter, sleep
from typing import Any

import numpy as np
import torch
from pytest_benchmark.stats import Stats
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from suite.candidates.names import BASELINE
from suite.comparison.tolerance import bits
from suite.measure.job import RefusedError
from suite.measure.step import CHANCE, Input, Step, Tensors
from suite.shared.devices import DeviceType

Work = Callable[[], object]

#: Variables with which glibc keeps memory that is freed, as torch's allocator of a GPU does: no block has a mapping of
#: its own, and the heap does not shrink. Else the layout of the heap decides whether each training step gives memory
#: back and faults it in again: one of two equal models then took 1.5 times as long. `hyperlstm_start` of batched_cpu
#: raises the threshold of the heap for a process that loads it; these do it for all that is timed.
KEEP = {"MALLOC_MMAP_MAX_": 0, "MALLOC_TRIM_THRESHOLD_": 1 << 34, "MALLOC_TOP_PAD_": 1 << 26}
#: Two calls agree if neither takes more than AGREE times as long as the other; at most MOST calls are tried.
AGREE, MOST = 2.0, 12
#: The calls of a round take at least BURST seconds, and its time is their mean. A call shorter than WARM runs once
#: untimed before each round, to take caches, memory and sleeping threads back from the other side.
BURST, WARM = 0.02, 0.1
#: Least number of turns in a visit, unless one turn takes more than LONG seconds: then it is the only one.
LEAST, LONG = 2, 0.3
#: What takes SLOW times as long as the baseline is known well enough with few visits of BRIEF seconds of turns; with
#: fewer turns, a file that replays its results would not be seen.
SLOW, BRIEF = 3.0, 0.2
#: Seconds after the last round in which results must not change.
STILL = 0.05


def seconds_of(work: Work, device: torch.device) -> float:
    """Seconds of the wall until the work is done, on a GPU on all its streams."""
    _wait(device)  # otherwise it would overlap with what was queued before
    start = perf_counter()
    work()
    _wait(device)
    return perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == DeviceType.CUDA:
        torch.cuda.synchronize(device)


def generator_of(device: torch.device) -> torch.Generator:
    """The generator of a device that dropout draws from."""
    return torch.cuda.default_generators[device.index] if device.type == DeviceType.CUDA else torch.default_generator


def warm_up(step: Callable[..., object], inputs: Iterator[Input], device: torch.device) -> list[float]:
    """Call until two calls in a row agree, as first calls load and allocate; return the seconds of each call."""
    seconds = [seconds_of(partial(step, *next(inputs)), device) for _ in range(2)]
    while len(seconds) < MOST and max(seconds[-2:]) > AGREE * min(seconds[-2:]):
        seconds.append(seconds_of(partial(step, *next(inputs)), device))
    return seconds


@dataclass(frozen=True)
class Call:
    """What a timed call got, and what it gave; random: the state of the generator at its start."""

    x: Tensor | PackedSequence
    state: Tensors | None
    parameters: dict[str, Tensor]
    results: Tensors
    random: Tensor


class Rounds:
    """Rounds of one model, which is warmed up first.

    inputs: returns a new input of a turn, by its number.
    times: of a call, the mean of each round.
    sampled_call: the timed call that was drawn, once turns were taken.
    """

    def __init__(self, step: Step, inputs: Callable[[int], Input], device: torch.device) -> None:
        self.step = step
        self.inputs = inputs
        self.device = device
        once = warm_up(step, map(inputs, repeat(0)), device)[-1]
        self.calls = max(1, math.ceil(BURST / once))
        self.warms = once < WARM
        self.round_s = once * (self.calls + self.warms)
        self.times = Stats()
        self.sampled_call: Call
        self.copies: list[tuple[Tensors, Tensors]] = []  # results of the last round, and copies of them

    def take(self, turn: int) -> float:
        """Time a round, and draw one of its calls; return the seconds of all its calls.

        In the end each turn but the first is as likely to be the one drawn: a replay needs a turn before.
        """
        draws = turn == 1 or CHANCE.random() < 1 / (turn - 1)
        seconds, call = self.round(turn, CHANCE.randrange(self.calls) if draws else -1)
        self.times.update(seconds)
        if call is not None:
            self.sampled_call = call
        return seconds * (self.calls + self.warms)

    def round(self, turn: int, sampled_index: int = -1) -> tuple[float, Call | None]:
        """Time a round; return the mean seconds of a call, and the call with the number `sampled_index`.

        The untimed call has an input of the turn before, since what a model caches for the lengths of packed sequences
        would help the timed ones.
        """
        self.look()
        inputs = [self.inputs(turn) for _ in range(self.calls)]
        arguments = deepcopy(inputs[sampled_index]) if sampled_index >= 0 else None
        if self.warms:
            self.step(*self.inputs(turn - 1))
        self.step.before()
        self.copies.clear()  # which frees the results of the round before
        last = self.calls - 1
        noted = dict[int, tuple[Tensor, Tensors]]()  # of few calls, as results of all would take new memory each

        def calls() -> None:
            for number, (x, state) in enumerate(inputs):
                if number in (sampled_index, last):
                    noted[number] = generator_of(self.device).get_state(), self.step(x, state)
                else:
                    self.step(x, state)

        seconds = seconds_of(calls, self.device)
        copies = {number: copied(results) for number, (_, results) in noted.items()}
        self.copies = [(results, copies[number]) for number, (_, results) in noted.items()]
        call = None
        if arguments is not None:
            random = noted[sampled_index][0]
            call = Call(*arguments, self.step.parameters_at(sampled_index), copies[sampled_index], random)
        return seconds / self.calls, call

    def look(self) -> None:
        """Raise RefusedError if results of the last round have changed since the clock stopped."""
        for results, copies in self.copies:
            for value, copy in zip(results, copies, strict=True):
                if not bits(value).equal(bits(copy)):
                    raise RefusedError("results changed after the clock had stopped, so that work was left for later")


def copied(results: Tensors) -> Tensors:
    """Copies of results; RefusedError unless they are plain tensors: another class could compute when it is read."""
    for value in results:
        if type(value) is not Tensor:
            raise RefusedError(f"expected tensors of a timed call and its gradients, got a {type(value).__name__}")
    return tuple(value.detach().clone() for value in results)


def take_turns(sides: Mapping[Any, Rounds], budget: float) -> float:
    """Take turns, so that a drift of the machine affects all sides; return the seconds of all rounds.

    sides: by name or case; one is named BASELINE.
    budget: seconds; LEAST turns or more, but one if that takes LONG, and BRIEF seconds if all sides are SLOW.
    """
    turn_s = sum(side.round_s for side in sides.values())
    turns = 1 if turn_s > LONG else max(LEAST, int(budget / turn_s))
    timed_s = 0.0
    for turn in range(1, turns + 1):
        if turn > LEAST and timed_s >= BRIEF and _are_slow(sides):
            break
        order = list(sides.values())
        if CHANCE.random() >= 0.5:
            order.reverse()
        timed_s += sum(side.take(turn) for side in order)
    sleep(STILL)
    for side in sides.values():
        side.look()
    return timed_s


def _are_slow(sides: Mapping[Any, Rounds]) -> bool:
    """True if every side but the baseline is SLOW."""
    baseline = sides[BASELINE].times
    return min(ratio(side.times, baseline) for name, side in sides.items() if name != BASELINE) > SLOW


def ratio(mine: Stats, theirs: Stats) -> float:
    """Median ratio of rounds that took turns."""
    return float(np.median(np.divide(mine.data, theirs.data)))
