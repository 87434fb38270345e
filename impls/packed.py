"""Packed sequences for any implementation: stretches of steps with the same rows are batches of one length."""

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from .definition import LayerParams, LayerState, Run, RunPacked


def segments(batch_sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Return stretches of steps over which batch_sizes is constant: (steps, rows) each."""
    return [(len(list(steps)), rows) for rows, steps in groupby(batch_sizes)]


def by_segments(run: Run) -> RunPacked:
    """Make an implementation for packed sequences of one for batches, run on each segment in turn.

    A segment takes the rows that are still going, and hands on their state; the others keep the one they ended in.
    """

    def run_packed(p: LayerParams, x: Tensor, batch_sizes: Sequence[int], s: LayerState) -> tuple[Tensor, LayerState]:
        """Run one layer over all tokens: x [N, I], s [B, *] -> out [N, H] and each row's state after its own end."""
        outs, ended = [], []
        cut = segments(batch_sizes)
        for (steps, rows), tokens in zip(cut, x.split([steps * rows for steps, rows in cut]), strict=True):
            ended.append([part[rows:] for part in s])
            s = LayerState(*(part[:rows] for part in s))
            out, s = run(p, tokens.unflatten(0, (steps, rows)), s)
            outs.append(out.flatten(0, 1))
        # The shortest sequences end first and stand last.
        last = (torch.cat(parts) for parts in zip(s, *reversed(ended), strict=True))
        return torch.cat(outs), LayerState(*last)

    return run_packed
