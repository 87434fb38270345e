"""Scaling: time and memory of a training step against each size in turn."""

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

from suite.measure.jobs import Job
from suite.measure.options import studied
from suite.measure.rounds import interleaved
from suite.measure.stopwatch import stopwatch
from suite.measure.work import example, peak, refusal, train
from suite.shared.candidates import LSTM, find
from suite.shared.cases import WORKLOADS, Case
from suite.shared.pairing import quartiles

#: T and B of the workload that all axes start from: every candidate takes a step of it in well under a second.
BASE: dict[str, Any] = {"T": 16, "B": 16}
#: By axis, its values.
SIZES = {
    "T": (4, 8, 16, 24, 32, 64),
    "B": (4, 8, 16, 24, 32, 64),
    "H": (64, 128, 256, 384, 512, 768),
    "S": (16, 32, 64, 96, 128, 192),
    "Z": (1, 4, 8, 16, 32, 64),
}
#: Rounds of a point take so many seconds for each candidate, and are at least and at most so many.
BUDGET, LEAST, MOST = 0.2, 3, 15
#: Seconds of one step above which a candidate goes no further along an axis.
SLOW = 0.5


def jobs(options: Namespace) -> list[Job]:
    """Jobs of the study, one for each size, with all candidates together so that their rounds can take turns."""
    base, found = replace(WORKLOADS[options.workload], **BASE), list[Job]()
    for dtype, norm, axis in product(options.dtype, (False, True), SIZES):
        names = [one.name for one in studied(options, dtype, norm) if axis not in "SZ" or one.name != LSTM.name]
        job = Job("scaling", axis, tuple(names), replace(base, layer_norm=norm), dtype, options.device)
        found += [job] * bool(names)
    return found


def rows(job: Job) -> Iterator[dict[str, Any]]:
    """Yield a row for each value of the axis and each candidate, as far as it goes in the time allowed."""
    reasons = {name: refusal(find(name), job.case, job.torch_dtype, job.torch_device) for name in job.candidates}
    yield from (job.row("point", name, status=f"refused: {reason}") for name, reason in reasons.items() if reason)
    going = [name for name, reason in reasons.items() if not reason]
    for n in SIZES[job.part]:
        size: dict[str, Any] = {job.part: n}
        case = replace(job.case, **size)
        found = list(_point(job, case, going))
        yield from (row | {"n": n, "slow_s": SLOW} for row in found)
        going = [row["implementation"] for row in found if row["median_s"] < SLOW]


def _point(job: Job, case: Case, names: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the time and memory of each candidate at one case; their rounds take turns, so that a drift hits all."""
    device, x = job.torch_device, example(case, job.torch_dtype, job.torch_device)
    models = {name: find(name).build(case, job.torch_dtype, device) for name in names}
    steps = {name: partial(train, model, x) for name, model in models.items()}
    for name, seconds in interleaved(stopwatch(device), steps, BUDGET, LEAST, MOST).items():
        figures = quartiles(seconds) | {"peak_bytes": peak(train, models[name], x)}
        yield job.row("point", name, case, **figures, multiply_adds=find(name).multiply_adds(case))
        models[name].zero_grad(set_to_none=True)
