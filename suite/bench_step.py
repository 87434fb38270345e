"""What one benchmark process does: check one subject on one workload, then time it and measure its memory.

Started by `suite/bench.py` with a job file; each pass leaves its row there as soon as it is measured, so that a later
crash takes nothing with it.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from . import machine, measure
from .cases import Case
from .jobs import Job
from .results import write_whole
from .subjects import find
from .text import one_hot, streams

#: Seconds that the rounds of one pass may take together, and how many there are at least and at most.
BUDGET, LEAST, MOST = 1.5, 3, 50


class RefusedError(Exception):
    """The subject does not compute what it should, so its speed says nothing."""


@pytest.fixture(scope="module")
def job(request: pytest.FixtureRequest) -> Job:
    """Read the job and take on its memory limit."""
    job = Job.read(request.config.getoption("--job"))
    job.limit_memory()
    return job


@pytest.fixture(scope="module")
def model(job: Job) -> nn.Module:
    """Build the subject that was found right."""
    return checked_model(job)


def checked_model(job: Job) -> nn.Module:
    """Build the subject, once it has passed the comparison at the sizes of the workload, else RefusedError says why."""
    with labelled(job, *job.passes):
        subject, device = find(job.subject), job.torch_device
        reason = subject.why_unavailable(device, job.torch_dtype)
        if reason is not None:
            raise RefusedError(reason)
        worst = subject.check(replace(job.case, T=2, B=2), job.torch_dtype, device)[:1]
        if worst and not worst[0].ratio <= 1:
            raise RefusedError(f"{worst[0].tensor} is off by {worst[0].error:.1e}, allowed {worst[0].allowed:.1e}")
        return subject.build(job.case, job.torch_dtype, device)


def bench_forward(job: Job, model: nn.Module, benchmark: Any) -> None:
    x = example(job)

    def forward() -> Tensor:
        with torch.no_grad():
            out: Tensor = model(x)[0]
        measure.synchronize(job.torch_device)
        return out

    run(job, "forward", forward, forward, model, benchmark)


def bench_train(job: Job, model: nn.Module, benchmark: Any) -> None:
    x = example(job)

    def train() -> None:
        model.zero_grad(set_to_none=True)
        model(x)[0].square().mean().backward()
        measure.synchronize(job.torch_device)

    run(job, "train", train, lambda: model(x), model, benchmark)


def run(
    job: Job,
    name: str,
    work: Callable[[], object],
    kept_by: Callable[[], object],
    model: nn.Module,
    benchmark: Any,
) -> None:
    """Time the pass, measure in runs apart its memory and what its forward part keeps, and leave the row."""
    with labelled(job, name):
        first, seconds = seconds_of(work), seconds_of(work)
        rounds = max(LEAST, min(MOST, int(BUDGET / seconds)))
        benchmark.extra_info.update(job.columns(name))
        benchmark.pedantic(work, rounds=rounds)
        model.zero_grad(set_to_none=True)
        peak = measure.peak_bytes(work, job.torch_device)
        kept = measure.kept_bytes(kept_by, job.torch_device)
        stats = benchmark.stats.stats
        leave(
            job,
            name,
            status="ok",
            median_s=stats.median,
            q1_s=stats.q1,
            q3_s=stats.q3,
            rounds=stats.rounds,
            first_s=first,
            peak_bytes=peak,
            kept_bytes=kept,
            parameters=sum(p.numel() for p in model.parameters()),
            multiply_adds=find(job.subject).multiply_adds(job.case),
        )


def seconds_of(work: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def example(job: Job) -> Tensor:
    """Return the input: real characters, one-hot, or for handwriting a seeded random walk of pen offsets."""
    case = job.case
    if case.name == "handwriting":
        return pen_offsets(case).to(job.torch_dtype).to(job.torch_device)
    return one_hot(streams(case.I, case.T, case.B), case.I, job.torch_dtype).to(job.torch_device)


def pen_offsets(case: Case) -> Tensor:
    """Return [T, B, 3]: steps in x and y of a pen whose direction drifts, and if it is lifted, on one step in 25."""
    generator = torch.Generator().manual_seed(0)
    turn, length, lift = (torch.rand(case.T, case.B, generator=generator) for _ in range(3))
    direction = 2 * math.pi * ((turn - 0.5) / 4).cumsum(0)
    return torch.stack([length * direction.cos(), length * direction.sin(), (lift < 1 / 25).double()], dim=-1)


@contextmanager
def labelled(job: Job, *passes: str) -> Iterator[None]:
    """Leave a row that says what went wrong, and let it go on as the failure that it is."""
    try:
        yield
    except Exception as error:
        for name in passes:
            leave(job, name, status=status_of(error))
        raise


def status_of(error: Exception) -> str:
    """Return the label of a row that has no figures."""
    text = " ".join(str(error).split())
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in text:
        return "out of memory"
    kind = "refused" if isinstance(error, RefusedError) else f"failed: {type(error).__name__}"
    return f"{kind}: {text}"[:200]


def leave(job: Job, name: str, **figures: Any) -> None:
    """Write the row of one pass where the parent looks for it."""
    row = job.columns(name) | figures | machine.environment(job.torch_device)
    write_whole(job.folder / f"{name}.json", json.dumps(row))
