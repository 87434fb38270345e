"""What the studies let a subject do, and what they do not let by."""

import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from suite.shared import measure
from suite.shared.cases import Case
from suite.shared.corpus import one_hot, streams
from suite.shared.subjects import Subject


def refusal(subject: Subject, case: Case, dtype: torch.dtype, device: torch.device) -> str | None:
    """Return why a subject's figures would say nothing at these sizes: it cannot run, or computes something else."""
    reason = subject.why_unavailable(device, dtype)
    if reason is not None:
        return reason
    worst = subject.check(replace(case, T=2, B=2), dtype, device)[:1]
    if worst and not worst[0].ratio <= 1:
        return f"{worst[0].tensor} is off by {worst[0].error:.1e}, allowed {worst[0].allowed:.1e}"
    return None


def example(case: Case, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return real characters, one-hot: [T, B, I]."""
    return one_hot(streams(case.I, case.T, case.B), case.I, dtype).to(device)


def training_step(model: nn.Module, x: Tensor) -> Callable[[], None]:
    """Return a training step on x [T, B, I] without an optimiser: forward, mean square, backward, until all is done."""

    def step() -> None:
        model.zero_grad(set_to_none=True)
        model(x)[0].square().mean().backward()
        measure.synchronize(x.device)

    return step


def seconds_of(work: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error says that there was no memory."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)
