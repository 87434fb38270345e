"""Payback: after how many training steps what starts slowly (a build, a compiler, a capture) has paid for itself."""

import statistics
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from suite.shared.candidates import find
from suite.shared.cases import WORKLOADS
from suite.shared.jobs import Job
from suite.shared.stopwatch import stopwatch, warm_up
from suite.shared.work import example, refusal, train

#: Seconds that the later steps may take together, and how many there are at least and at most.
BUDGET, LEAST, MOST = 2.0, 3, 50


def jobs(options: Namespace) -> list[Job]:
    """Return a job for each candidate, those that compile for each size included."""
    found: list[Job] = options.jobs("payback", WORKLOADS[options.workload], options.layer_norms[:1], compiling=True)
    return found


def environment(folder: Path) -> Mapping[str, str]:
    """Return the variables that have every build, compiler and kernel cache start empty."""
    variables = ("TORCH_EXTENSIONS_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
    return {variable: str(folder / variable.lower()) for variable in variables}


def rows(job: Job) -> Iterator[dict[str, Any]]:
    """Yield what the first training step takes, with all that it builds, and what a later one takes."""
    (name,) = job.candidates
    candidate, dtype, device = find(name), job.torch_dtype, job.torch_device
    model, x = candidate.build(job.case, dtype, device), example(job.case, dtype, device)
    # What the first use of torch takes is no candidate's own.
    train(torch.nn.LSTM(8, 8, dtype=dtype, device=device), torch.ones(2, 2, 8, dtype=dtype, device=device))
    watch, step = stopwatch(device), partial(train, model, x)
    start = time.perf_counter()
    reason = candidate.why_unavailable(device, dtype)  # builds what has to be built
    built = time.perf_counter() - start
    if reason is None:
        early = warm_up(watch, step)
        rounds = max(LEAST, min(MOST, int(BUDGET / early[-1])))
        seconds = [early[-1], *(watch.seconds(step) for _ in range(rounds))]
        reason = refusal(candidate, job.case, dtype, device)
    if reason is not None:
        yield job.row("start", name, status=f"refused: {reason}")
        return
    later = statistics.median(seconds)
    # What early steps took on top of a later one: the first compiles, and the third, say, is captured.
    first = built + sum(early) - (len(early) - 1) * later
    yield job.row("start", name, first_s=first, step_s=later, rounds=len(seconds))
