"""Times calls in a row by the wall, on a GPU until everything that was queued is done.

A round is several calls of one model, each with an input of its own. A turn is a round of each model: the baseline and
all forms of a candidate. One timed call of each model is drawn at random, and what it got and gave is kept.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from time import perf_counter, sleep
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from pytest_benchmark.stats import Stats
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from suite.candidates.names import BASELINE
from suite.cases.case import Case
from suite.comparison.tolerance import bits
from suite.measure.job import RefusedError
from suite.results.columns import Row
from suite.shared.devices import DeviceType

Work = Callable[[], object]

#: Variables with which glibc keeps memory that is freed, as torch's allocator of a GPU does: no block has a mapping of
#: its own, and the heap does not shrink. Else the layout of the heap decides whether each training step gives memory
#: back and faults it in anew: one of two equal models then took 1.5 times as long. `hyperlstm_start` of batched_cpu
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
#: What orders and calls are drawn with, which no seed foretells.
CHANCE = random.SystemRandom()


class Input(NamedTuple):
    """Arguments of a call: x [T, B, I] or packed, and the state that it starts from, of zeros if None."""

    x: Tensor | PackedSequence
    state: tuple[Tensor, ...] | None = None

    def changed(self, change: Callable[[Tensor], Tensor]) -> "Input":
        """The arguments with a function of each tensor in its place."""
        x = change(self.x) if isinstance(self.x, Tensor) else self.x._replace(data=change(self.x.data))
        state = None if self.state is None else tuple(map(change, self.state))
        return Input(x, state)


class Step(Protocol):
    """A pass of one model, see `work.STEPS`."""

    model: nn.Module

    def __call__(self, given: Input) -> "Results":
        """Run it, and return what it gave."""

    def before(self) -> None:
        """Note the parameters, before a round."""

    def parameters_at(self, call: int) -> dict[str, Tensor]:
        """The parameters with which a call after `before`, counted from 0, was made."""


class Results(tuple[Tensor, ...]):
    """Out [T, B, H], or the data of a packed one, the final states, and in training the gradients of the parameters."""

    __slots__ = ()


class Stopwatch:
    """Times calls by the wall; the calls on a GPU are waited for together, on all its streams."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.wait: Callable[[], None] = (
            partial(torch.cuda.synchronize, device) if device.type == DeviceType.CUDA else _no_wait
        )

    def seconds(self, work: Work) -> float:
        """Seconds until the work is done."""
        self.wait()  # otherwise it would overlap with what was queued before
        start = perf_counter()
        work()
        self.wait()
        return perf_counter() - start


def generator_of(device: torch.device) -> torch.Generator:
    """The generator of a device that dropout draws from."""
    return torch.cuda.default_generators[device.index] if device.type == DeviceType.CUDA else torch.default_generator


def _no_wait() -> None:
    """Do nothing: on a CPU a call is done when it returns."""


def warm_up(watch: Stopwatch, work: Callable[[Input], object], inputs: Iterator[Input]) -> list[float]:
    """Call until two calls in a row agree, as first calls load and allocate; return the seconds of each call."""
    seconds = [watch.seconds(partial(work, next(inputs))) for _ in range(2)]
    while len(seconds) < MOST and max(seconds[-2:]) > AGREE * min(seconds[-2:]):
        seconds.append(watch.seconds(partial(work, next(inputs))))
    return seconds


@dataclass(frozen=True)
class Call:
    """What a timed call got, and what it gave; random: the state of the generator at its start."""

    given: Input
    parameters: dict[str, Tensor]
    results: Results
    random: Tensor


@dataclass
class Kept:
    """Results of calls of a round, by the number of the call, and copies made as soon as the clock had stopped.

    random: states of the generator before these calls.
    """

    results: dict[int, Results] = field(default_factory=dict)
    random: dict[int, Tensor] = field(default_factory=dict)
    copies: dict[int, Results] = field(default_factory=dict)

    def copy(self) -> None:
        """Copy the results; RefusedError unless they are plain tensors: another class could compute when it is read."""
        for call, results in self.results.items():
            for value in results:
                if type(value) is not Tensor:
                    got = type(value).__name__
                    raise RefusedError(f"expected tensors of a timed call and its gradients, got a {got}")
            self.copies[call] = Results(value.detach().clone() for value in results)

    def look(self) -> None:
        """Raise RefusedError if results have changed since the copy."""
        for call, copies in self.copies.items():
            for value, copy in zip(self.results[call], copies, strict=True):
                if not bits(value).equal(bits(copy)):
                    raise RefusedError("results changed after the clock had stopped, so that work was left for later")


