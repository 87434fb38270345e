"""What is measured of a candidate: its input, its passes, and why its figures would say nothing."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from suite.measure.stopwatch import stopwatch, warm_up
from suite.shared import usage
from suite.shared.candidates import Candidate
from suite.shared.cases import Case, lengths
from suite.shared.corpus import streams

#: [T, B, I], or packed sequences.
Input = Tensor | PackedSequence
#: A pass: (model, x).
Pass = Callable[[nn.Module, Input], None]


def example(case: Case, dtype: torch.dtype, device: torch.device) -> Input:
    """Input: real characters, one-hot, or for handwriting a seeded random walk of pen offsets.

    It is packed where the case has lengths.
    """
    if case.name == "handwriting":
        return pen_offsets(case).to(device, dtype)
    x = nn.functional.one_hot(streams(case.I, case.T, case.B), case.I).to(device, dtype)
    return pack_padded_sequence(x, list(case.lengths)) if case.lengths else x


def redrawn(case: Case, draw: int) -> Case:
    """Case with the lengths of a draw, where it has lengths."""
    return replace(case, lengths=lengths(case.T, case.B, draw)) if case.lengths else case


def first_steps(x: Input, T: int) -> Input:
    """First T steps of an input."""
    if isinstance(x, Tensor):
        return x[:T]
    return PackedSequence(x.data[: int(x.batch_sizes[:T].sum())], x.batch_sizes[:T])


def repeated(x: Input, T: int, rows: int) -> Input:
    """First step of an input T times, of at most so many rows."""
    if isinstance(x, Tensor):
        return x[:1, :rows].repeat(T, 1, 1)
    first = x.data[: min(rows, int(x.batch_sizes[0]))]
    return PackedSequence(first.repeat(T, 1), torch.full((T,), len(first)))


def pen_offsets(case: Case) -> Tensor:
    """Pen offsets [T, B, 3]: steps in x and y of a pen whose direction drifts, and whether it is lifted (1 in 25)."""
    generator = torch.Generator().manual_seed(0)
    turn, length, lift = (torch.rand(case.T, case.B, generator=generator) for _ in range(3))
    direction = 2 * math.pi * ((turn - 0.5) / 4).cumsum(0)
    return torch.stack([length * direction.cos(), length * direction.sin(), (lift < 1 / 25).double()], dim=-1)


def forward(model: nn.Module, x: Input) -> None:
    """Run the forward pass alone."""
    with torch.no_grad():
        model(x)


def train(model: nn.Module, x: Input) -> None:
    """Run a training step, but for the optimiser's part, which is the same for all: forward, mean square, backward."""
    model.zero_grad(set_to_none=True)
    out = model(x)[0]
    (out if isinstance(out, Tensor) else out.data).square().mean().backward()


#: By the names that rows have.
PASSES: dict[str, Pass] = {"forward": forward, "train": train}


def refusal(candidate: Candidate, case: Case, dtype: torch.dtype, device: torch.device) -> str | None:
    """Reason why a candidate's figures would say nothing at these sizes: it cannot run, or computes something else."""
    if (reason := candidate.why_unavailable(device, dtype)) is not None:
        return reason
    # What compiles for each size is checked at the batch that it was compiled for.
    B = case.B if candidate.compiles_each_size and not case.lengths else 2
    few = replace(case, T=2, B=B, lengths=(2, 1) if case.lengths else ())
    worst = candidate.check(few, dtype, device)[:1]
    if worst and not worst[0].ratio <= 1:
        return f"{worst[0].tensor} is off by {worst[0].error:.1e}, allowed {worst[0].allowed:.1e}"
    return None


def peak(step: Pass, model: nn.Module, x: Input) -> int:
    """Bytes that a later pass of a candidate holds at most above parameters and input."""
    device = x.data.device
    if device.type == "cuda":
        warm_up(stopwatch(device), lambda: step(model, x))
    model.zero_grad(set_to_none=True)
    torch.cuda.empty_cache()  # which does nothing where CUDA was not used
    return usage.peak_bytes(lambda: step(model, x), device)


def is_out_of_memory(error: Exception) -> bool:
    """True if an error says that there was no memory."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)
