"""What a process of the benchmark does: `python -m suite.measure.bench_step TOLD ROWS`, see `processes.py`.

Of each job it calls both passes until they settle, checks what they compute, gives them their first rounds and measures
memory; a row is appended as soon as it is measured, so that a later crash takes nothing with it. The time that is left
then goes to more rounds, and rows that had some are appended again.
"""

import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from suite.measure import processes, rounds, work
from suite.measure.jobs import SLOW, Job
from suite.measure.load import Others
from suite.measure.rounds import Batch, Repeats, Turns
from suite.measure.stopwatch import Stopwatch, stopwatch, warm_up
from suite.shared import usage
from suite.shared.candidates import LSTM, Candidate, find
from suite.shared.cases import Case
from suite.shared.pairing import FEWEST
from suite.shared.process import Row, append_row
from suite.shared.rows import PASSES

#: A pass is called at least so often: the first calls, the fewest rounds, and the calls that measure memory.
CALLS = 3 + FEWEST
#: The lengths that operator calls are counted at; what comes with every step is the difference.
LENGTHS = 2, 4


class RefusedError(Exception):
    """The candidate does not compute what it should, so its speed says nothing."""


class TooLongError(Exception):
    """The candidate would not end within the time that is left."""


class Form:
    """A candidate without layer norm or with it.

    statuses: by pass, why it has no figures. once: by pass, seconds of a call once it has settled. figures: by pass,
        the columns that no later round changes.
    """

    def __init__(self, case: Case) -> None:
        self.case, self.model = case, nn.Module()
        self.statuses: dict[str, str] = {}
        self.once: dict[str, float] = {}
        self.figures: dict[str, dict[str, Any]] = {name: {} for name in PASSES}


class Timed(NamedTuple):
    """A pass of a job that has had its first rounds; taken: cores that other processes took meanwhile."""

    job: Job
    name: str
    forms: Sequence[Form]
    turns: Turns
    taken: float | None

    def rows(self) -> Iterator[Row]:
        """Yield a row for each form."""
        for form in self.forms:
            about = self.job.columns(form.case, self.name) | {"taken_cores": self.taken}
            if self.name in form.statuses:
                yield about | {"status": form.statuses[self.name]}
            else:
                yield about | {"status": "ok"} | form.figures[self.name] | self.turns.columns(form.case)


