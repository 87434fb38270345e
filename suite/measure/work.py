"""Inputs and passes that are measured, and the check that a candidate's results are right."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from suite.measure.timing import Input, Pass, stopwatch, warm_up
from suite.shared import usage
from suite.shared.candidates import Candidate
from suite.shared.cases import Case


def example(case: Case, dtype: torch.dtype, device: torch.device) -> Input:
    """Random input, the same each time; packed if the case has lengths."""
    x = torch.randn(case.T, case.B, case.I, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    return pack_padded_sequence(x, list(case.lengths)) if case.lengths else x


def forward(model: nn.Module, x: Input) -> None:
    with torch.no_grad():
        model(x)


def train(model: nn.Module, x: Input) -> None:
    """Run a training step without an optimiser: forward, mean square, backward."""
    model.zero_grad(set_to_none=True)
    out = model(x)[0]
    (out if isinstance(out, Tensor) else out.data).square().mean().backward()


#: By name in the rows.
PASSES: dict[str, Pass] = {"forward": forward, "train": train}


def short(case: Case, B: int) -> Case:
    """Two steps of B sequences at a case's other sizes, on which candidates are checked."""
    return replace(case, T=2, B=B, lengths=(2,) * -(-B // 2) + (1,) * (B // 2) if case.lengths else ())


def refusal(candidate: Candidate, case: Case, dtype: torch.dtype, device: torch.device) -> str | None:
    """Reason not to measure a candidate at these sizes: it cannot run, or its results are wrong; None if it may be."""
    if (reason := candidate.why_unavailable(device, dtype)) is not None:
        return reason
    # Two sequences could run other kernels than the timed ones; forms that autograd differentiates have no kernels.
    whole = candidate.hand_written or candidate.compiles_each_size
    worst = candidate.check(short(case, case.B if whole else 2), dtype, device)[:1]
    if worst and not worst[0].ratio <= 1:
        return f"{worst[0].tensor} is off by {worst[0].error:.1e}, allowed {worst[0].allowed:.1e}"
    return None


def peak(step: Pass, model: nn.Module, x: Input) -> int:
    """Peak memory of a pass, on a GPU of one that is not the first, in bytes, above parameters and input."""
    device = x.data.device
    if device.type == "cuda":
        warm_up(stopwatch(device), lambda: step(model, x))
    model.zero_grad(set_to_none=True)
    torch.cuda.empty_cache()  # does nothing if CUDA was not used
    return usage.peak_bytes(lambda: step(model, x), device)
