"""Sweeps: time, memory and the ratio to what `auto` takes, against a size, the threads, or at random sizes."""

import math
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from random import Random
from typing import Any

import torch

from impls.gradient.chunks import limited
from suite.measure.choice import fastest
from suite.measure.job import Job
from suite.measure.timing import Repeats, Turns, ratio, stopwatch
from suite.measure.work import PASSES, example, peak, refusal, train
from suite.shared.arithmetic import dtype_of, why_not
from suite.shared.candidates import LSTM, find
from suite.shared.candidates import candidates as all_candidates
from suite.shared.cases import ALTERNATIVES, WORKLOADS, Case
from suite.shared.process import Row

#: T and B that all sizes start from: at these, every candidate takes well under a second for a step.
BASE: dict[str, Any] = {"T": 16, "B": 16}
#: By size, its values.
SIZES = {
    "T": (4, 8, 16, 24, 32, 64),
    "B": (4, 8, 16, 24, 32, 64),
    "H": (64, 128, 256, 384, 512, 768),
    "S": (16, 32, 64, 96, 128, 192),
    "Z": (1, 4, 8, 16, 32, 64),
}
#: Seconds of a step above which a candidate is not timed at larger sizes.
SLOW = 0.5
#: Batches of the sweep over threads: one sequence, fewer rows than most machines have cores, and many.
BATCHES = (1, 4, 32)
#: Lengths double until a training step holds this many bytes.
LIMIT = 1 << 28
#: Ranges of random sizes, which are drawn log-uniformly; S is a share of H. There are POINTS for each Z and form (with
#: and without layer norm), each with at most MOST_WORK multiply-adds in a forward pass.
RANGES = {"T": (10, 200), "B": (1, 128), "H": (64, 1024)}
SHARE = (1 / 8, 1 / 4)
RANDOM_Z, POINTS, MOST_WORK = (4, 16), 5, 2.5e9
#: Timed only at the first random point, because each size takes tens of seconds to compile.
SLOW_TO_COMPILE = ("compiled",)
#: Visits of each job, by what varies; memory, which `length` measures, is the same in every visit.
VARIED = {**dict.fromkeys(SIZES, 3), "threads": 5, "random": 3, "length": 1}
#: Seconds of a pass at a point in a visit.
BUDGET = 0.3


def jobs(varied: str, options: Namespace) -> list[Job]:
    """Jobs of a sweep; the first candidate of each is the implementation that `auto` takes, if it runs."""
    base, device, todo = WORKLOADS[options.workload], options.device, list[Job]()
    steady = [candidate.name for candidate in all_candidates() if not (candidate.compiles_each_size or candidate.pads)]
    for dtype, norm in product(options.dtype, (False, True)):
        auto = fastest(device, dtype)
        case, names = replace(base, layer_norm=norm), [auto, *(options.implementation or steady)]
        if norm and not options.implementation:  # labml's module has no other form
            names = [auto, *(name for name in ALTERNATIVES if name in steady)]
        cases = [replace(case, **BASE)]
        if varied == "threads":
            names = [auto, *(options.implementation or ()), LSTM.name]
            cases = [] if norm or device.type != "cpu" else [replace(case, B=B) for B in BATCHES]
        elif varied == "random":
            names = [auto, *(options.implementation or (*ALTERNATIVES, "batched"))]
            cases = [replace(case, Z=Z) for Z in RANDOM_Z]
        elif varied == "length":
            cases, names = [case], [name for name in names if name and find(name).of_torch]
        elif varied in "SZ":
            names = [name for name in names if name != LSTM.name]
        runs = available(names, dtype, device, layer_norm=norm)
        # Memory is measured for one candidate after another, so each has a job, whose process may run out of it.
        groups = [(name,) for name in runs] if varied == "length" else [tuple(runs)] if runs else []
        todo += [Job("sweep", group, case, dtype, device, varied=varied) for case in cases for group in groups]
    return todo