class Bench:
    """Measures jobs of one device and dtype, one after the other, until a time that `clock` tells."""

    def __init__(self, job: Job, until: float, clock: Callable[[], float] = time.time) -> None:
        self.device, self.dtype, self.until, self.clock = job.torch_device, job.torch_dtype, until, clock
        self.watch: Stopwatch = stopwatch(self.device)
        self.models: dict[Case, nn.Module] = {}  # the baselines, by sizes
        self.baselines: dict[tuple[Case, str], Repeats] = {}
        self.batches: dict[Case, Batch] = {}
        self.timed: list[Timed] = []
        self.promised = 0.0  # seconds that what has begun of this job will still take

    def left(self) -> float:
        """Seconds left, without those that are promised."""
        return self.until - self.clock() - self.promised

    def rows(self, job: Job) -> Iterator[Row]:
        """Yield the rows of a job, each once it has had its first rounds."""
        others, start, self.promised = Others(), self.clock(), 0.0
        forms = [self.begin(job, case) for case in job.cases]
        for name in PASSES:
            going = [form for form in forms if name not in form.statuses]
            yield from (
                job.columns(form.case, name) | {"status": form.statuses[name]} for form in forms if form not in going
            )
            if not going:
                continue
            turns = self.turns(job, name, going)
            with labelled(going, name):
                self.first_rounds(job, turns)
            gc.collect()
            for form in [form for form in going if name not in form.statuses]:
                with labelled([form], name):
                    form.figures[name] |= self.measured(job, form, name, turns)
                form.figures[name]["job_s"] = round(self.clock() - start, 1)
            timed, others = Timed(job, name, going, turns, others.taken(self.device)), Others()
            yield from timed.rows()
            if job.role != SLOW and not any(name in form.statuses for form in going):
                self.timed.append(timed)

    def more_rows(self) -> Iterator[Row]:
        """Spend the time that is left on more rounds, and yield the rows that had some."""
        others, self.promised = Others(), 0.0
        had = [len(timed.turns.baseline_s) for timed in self.timed]
        rounds.spend([timed.turns for timed in self.timed], self.left)
        late = others.taken(self.device)
        for timed, before in zip(self.timed, had, strict=True):
            if len(timed.turns.baseline_s) > before:
                taken = None if timed.taken is None or late is None else max(timed.taken, late)
                yield from timed._replace(taken=taken).rows()

    def begin(self, job: Job, case: Case) -> Form:
        """Build a form, call each of its passes until its time settles, and check what it computes."""
        form, candidate = Form(case), find(job.candidate)
        with labelled([form], *PASSES):
            if self.left() <= 0:
                raise TooLongError("time-out: no time was left")
            form.model = candidate.build(case, self.dtype, self.device)
            for name in PASSES:
                with labelled([form], name):
                    self.settle(candidate, form, name)
            if reason := work.refusal(candidate, case, self.dtype, self.device):
                raise RefusedError(f"refused: {reason}")
        return form

    def settle(self, candidate: Candidate, form: Form, name: str) -> None:
        """Call a pass until its time settles, and promise what the rest takes; TooLongError if that is too much."""
        baseline, x, step = self.baseline(form.case, name), self.batch(form.case, 0).x, work.PASSES[name]
        # XLA would compile all of it for one step, too, and say nothing of the time of all.
        one = [self.watch.seconds(lambda: step(form.model, work.first_steps(x, 1))) if candidate.of_torch else 0.0]
        if self.expected(form, one[0]) * CALLS > self.left():  # it may have compiled
            one.append(self.watch.seconds(lambda: step(form.model, work.first_steps(x, 1))))
        if (guess := self.expected(form, one[-1])) * CALLS > self.left():
            left = f"{max(0, self.left()):.0f} s left"
            raise TooLongError(f"time-out: predicted, {CALLS} passes of {guess:.1f} s each, {left}")
        taken = warm_up(self.watch, lambda: step(form.model, x), guess)
        form.once[name], form.figures[name]["first_s"] = taken[-1], one[0] + taken[0]
        round_s = Repeats(self.watch, partial(step, form.model), taken[-1]).round_s
        self.promised += FEWEST * (round_s + baseline.round_s) + 2 * taken[-1]

    def expected(self, form: Form, step_s: float) -> float:
        """Seconds of a pass of which one step takes so long, and which takes no less than the one before it."""
        return max([step_s * form.case.T, *form.once.values()])

    def batch(self, case: Case, draw: int) -> Batch:
        """Batch of a draw: of other lengths than those of other draws, where the case has lengths."""
        case = replace(case, layer_norm=False)
        if draw and case.lengths:
            drawn = work.redrawn(case, draw)
            return Batch(drawn, work.example(drawn, self.dtype, self.device))
        if case not in self.batches:
            self.batches[case] = Batch(case, work.example(case, self.dtype, self.device))
        return self.batches[case]

    def baseline(self, case: Case, name: str) -> Repeats:
        """Rounds of `torch.nn.LSTM` of the same sizes, one model for all candidates."""
        case = replace(case, layer_norm=False)
        if case not in self.models:
            self.models[case] = LSTM.build(case, self.dtype, self.device)
        if (case, name) not in self.baselines:
            step, x = partial(work.PASSES[name], self.models[case]), self.batch(case, 0).x
            guess = case.T * self.watch.seconds(lambda: step(work.first_steps(x, 1)))
            self.baselines[case, name] = Repeats(self.watch, step, warm_up(self.watch, lambda: step(x), guess)[-1])
        return self.baselines[case, name]

    def turns(self, job: Job, name: str, forms: Sequence[Form]) -> Turns:
        """Rounds of the forms of a pass, none of which is made yet."""
        step = work.PASSES[name]
        sides = {form.case: Repeats(self.watch, partial(step, form.model), form.once[name]) for form in forms}
        return Turns(self.baseline(job.case, name), sides, partial(self.batch, job.case))

    def first_rounds(self, job: Job, turns: Turns) -> None:
        """Do the rounds that a pass has in any case."""
        slowest = max(side.round_s for side in turns.forms.values())
        for _ in range(rounds.fewest(job, slowest, turns.baseline.round_s)):
            turns.turn()

    def measured(self, job: Job, form: Form, name: str, turns: Turns) -> dict[str, Any]:
        """Columns of memory, operator calls and the like, from calls that are not timed."""
        model, x, step, candidate = form.model, self.batch(form.case, 0).x, work.PASSES[name], find(job.candidate)
        figures: dict[str, Any] = {
            "peak_bytes": work.peak(step, model, x),
            "kept_bytes": usage.saved_bytes(lambda: model(x), self.device) if name == "train" else None,
            "parameters": sum(p.numel() for p in model.parameters()),
            "calls_per_step": calls_per_step(candidate, model, x, step) if candidate.of_torch else None,
            "library": candidate.library,
        }
        if self.device.type == "cuda":
            names = usage.kernels(lambda: turns.baseline.work(x))
            figures["cudnn"] = usage.cudnn_of(names, torch.backends.cudnn.version())
        # What a call takes in a loop that waits for none of them, where that is another figure.
        mine, theirs = turns.in_a_loop(turns.forms[form.case]), turns.in_a_loop(turns.baseline)
        loop = {} if mine is None or theirs is None else {"loop_s": mine, "loop_ratio": mine / theirs}
        typical = replace(turns.typical, layer_norm=form.case.layer_norm)
        return figures | loop | costs(candidate, typical, name, x.data.element_size())


