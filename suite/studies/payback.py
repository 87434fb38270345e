"""Payback: after how many training steps what starts slowly (a build, a compiler, a capture) has paid for itself."""

import statistics
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from suite.shared.cases import WORKLOADS
from suite.shared.subjects import find
from suite.studies.tasks import Task
from suite.studies.work import example, refusal, seconds_of, training_step

#: Seconds that the later steps may take together, and how many there are at least and at most.
BUDGET, LEAST, MOST = 2.0, 3, 50


def tasks(options: Namespace) -> list[Task]:
    """Return a task for each subject, those that compile for each size included."""
    case = WORKLOADS[options.workload]
    return [
        Task("payback", subject.name, (subject.name,), replace(case, layer_norm=norm), dtype, options.device)
        for dtype in options.dtype
        for norm in options.layer_norms[:1]
        for subject in options.chosen(norm, dtype, compiling=True)
    ]


def environment(folder: Path) -> Mapping[str, str]:
    """Return the variables that have every build, compiler and kernel cache start empty."""
    variables = ("TORCH_EXTENSIONS_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
    return {variable: str(folder / variable.lower()) for variable in variables}


def rows(task: Task) -> Iterator[dict[str, Any]]:
    """Yield what the first training step takes, with all that it builds, and what a later one takes."""
    (name,) = task.subjects
    subject, dtype, device = find(name), task.torch_dtype, task.torch_device
    model, x = subject.build(task.case, dtype, device), example(task.case, dtype, device)
    # What the first use of torch takes is no subject's own.
    training_step(torch.nn.LSTM(8, 8, dtype=dtype, device=device), torch.ones(2, 2, 8, dtype=dtype, device=device))()
    step = training_step(model, x)
    start = time.perf_counter()
    reason = subject.why_unavailable(device, dtype)  # builds what has to be built
    if reason is None:
        step()
        first = time.perf_counter() - start
        seconds = [seconds_of(step)]
        rounds = max(LEAST, min(MOST, int(BUDGET / seconds[0])))
        seconds += [seconds_of(step) for _ in range(rounds)]
        reason = refusal(subject, task.case, dtype, device)
    if reason is not None:
        yield task.row("start", name, status=f"refused: {reason}")
        return
    yield task.row("start", name, first_s=first, step_s=statistics.median(seconds), rounds=len(seconds))
