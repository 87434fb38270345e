"""A visit of the benchmark: both passes of a candidate, without layer norm and with it, in turns with the baseline.

The first visit of a job also measures memory and operator calls, and checks what the candidate computes, unless a
verification did at these sizes.
"""

import gc
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial

import torch
from torch import nn

from suite.measure import work
from suite.measure.jobs import Job
from suite.measure.timing import Batch, Input, Pass, Repeats, Turns, stopwatch, warm_up
from suite.shared import usage
from suite.shared.candidates import LSTM, Candidate, find
from suite.shared.cases import Case, lengths
from suite.shared.process import Row
from suite.shared.rows import PASSES

#: By kind of device, seconds of the turns of a pass.
BUDGET = {"cpu": 0.2, "cuda": 0.5}
#: Lengths at which operator calls are counted; the difference is what each step adds.
LENGTHS = 2, 4
#: Why a pass of a form has no figures.
Failures = MutableMapping[tuple[Case, str], str]


class RefusedError(Exception):
    """A candidate is wrong at the sizes of the workload; the message is the status of its rows."""


def rows(job: Job, first: bool) -> Iterator[Row]:
    """Yield a row for each pass and form, as soon as it is measured."""
    candidate, watch, failures = find(job.candidate), stopwatch(job.device), dict[tuple[Case, str], str]()
    batch, models = cache(partial(drawn, job)), dict[Case, nn.Module]()
    lstm = LSTM.build(job.case, job.torch_dtype, job.device)
    for name in PASSES:
        step, x, first_s, sides = work.PASSES[name], batch(0).x, dict[Case, float](), dict[Case, Repeats]()
        for case in job.cases:
            if case not in models and (case, name) not in failures:
                with recorded(failures, [case], *PASSES):
                    models[case] = candidate.build(case, job.torch_dtype, job.device)
            if (case, name) in failures:
                continue
            call = partial(step, models[case])
            with recorded(failures, [case], name):
                seconds = warm_up(watch, partial(call, x), candidate.compiles_each_size)
                first_s[case], sides[case] = seconds[0], Repeats(watch, call, seconds[-1])
            if first and not job.verified and name == PASSES[0]:
                with recorded(failures, [case], *PASSES):
                    check(candidate, case, job)
        call = partial(step, lstm)
        baseline = Repeats(watch, call, warm_up(watch, partial(call, x))[-1])
        turns = Turns(baseline, {case: sides[case] for case in sides if (case, name) not in failures}, batch)
        with recorded(failures, turns.forms, name):
            turns.take(BUDGET[job.device.type])
        gc.collect()
        for case in job.cases:
            row: Row = {"first_s": first_s.get(case)}
            with recorded(failures, [case], name):
                if first and (case, name) not in failures:
                    row |= once_measured(candidate, models[case], case, name, turns)
            status = failures.get((case, name))
            row = {"status": status} if status else {"status": "ok"} | row | turns.columns(case)
            yield job.columns(case, name) | row


def check(candidate: Candidate, case: Case, job: Job) -> None:
    if reason := work.refusal(candidate, case, job.torch_dtype, job.device):
        raise RefusedError(f"refused: {reason}")


def drawn(job: Job, draw: int) -> Batch:
    """Batch of a workload; if it is packed, each draw has other lengths."""
    case = job.case
    if draw and case.lengths:
        case = replace(case, lengths=lengths(case.T, case.B, draw))
    if draw and not case.lengths:
        return drawn(job, 0)
    return Batch(case, work.example(case, job.torch_dtype, job.device))


def once_measured(candidate: Candidate, model: nn.Module, case: Case, name: str, turns: Turns) -> Row:
    """Columns of memory, operator calls and the like, from calls that are not rounds, and of costs by formula."""
    x, step, training, row = turns.batches[0].x, work.PASSES[name], name == "train", Row()
    device = x.data.device
    if device.type == "cuda":
        kernels = usage.kernels(lambda: turns.baseline.work(x), device)
        row["cudnn"] = usage.cudnn_of(kernels, torch.backends.cudnn.version())
    case = replace(turns.typical, layer_norm=case.layer_norm)
    return row | {
        "peak_bytes": work.peak(step, model, x),
        "kept_bytes": usage.saved_bytes(lambda: model(x), device) if training else None,
        "parameters": sum(p.numel() for p in model.parameters()),
        "calls_per_step": calls_per_step(candidate, model, x, step) if candidate.of_torch else None,
        "library": candidate.library,
        "multiply_adds": candidate.multiply_adds(case) * (3 if training else 1),
        "work": candidate.multiply_adds(case) / LSTM.multiply_adds(case),
        "least_bytes": candidate.least_numbers(case, training) * x.data.element_size(),
    }


def calls_per_step(candidate: Candidate, model: nn.Module, x: Input, step: Pass) -> float:
    """Extra operator calls per extra time step."""
    # Two rows say as much as all, except where another batch would be compiled.
    rows = None if candidate.compiles_each_size else 2

    def calls(T: int) -> int:
        steps = work.repeated(x, T, rows)
        step(model, steps)  # the first call on a length may compile
        return usage.operator_calls(lambda: step(model, steps))

    short, long = LENGTHS
    return (calls(long) - calls(short)) / (long - short)


@contextmanager
def recorded(failures: Failures, forms: Iterable[Case], *names: str) -> Iterator[None]:
    """Note why passes of forms have no figures: refused or out of memory. Any other error is raised."""
    try:
        yield
    except Exception as error:
        if not work.is_out_of_memory(error) and not isinstance(error, RefusedError):
            raise
        status = str(error) if isinstance(error, RefusedError) else "out of memory"
        failures.update({(form, name): status for form in forms for name in names})