def available(names: Sequence[str], dtype: str, device: torch.device, *, layer_norm: bool) -> list[str]:
    """Names of the candidates that run, with layer norm or without."""
    if why_not(dtype, device) is not None:
        return []
    named = [find(name) for name in dict.fromkeys(names) if name]
    able = [candidate for candidate in named if layer_norm in candidate.layer_norms and not candidate.pads]
    return [candidate.name for candidate in able if candidate.why_unavailable(device, dtype_of(dtype)) is None]


def rows(job: Job, first: bool) -> Iterator[Row]:
    """Yield a row for each value of what varies, candidate and pass."""
    refused = {name: refusal(find(name), job.case, job.torch_dtype, job.device) for name in job.candidates}
    for name, reason in refused.items():
        if reason:
            yield job.row(name, 0, status=f"refused: {reason}")
    names = [name for name, reason in refused.items() if not reason]
    if job.varied == "threads":
        for n in range(1, torch.get_num_threads() + 1):
            torch.set_num_threads(n)
            yield from timed(job, names, n, job.case, PASSES)
    elif job.varied == "random":
        for n, case in enumerate(drawn(job.case)):
            torch._dynamo.reset()  # otherwise torch.compile would compile for all sizes at the second point, slowly
            timed_here = [name for name in names if n == 0 or name not in SLOW_TO_COMPILE]
            yield from timed(job, timed_here, n, case, PASSES)
    elif job.varied == "length":
        for name in names:
            yield from lengths(job, name)
    else:
        for n in SIZES[job.varied]:
            size: dict[str, Any] = {job.varied: n}
            case = replace(job.case, **size)
            points = list(timed(job, names, n, case, ["train"], memory=first))
            yield from points
            names = [row["implementation"] for row in points if row["median_s"] < SLOW]


def timed(
    job: Job, names: Sequence[str], n: int, case: Case, passes: Iterable[str], *, memory: bool = False
) -> Iterator[Row]:
    """Yield a row for each pass and candidate, of rounds in turns; memory: also measure the peak of a step."""
    x, watch = example(case, job.torch_dtype, job.device), stopwatch(job.device)
    models = {name: find(name).build(case, job.torch_dtype, job.device) for name in names}
    for step in passes if models else ():
        sides = {name: Repeats(watch, partial(PASSES[step], model), x) for name, model in models.items()}
        turns = Turns(sides, lambda _: x)
        turns.take(BUDGET)
        for name, model in models.items():
            figures: Row = {"pass": step, "median_s": turns.rounds[name].median, "library": find(name).library}
            figures["multiply_adds"] = find(name).multiply_adds(case)
            if job.candidate in sides and name != job.candidate:
                figures["ratio"] = ratio(turns.rounds[job.candidate], turns.rounds[name])
            if memory and find(name).of_torch:
                figures["peak_bytes"] = peak(train, model, x)
                model.zero_grad(set_to_none=True)
            yield job.row(name, n, case, **figures)


def lengths(job: Job, name: str) -> Iterator[Row]:
    """Yield the peak memory of a training step at lengths that double, up to the first above the limit.

    A hand-written gradient also has the peak of a forward pass that saves only states.
    """
    candidate, T, bytes_ = find(name), 2, 0
    while bytes_ < LIMIT:
        case = replace(job.case, T=T)
        model, x = candidate.build(case, job.torch_dtype, job.device), example(case, job.torch_dtype, job.device)
        row: Row = {"pass": "train", "peak_bytes": (bytes_ := peak(train, model, x))}
        if candidate.hand_written and name != LSTM.name:
            with limited(job.device.type, residuals=False):
                row["recomputed_bytes"] = peak(train, model, x)
        yield job.row(name, T, case, **row)
        T *= 2


def drawn(base: Case) -> list[Case]:
    """Cases with sizes drawn for its Z and layer norm, the same ones each time."""
    random, cases = Random(f"{base.Z} {base.layer_norm}"), list[Case]()

    def between(low: float, high: float) -> float:
        return math.exp(random.uniform(math.log(low), math.log(high)))

    while len(cases) < POINTS:
        T, B, H = (round(between(*ends)) for ends in RANGES.values())
        case = replace(base, T=T, B=B, H=H, S=round(H * between(*SHARE)))
        if case.multiply_adds() <= MOST_WORK:
            cases.append(case)
    return cases
