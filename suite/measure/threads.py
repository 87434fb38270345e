"""Threads: time of a forward pass and of a training step over the number of threads, for few rows and for many."""

from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import torch

from impls import registry
from suite.measure.jobs import Job
from suite.measure.rounds import interleaved
from suite.measure.stopwatch import stopwatch
from suite.measure.work import PASSES, example, refusal
from suite.shared.arithmetic import dtype_of
from suite.shared.candidates import LSTM, find
from suite.shared.cases import WORKLOADS
from suite.shared.pairing import quartiles

#: Rows of a batch: one sequence alone, fewer rows than most machines have cores, and many.
ROWS = (1, 4, 32)
#: Each number of threads comes up so many times, so that a drift hits all of them.
VISITS = 5
#: Rounds of a visit take so many seconds for each candidate, and are at least and at most so many.
BUDGET, LEAST, MOST = 0.1, 1, 8


def jobs(options: Namespace) -> list[Job]:
    """Jobs, one for each B: ours and torch.nn.LSTM together, so that rounds can take turns.

    Ours are the implementations asked for, else the one that "auto" takes.
    """
    case, found = WORKLOADS[options.workload], []
    for dtype in options.dtype:
        ours = options.implementation or [registry.resolve("auto", torch.device(options.device), dtype_of(dtype)).name]
        candidates = tuple(dict.fromkeys([*ours, LSTM.name]))
        found += [Job("threads", f"B{B}", candidates, replace(case, B=B), dtype, options.device) for B in ROWS]
    return found


def rows(job: Job) -> Iterator[dict[str, Any]]:
    """Yield the time of each candidate and pass with 1 thread to all that torch takes by itself."""
    device, x, every = job.torch_device, example(job.case, job.torch_dtype, job.torch_device), torch.get_num_threads()
    reasons = {name: refusal(find(name), job.case, job.torch_dtype, device) for name in job.candidates}
    if device.type != "cpu":
        reasons = dict.fromkeys(job.candidates, f"threads are counted on a CPU, not on {device.type}")
    yield from (job.row("point", name, status=f"refused: {reason}") for name, reason in reasons.items() if reason)
    going = [name for name, reason in reasons.items() if not reason]
    models = {name: find(name).build(job.case, job.torch_dtype, device) for name in going}
    seconds: dict[tuple[int, str, str], list[float]] = defaultdict(list)
    for _, threads, step in product(range(VISITS), range(1, every + 1), PASSES):
        torch.set_num_threads(threads)
        calls = {name: partial(PASSES[step], model, x) for name, model in models.items()}
        for name, found in interleaved(stopwatch(device), calls, BUDGET, LEAST, MOST).items():
            seconds[threads, step, name] += found
    for (threads, step, name), found in seconds.items():
        yield job.row("point", name) | {"pass": step, "n": threads} | quartiles(found)
