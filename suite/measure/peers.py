"""Peers: the implementation that "auto" takes beside what a user would pick instead, at sizes drawn at random."""

import math
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

import torch

from impls import registry
from suite.measure.jobs import Job
from suite.measure.options import able
from suite.measure.rounds import interleaved
from suite.measure.stopwatch import stopwatch
from suite.measure.work import PASSES, example, refusal
from suite.shared import pairing
from suite.shared.arithmetic import dtype_of
from suite.shared.candidates import find
from suite.shared.cases import EXTERNAL, WORKLOADS, Case

#: What is held beside ours unless options say otherwise. What takes tens of seconds to compile for a size is timed
#: at the first point of the first Z alone.
OTHERS, SLOW_TO_COMPILE = (*EXTERNAL, "batched", "compiled"), ("compiled",)
#: Sizes are drawn from these ranges, S as a share of H; all log-uniformly.
RANGES = {"T": (10, 200), "B": (1, 128), "H": (64, 1024)}
SHARE = (1 / 8, 1 / 4)
#: Points are drawn for each Z, with and without layer norm, and again while a forward pass has more multiply-adds.
SIZES_Z, POINTS, MOST_WORK = (4, 16), 5, 2.5e9
#: Rounds of a pass take so many seconds for each candidate, and are at least and at most so many; see `interleaved`.
BUDGET, LEAST, MOST, WARM = 0.25, pairing.LEAST, 25, 0.05


def jobs(options: Namespace) -> list[Job]:
    """Jobs of the study, one for each Z with and without layer norm; ours is the first of its candidates."""
    base, found = WORKLOADS[options.workload], list[Job]()
    for dtype in options.dtype:
        ours = registry.resolve("auto", torch.device(options.device), dtype_of(dtype)).name
        for norm in (False, True):
            for Z in SIZES_Z:
                others = options.implementation or [n for n in OTHERS if SIZES_Z[0] == Z or n not in SLOW_TO_COMPILE]
                names = dict.fromkeys(candidate.name for candidate in able(options, [ours, *others], dtype, norm))
                case = replace(base, Z=Z, layer_norm=norm)
                found += [Job("peers", f"Z{Z}", tuple(names), case, dtype, options.device)] * bool(names)
    return found


def drawn(base: Case) -> list[Case]:
    """Cases with sizes drawn for its Z and layer norm, the same ones each time."""
    random, found = Random(f"{base.Z} {base.layer_norm}"), list[Case]()

    def between(low: float, high: float) -> float:
        return math.exp(random.uniform(math.log(low), math.log(high)))

    while len(found) < POINTS:
        T, B, H = (round(between(*ends)) for ends in RANGES.values())
        case = replace(base, T=T, B=B, H=H, S=round(H * between(*SHARE)))
        found += [case] * (case.multiply_adds() <= MOST_WORK)
    return found


def rows(job: Job) -> Iterator[dict[str, Any]]:
    """Yield a row for each point, pass and candidate."""
    cases = drawn(job.case)
    reasons = {name: refusal(find(name), cases[0], job.torch_dtype, job.torch_device) for name in job.candidates}
    yield from (job.row("point", name, status=f"refused: {reason}") for name, reason in reasons.items() if reason)
    going = [name for name, reason in reasons.items() if not reason]
    for case in cases:
        yield from _point(job, case, [name for name in going if case is cases[0] or name not in SLOW_TO_COMPILE])


def _point(job: Job, case: Case, names: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the time of each pass of each candidate, and the paired ratio of ours to it."""
    device, ours = job.torch_device, job.candidates[0]
    torch._dynamo.reset()  # torch.compile would take a second size for a wish to compile once for all sizes
    x = example(case, job.torch_dtype, device)
    models = {name: find(name).build(case, job.torch_dtype, device) for name in names}
    for step, run in PASSES.items():
        calls = {name: partial(run, model, x) for name, model in models.items()}
        seconds = interleaved(stopwatch(device), calls, BUDGET, LEAST, MOST, WARM)
        for name, found in seconds.items():
            row = job.row("point", name, case, **pairing.quartiles(found), multiply_adds=find(name).multiply_adds(case))
            row |= {"pass": step, "ours": ours, "library": find(name).library}
            if name != ours and ours in seconds:
                pairs = zip(*zip(seconds[ours], found, strict=False), strict=True)
                ratio = pairing.paired_ratio(*pairs)
                row |= {"ratio": ratio.ratio, "ratio_low": ratio.low, "ratio_high": ratio.high}
            yield row
