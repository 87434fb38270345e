"""Scaling: time and memory of a training step against each size in turn."""

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from statistics import median
from typing import Any

from suite.measure.jobs import Job
from suite.measure.options import studied
from suite.measure.timing import interleaved
from suite.measure.work import admitted, example, peak, train
from suite.shared.candidates import LSTM, find
from suite.shared.cases import WORKLOADS
from suite.shared.process import Row

#: T and B of the workload that all axes start from: every candidate takes well under a second for a step of it.
BASE: dict[str, Any] = {"T": 16, "B": 16}
#: By axis, its values.
SIZES = {
    "T": (4, 8, 16, 24, 32, 64),
    "B": (4, 8, 16, 24, 32, 64),
    "H": (64, 128, 256, 384, 512, 768),
    "S": (16, 32, 64, 96, 128, 192),
    "Z": (1, 4, 8, 16, 32, 64),
}
#: Visits of each job, and seconds of a point in a visit.
VISITS, BUDGET = 3, 0.4
#: Seconds of a step above which a candidate is not measured at larger sizes.
SLOW = 0.5


def jobs(options: Namespace) -> list[Job]:
    """One job per size that varies, with all candidates, so that their rounds alternate."""
    base, todo = replace(WORKLOADS[options.workload], **BASE), list[Job]()
    for dtype, norm, axis in product(options.dtype, (False, True), SIZES):
        names = [one.name for one in studied(options, dtype, norm) if axis not in "SZ" or one.name != LSTM.name]
        job = Job("scaling", axis, tuple(names), replace(base, layer_norm=norm), dtype, options.device)
        todo += [job] * bool(names)
    return todo


def rows(job: Job, first: bool) -> Iterator[Row]:
    """Yield a row for each value of the size and each candidate that is not too slow for it."""
    names, device = (yield from admitted(job)), job.device
    for n in SIZES[job.part]:
        size: dict[str, Any] = {job.part: n}
        case = replace(job.case, **size)
        x = example(case, job.torch_dtype, device)
        models = {name: find(name).build(case, job.torch_dtype, device) for name in names}
        seconds = {name: median(times) for name, times in interleaved(train, models, x, BUDGET).items()}
        for name, model in models.items():
            figures: Row = {"median_s": seconds[name], "n": n, "slow_s": SLOW}
            if first:
                figures |= {"peak_bytes": peak(train, model, x), "multiply_adds": find(name).multiply_adds(case)}
            yield job.row("point", name, case, **figures)
            model.zero_grad(set_to_none=True)
        if not (names := [name for name in names if seconds[name] < SLOW]):
            return
