"""One process of the benchmark: `python -m suite.measure.bench_step TOLD ROWS`, see `processes.py`.

For each job it calls both passes until their times settle, checks what they compute, does the first rounds and measures
memory. A row is appended as soon as it is measured, so that a later crash loses nothing. The time that is left then
goes to more rounds, and rows that got some are appended again.
"""

import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from suite.measure import processes, rounds, work
from suite.measure.jobs import Job
from suite.measure.load import Others
from suite.measure.rounds import Batch, Repeats, Turns
from suite.measure.stopwatch import Stopwatch, stopwatch, warm_up
from suite.shared import usage
from suite.shared.candidates import LSTM, Candidate, find
from suite.shared.cases import Case, lengths
from suite.shared.pairing import FEWEST
from suite.shared.process import Row, append_row
from suite.shared.rows import PASSES

#: Least number of calls of a pass: the first calls, the first rounds, and the calls that measure memory.
CALLS = 3 + FEWEST
#: Lengths at which operator calls are counted; the difference is what each step adds.
LENGTHS = 2, 4


class NoFiguresError(Exception):
    """A candidate is wrong, or would not end within the time that is left; the message is the status of its row."""


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
    """A pass of a job that has had its first rounds; taken: cores that other processes used."""

    job: Job
    name: str
    forms: Sequence[Form]
    turns: Turns
    taken: float | None

    def rows(self) -> Iterator[Row]:
        for form in self.forms:
            about = self.job.columns(form.case, self.name) | {"taken_cores": self.taken}
            if self.name in form.statuses:
                yield about | {"status": form.statuses[self.name]}
            else:
                yield about | {"status": "ok"} | form.figures[self.name] | self.turns.columns(form.case)


