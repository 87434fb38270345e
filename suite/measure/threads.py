"""Threads: time of a forward pass and of a training step against the number of threads, for few rows and for many."""

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from statistics import median

import torch

from suite.measure.jobs import Job
from suite.measure.options import fastest
from suite.measure.timing import interleaved
from suite.measure.work import PASSES, admitted, example
from suite.shared.candidates import LSTM, find
from suite.shared.cases import WORKLOADS
from suite.shared.process import Row

#: Rows of a batch: one sequence alone, fewer rows than most machines have cores, and many.
ROWS = (1, 4, 32)
#: Visits of each job, and seconds of a pass with a number of threads in a visit.
VISITS, BUDGET = 5, 0.2


def jobs(options: Namespace) -> list[Job]:
    """One job per B: torch.nn.LSTM and the implementations asked for, by default the one that "auto" takes."""
    case, device, todo = WORKLOADS[options.workload], options.device, list[Job]()
    for dtype in options.dtype if device.type == "cpu" else ():
        ours = options.implementation or [fastest(device, dtype)]
        candidates = tuple(dict.fromkeys([*ours, LSTM.name]))
        todo += [Job("threads", f"B{B}", candidates, replace(case, B=B), dtype, options.device) for B in ROWS]
    return todo


def rows(job: Job, first: bool) -> Iterator[Row]:
    """Yield the time of each candidate and pass with 1 thread up to torch's default number."""
    names, device, every = (yield from admitted(job)), job.device, torch.get_num_threads()
    x = example(job.case, job.torch_dtype, device)
    models = {name: find(name).build(job.case, job.torch_dtype, device) for name in names}
    for threads, step in product(range(1, every + 1), PASSES):
        torch.set_num_threads(threads)
        for name, times in interleaved(PASSES[step], models, x, BUDGET).items():
            yield job.row("point", name) | {"pass": step, "n": threads, "median_s": median(times)}
