"""Threads: time of a forward pass and of a training step against the number of threads, for few rows and for many."""

from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import torch

from impls import registry
from suite.measure.jobs import Job
from suite.measure.rounds import interleaved
from suite.measure.work import PASSES, example
from suite.shared.arithmetic import dtype_of
from suite.shared.candidates import LSTM, find
from suite.shared.cases import WORKLOADS
from suite.shared.pairing import quartiles
from suite.shared.process import Row

#: Rows of a batch: one sequence alone, fewer rows than most machines have cores, and many.
ROWS = (1, 4, 32)
#: Number of times that each number of threads is visited, so that a drift hits all of them.
VISITS = 5
#: Seconds of a visit for each candidate and pass, and its least and greatest number of rounds.
BUDGET, LEAST, MOST = 0.1, 1, 8


def jobs(options: Namespace) -> list[Job]:
    """One job per B: torch.nn.LSTM and the implementations asked for, by default the one that "auto" takes."""
    case, device, found = WORKLOADS[options.workload], options.device, list[Job]()
    for dtype in options.dtype if device.type == "cpu" else ():
        ours = options.implementation or [registry.resolve("auto", device, dtype_of(dtype)).name]
        candidates = tuple(dict.fromkeys([*ours, LSTM.name]))
        found += [Job("threads", f"B{B}", candidates, replace(case, B=B), dtype, options.device) for B in ROWS]
    return found


def rows(job: Job) -> Iterator[Row]:
    """Yield the time of each candidate and pass with 1 thread up to torch's default number."""
    device, x, every = job.device, example(job.case, job.torch_dtype, job.device), torch.get_num_threads()
    models = {name: find(name).build(job.case, job.torch_dtype, device) for name in job.candidates}
    seconds: dict[tuple[int, str, str], list[float]] = defaultdict(list)
    for _, threads, step in product(range(VISITS), range(1, every + 1), PASSES):
        torch.set_num_threads(threads)
        for name, found in interleaved(PASSES[step], models, x, BUDGET, LEAST, MOST).items():
            seconds[threads, step, name] += found
    for (threads, step, name), found in seconds.items():
        yield job.row("point", name) | {"pass": step, "n": threads} | quartiles(found)