class Bench:
    """Measures jobs of one device and dtype one after the other, until `clock` shows a time."""

    def __init__(self, job: Job, until: float, clock: Callable[[], float] = time.time) -> None:
        self.device, self.dtype, self.until, self.clock = job.device, job.torch_dtype, until, clock
        self.watch: Stopwatch = stopwatch(self.device)
        self.shared, self.baseline = cache(self._shared), cache(self._baseline)
        self.timed: list[Timed] = []
        self.promised = 0.0  # seconds that the passes of this job which have settled will still take

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
            calls = {form.case: partial(work.PASSES[name], form.model) for form in going}
            sides = {form.case: Repeats(self.watch, calls[form.case], form.once[name]) for form in going}
            turns = Turns(self.baseline(job.case, name), sides, partial(self.batch, job.case))
            slowest = max(side.round_s for side in sides.values())
            with labelled(going, name):
                for _ in range(rounds.fewest(job, slowest, turns.baseline.round_s)):
                    turns.turn()
            gc.collect()
            for form in [form for form in going if name not in form.statuses]:
                with labelled([form], name):
                    form.figures[name] |= self.measured(find(job.candidate), form, name, turns)
                form.figures[name]["job_s"] = round(self.clock() - start, 1)
            timed, others = Timed(job, name, going, turns, others.taken(self.device)), Others()
            yield from timed.rows()
            if not any(name in form.statuses for form in going):
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
                raise NoFiguresError("time-out: no time was left")
            form.model = candidate.build(case, self.dtype, self.device)
            for name in PASSES:
                with labelled([form], name):
                    self.settle(job, form, name)
            if reason := work.refusal(candidate, case, self.dtype, self.device):
                raise NoFiguresError(f"refused: {reason}")
        return form

    def settle(self, job: Job, form: Form, name: str) -> None:
        """Call a pass until its time settles, and promise what the rest takes; NoFiguresError if that is too long."""
        baseline, (_, x), step = self.baseline(job.case, name), self.batch(job.case, 0), work.PASSES[name]
        # XLA would compile for one step too, and that says nothing about all steps.
        single = partial(step, form.model, work.repeated(x))
        one = [self.watch.seconds(single) if find(job.candidate).of_torch else 0.0]
        if self.expected(form, one[0]) * CALLS > self.left():  # it may have compiled
            one += warm_up(self.watch, single, one[0])
        if (guess := self.expected(form, one[-1])) * CALLS > self.left():
            left = f"{max(0, self.left()):.0f} s left"
            raise NoFiguresError(f"time-out: predicted, {CALLS} passes of {guess:.1f} s each, {left}")
        call = partial(step, form.model, x)
        taken = warm_up(self.watch, call, guess)
        form.once[name], form.figures[name]["first_s"] = taken[-1], one[0] + taken[0]
        self.promised += FEWEST * (Repeats(self.watch, call, taken[-1]).round_s + baseline.round_s) + 2 * taken[-1]

    def expected(self, form: Form, step_s: float) -> float:
        """Seconds of a pass with steps of `step_s`; at least those of the pass before it."""
        return max([step_s * form.case.T, *form.once.values()])

    def _shared(self, case: Case) -> tuple[Batch, nn.Module]:
        """First batch of a workload and the `torch.nn.LSTM` that all candidates are compared with."""
        return Batch(case, work.example(case, self.dtype, self.device)), LSTM.build(case, self.dtype, self.device)

    def batch(self, case: Case, draw: int) -> Batch:
        """Batch of a workload; if it is packed, each draw has other lengths."""
        if not draw or not case.lengths:
            return self.shared(case)[0]
        drawn = replace(case, lengths=lengths(case.T, case.B, draw))
        return Batch(drawn, work.example(drawn, self.dtype, self.device))

    def _baseline(self, case: Case, name: str) -> Repeats:
        """Rounds of `torch.nn.LSTM` of the same sizes."""
        (_, x), model = self.shared(case)
        call = partial(work.PASSES[name], model)
        guess = case.T * self.watch.seconds(lambda: call(work.repeated(x)))
        return Repeats(self.watch, call, warm_up(self.watch, lambda: call(x), guess)[-1])

    def measured(self, candidate: Candidate, form: Form, name: str, turns: Turns) -> dict[str, Any]:
        """Columns of memory, operator calls and the like, from calls that are not rounds, and of costs by formula."""
        model, x, step, training = form.model, turns.batches[0].x, work.PASSES[name], name == "train"
        figures: dict[str, Any] = {}
        if self.device.type == "cuda":
            kernels = usage.kernels(lambda: turns.baseline.work(x), self.device)
            figures["cudnn"] = usage.cudnn_of(kernels, torch.backends.cudnn.version())
        mine, theirs = turns.in_a_loop(turns.forms[form.case]), turns.in_a_loop(turns.baseline)
        if mine is not None and theirs is not None:
            figures |= {"loop_s": mine, "loop_ratio": mine / theirs}
        case = replace(turns.typical, layer_norm=form.case.layer_norm)
        return figures | {
            "peak_bytes": work.peak(step, model, x),
            "kept_bytes": usage.saved_bytes(lambda: model(x), self.device) if training else None,
            "parameters": sum(p.numel() for p in model.parameters()),
            "calls_per_step": calls_per_step(candidate, model, x, step) if candidate.of_torch else None,
            "library": candidate.library,
            "multiply_adds": candidate.multiply_adds(case) * (3 if training else 1),
            "work": candidate.multiply_adds(case) / LSTM.multiply_adds(case),
            "least_bytes": candidate.least_numbers(case, training) * x.data.element_size(),
        }


def calls_per_step(candidate: Candidate, model: nn.Module, x: work.Input, step: work.Pass) -> float:
    """Extra operator calls per extra time step."""
    # Two rows say as much as all, except where another batch would be compiled.
    rows = None if candidate.compiles_each_size else 2

    def calls(T: int) -> int:
        given = work.repeated(x, T, rows)
        step(model, given)  # the first call on a length may compile
        return usage.operator_calls(lambda: step(model, given))

    short, long = LENGTHS
    return (calls(long) - calls(short)) / (long - short)


@contextmanager
def labelled(forms: Sequence[Form], *names: str) -> Iterator[None]:
    """Note why passes have no figures if that is known: refused, no memory, no time. Any other error is raised."""
    try:
        yield
    except Exception as error:
        if not work.is_out_of_memory(error) and not isinstance(error, NoFiguresError):
            raise
        for form in forms:
            status = str(error) if isinstance(error, NoFiguresError) else "out of memory"
            form.statuses |= dict.fromkeys(names, status)


def main(told: Path, rows: Path) -> None:
    """Measure the jobs until the times that the process was told, and append their rows."""
    jobs, (first, end) = processes.told(told)
    jobs[0].take_on()
    gc.disable()  # no round should pay for it
    bench = Bench(jobs[0], first)
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
    bench.until = end
    for row in bench.more_rows():
        append_row(rows, row)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