class Repeats:
    """Rounds of one model, which is warmed up first; first_s: seconds of the first call.

    inputs: returns a new input of a turn, by its number.
    """

    def __init__(self, watch: Stopwatch, step: Step, inputs: Callable[[int], Input]) -> None:
        self.watch = watch
        self.step = step
        self.inputs = inputs
        seconds = warm_up(watch, step, map(inputs, repeat(0)))
        self.first_s = seconds[0]
        once = seconds[-1]
        self.calls = max(1, math.ceil(BURST / once))
        self.warms = once < WARM
        self.round_s = once * (self.calls + self.warms)
        self.kept = Kept()

    def round(self, turn: int, drawn: int = -1) -> tuple[float, Call | None]:
        """Time a round; return the mean seconds of a call, and the call with the number `drawn`.

        The untimed call has an input of the turn before, since what is kept for the lengths of packed sequences would
        help the timed ones.
        """
        self.kept.look()
        inputs = [self.inputs(turn) for _ in range(self.calls)]
        x = inputs[drawn].changed(Tensor.clone) if drawn >= 0 else None
        if self.warms:
            self.step(self.inputs(turn - 1))
        self.step.before()
        kept = Kept()
        self.kept = kept
        last = len(inputs) - 1
        seconds = self.watch.seconds(partial(self._calls, inputs, (drawn, last), kept))
        kept.copy()
        call = None
        if x is not None:
            call = Call(x, self.step.parameters_at(drawn), kept.copies[drawn], kept.random[drawn])
        return seconds / len(inputs), call

    def _calls(self, inputs: Sequence[Input], keep: Sequence[int], kept: Kept) -> None:
        """Call the step with each input; keep the results of some, as those of all would take new memory each."""
        for number, x in enumerate(inputs):
            if number in keep:
                kept.random[number] = generator_of(self.watch.device).get_state()
                kept.results[number] = self.step(x)
            else:
                self.step(x)


class Turns:
    """Rounds of several models in turns, so that a drift of the machine affects all of them.

    sides: by name or case; one is named BASELINE.
    drawn: of each side the timed call that was drawn, once turns were taken. timed_s: sum of all rounds.
    """

    def __init__(self, sides: Mapping[Any, Repeats]) -> None:
        self.sides = sides
        self.rounds = {name: Stats() for name in sides}
        self.drawn = dict[Any, Call]()
        self.timed_s = 0.0

    def take(self, budget: float) -> None:
        """Take turns for a budget of seconds, or BRIEF if all are SLOW: LEAST or more, but one if that takes LONG."""
        turn_s = sum(side.round_s for side in self.sides.values())
        turns = 1 if turn_s > LONG else max(LEAST, int(budget / turn_s))
        for turn in range(1, turns + 1):
            if turn > LEAST and self.timed_s >= BRIEF and self._slow():
                break
            names = list(self.sides)
            if CHANCE.random() >= 0.5:
                names.reverse()
            for name in names:
                self._round(name, turn)
        sleep(STILL)
        for side in self.sides.values():
            side.kept.look()

    def _round(self, name: Any, turn: int) -> None:
        side = self.sides[name]
        # In the end each turn but the first is as likely to be the one drawn: a replay needs a turn before.
        draws = turn == 1 or CHANCE.random() < 1 / (turn - 1)
        drawn = CHANCE.randrange(side.calls) if draws else -1
        seconds, call = side.round(turn, drawn)
        self.rounds[name].update(seconds)
        self.timed_s += seconds * (side.calls + side.warms)
        if call is not None:
            self.drawn[name] = call

    def _slow(self) -> bool:
        """True if every side but the baseline is SLOW."""
        baseline = self.rounds[BASELINE]
        beside = [rounds for name, rounds in self.rounds.items() if name != BASELINE]
        return min(ratio(rounds, baseline) for rounds in beside) > SLOW

    def columns(self, case: Case) -> Row:
        """Columns of times, for a form."""
        mine = self.rounds[case]
        theirs = self.rounds[BASELINE]
        return {"median_s": mine.median, "baseline_s": theirs.median, "ratio": ratio(mine, theirs)}


def ratio(mine: Stats, theirs: Stats) -> float:
    """Median ratio of rounds that took turns."""
    return float(np.median(np.divide(mine.data, theirs.data)))