def costs(candidate: Candidate, case: Case, name: str, itemsize: int) -> dict[str, Any]:
    """Columns that say what a pass over a case comes to, by formula."""
    training = name == "train"
    return {
        "multiply_adds": candidate.multiply_adds(case) * (3 if training else 1),
        "work": candidate.multiply_adds(case) / LSTM.multiply_adds(case),
        "least_bytes": candidate.least_numbers(case, training) * itemsize,
    }


def calls_per_step(candidate: Candidate, model: nn.Module, x: work.Input, step: work.Pass) -> float:
    """Operators that are called on top for one step more."""
    # Two rows say as much as all, but for what would compile anew.
    rows = int(x.shape[1] if isinstance(x, torch.Tensor) else x.batch_sizes[0]) if candidate.compiles_each_size else 2

    def calls(T: int) -> int:
        given = work.repeated(x, T, rows)
        step(model, given)  # the first call on a length may compile
        return usage.operator_calls(lambda: step(model, given))

    short, long = LENGTHS
    return (calls(long) - calls(short)) / (long - short)


@contextmanager
def labelled(forms: Sequence[Form], *names: str) -> Iterator[None]:
    """Note why passes have no figures where that is known: refused, no memory, no time. Any other error goes on."""
    try:
        yield
    except Exception as error:
        if work.is_out_of_memory(error):
            status = "out of memory"
        elif isinstance(error, (RefusedError, TooLongError)):
            status = str(error)
        else:
            raise
        for form in forms:
            form.statuses |= dict.fromkeys(names, status)


def main(told: Path, rows: Path) -> None:
    """Measure the jobs until the time that the process was told, and append their rows."""
    jobs, until = processes.told(told)
    jobs[0].take_on()
    gc.disable()  # no round should pay for it
    bench = Bench(jobs[0], until)
    for job in jobs:
        missing = {(row["layer_norm"], row["pass"]): row for row in job.rows("")}
        try:
            for row in bench.rows(job):
                append_row(rows, row)
                del missing[row["layer_norm"], row["pass"]]
        except Exception as error:
            status = f"failed: {type(error).__name__}: {' '.join(str(error).split())}"[:200]
            for row in missing.values():
                append_row(rows, row | {"status": status})
            raise  # a GPU may be unusable for this process from now on
    for row in bench.more_rows():
        append_row(rows, row)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
