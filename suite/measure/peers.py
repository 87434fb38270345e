"""Peers: the implementation that "auto" takes compared with what a user would pick instead, at random sizes."""

import math
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from statistics import median

import torch

from suite.measure.jobs import Job
from suite.measure.options import able, fastest
from suite.measure.timing import interleaved, ratio
from suite.measure.work import PASSES, admitted, example
from suite.shared.candidates import find
from suite.shared.cases import ALTERNATIVES, WORKLOADS, Case
from suite.shared.process import Row

#: What ours is compared with by default. What takes tens of seconds to compile for a size is timed only at the first
#: point of the first Z.
OTHERS, SLOW_TO_COMPILE = (*ALTERNATIVES, "batched"), ("compiled",)
#: Sizes are drawn from these ranges, S as a share of H; all log-uniformly.
RANGES = {"T": (10, 200), "B": (1, 128), "H": (64, 1024)}
SHARE = (1 / 8, 1 / 4)
#: Points are drawn for each Z, with and without layer norm, and again while a forward pass has more multiply-adds.
SIZES_Z, POINTS, MOST_WORK = (4, 16), 5, 2.5e9
#: Visits of each job, and seconds of a pass at a point in a visit.
VISITS, BUDGET = 3, 0.4


def jobs(options: Namespace) -> list[Job]:
    """One job per Z, with and without layer norm; the first of its candidates is ours."""
    base, todo = WORKLOADS[options.workload], list[Job]()
    for dtype in options.dtype:
        ours = fastest(options.device, dtype)
        for norm in (False, True):
            for Z in SIZES_Z:
                others = options.implementation or [n for n in OTHERS if SIZES_Z[0] == Z or n not in SLOW_TO_COMPILE]
                names = dict.fromkeys(candidate.name for candidate in able(options, [ours, *others], dtype, norm))
                case = drawn(replace(base, Z=Z, layer_norm=norm))[0]  # the one that candidates are checked at
                todo += [Job("peers", f"Z{Z}", tuple(names), case, dtype, options.device)] * bool(names)
    return todo


def drawn(base: Case) -> list[Case]:
    """Cases with sizes drawn for its Z and layer norm, the same ones each time."""
    random, cases = Random(f"{base.Z} {base.layer_norm}"), list[Case]()

    def between(low: float, high: float) -> float:
        return math.exp(random.uniform(math.log(low), math.log(high)))

    while len(cases) < POINTS:
        T, B, H = (round(between(*ends)) for ends in RANGES.values())
        case = replace(base, T=T, B=B, H=H, S=round(H * between(*SHARE)))
        cases += [case] * (case.multiply_adds() <= MOST_WORK)
    return cases


def rows(job: Job, first: bool) -> Iterator[Row]:
    """Yield a row for each point, pass and candidate: its time, and the ratio of ours to it, of rounds in turns."""
    (ours, *others), device, points = (yield from admitted(job)), job.device, drawn(job.case)
    for case in points:
        torch._dynamo.reset()  # otherwise torch.compile would compile for all sizes at the second point, slowly
        x = example(case, job.torch_dtype, device)
        names = [ours, *(name for name in others if case is points[0] or name not in SLOW_TO_COMPILE)]
        models = {name: find(name).build(case, job.torch_dtype, device) for name in names}
        for step, run in PASSES.items():
            seconds = interleaved(run, models, x, BUDGET)
            for name, times in seconds.items():
                row: Row = {"pass": step, "ours": ours, "library": find(name).library, "median_s": median(times)}
                row |= {"ratio": ratio(seconds[ours], times)} if name != ours else {}
                yield job.row("point", name, case, multiply_adds=find(name).multiply_adds(case)) | row
