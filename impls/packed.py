"""Packed sequences for any implementation: consecutive steps with equally many rows are a batch of one length."""

from collections.abc import Sequence
from itertools import accumulate, groupby, pairwise

import torch
from torch import Tensor

from .definition import LayerParams, LayerState, Run, RunPacked
from .dropout import Mask


def segments(batch_sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Return the runs of equal batch_sizes, each as (number of steps, rows)."""
    return [(len(list(steps)), rows) for rows, steps in groupby(batch_sizes)]


def rows_of(x: Tensor, batch_sizes: Sequence[int]) -> list[int]:
    """Return how many rows are still going at each step: batch_sizes if there are any, else B for x [T, B, *]."""
    return list(batch_sizes) or [x.shape[1]] * len(x)


def steps_of(rows: Sequence[int]) -> list[slice]:
    """Return the slice of each step's tokens among all; rows: how many are still going at each step."""
    return [slice(*ends) for ends in pairwise(accumulate(rows, initial=0))]


def tokens(y: Tensor) -> Tensor:
    """Return y [T, B, F], or of packed sequences [N, F], as one array over all tokens, [N, F]."""
    return y.flatten(0, -2)


def by_segments(run: Run) -> RunPacked:
    """Make an implementation for packed sequences from one for batches, which runs one segment after another.

    Each segment runs the rows that are still going, from the state of the segment before; a row that has ended keeps
    the state that it ended in.
    """

    def run_packed(
        p: LayerParams, x: Tensor, batch_sizes: Sequence[int], s: LayerState, mask: Mask | None
    ) -> tuple[Tensor, LayerState]:
        """Run one layer over all tokens: x [N, I], s [B, *] -> out [N, H] and each row's state after its own end."""
        outs, ended, end = [], [], 0
        for steps, rows in segments(batch_sizes):
            tokens, end = slice(end, end + steps * rows), end + steps * rows
            ended.append([part[rows:] for part in s])
            s = LayerState(*(part[:rows] for part in s))
            out, s = run(p, x[tokens].unflatten(0, (steps, rows)), s, _part(mask, tokens, (steps, rows)))
            outs.append(out.flatten(0, 1))
        # The shortest sequences end first and stand last.
        last = (torch.cat(parts) for parts in zip(s, *reversed(ended), strict=True))
        return torch.cat(outs), LayerState(*last)

    return run_packed


def _part(mask: Mask | None, tokens: slice, shape: tuple[int, int]) -> Mask | None:
    """Return a segment's mask, [steps, rows, H]."""
    return None if mask is None else Mask(mask.kept[tokens].unflatten(0, shape), mask.scale)
