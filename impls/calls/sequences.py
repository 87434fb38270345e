"""How a caller lays out sequences, and how layers read them: a batch, one sequence alone, or a PackedSequence.

Where an implementation takes batches alone, consecutive steps of packed sequences with equally many rows are one.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from ..definition import Inputs, LayerParams, LayerState, Mask, Run
from . import arguments as checks

Sequences = Tensor | PackedSequence


class Layout:
    """A caller's sequences as the layers read them, and the way back to how the caller wants results.

    x: [T, B, I], or for packed sequences [N, I]: all their tokens, step after step. batch_sizes: of packed sequences,
    the rows of each step, which never rise. rows: the batch axis of the caller's states, (B,), or () for one sequence
    alone.
    """

    def __init__(self, x: Tensor, rows: tuple[int, ...], batch_sizes: Sequence[int] = ()) -> None:
        self.x, self.rows, self.batch_sizes = x, rows, batch_sizes

    def start(self, part: Tensor) -> Tensor:
        """A state of the caller's, [L, *rows, F], as the layers read it, [L, B, F]."""
        return part

    def last(self, part: Tensor) -> Tensor:
        """A final state, [L, B, F], as the caller's states are laid out, [L, *rows, F]."""
        return part

    def out(self, out: Tensor) -> Sequences:
        """The last layer's output laid out as the caller's x."""
        return out


class BatchFirst(Layout):
    """Sequences of one length: x [B, T, I]; states are as in any batch."""

    def __init__(self, x: Tensor) -> None:
        super().__init__(x.transpose(0, 1), (x.shape[0],))

    def out(self, out: Tensor) -> Tensor:
        """[B, T, H] of [T, B, H]."""
        return out.transpose(0, 1)


class Alone(Layout):
    """One sequence without an axis for the batch: x [T, I]."""

    def __init__(self, x: Tensor) -> None:
        super().__init__(x.unsqueeze(1), ())

    def start(self, part: Tensor) -> Tensor:
        """[L, 1, F] of [L, F]."""
        return part.unsqueeze(1)

    def last(self, part: Tensor) -> Tensor:
        """[L, F] of [L, 1, F]."""
        return part.squeeze(1)

    def out(self, out: Tensor) -> Tensor:
        """[T, H] of [T, 1, H]."""
        return out.squeeze(1)


class Packed(Layout):
    """Sequences of any lengths: their tokens step by step, the longest sequence first."""

    def __init__(self, packed: PackedSequence, batch_sizes: list[int]) -> None:
        super().__init__(packed.data, (batch_sizes[0],), batch_sizes)
        self._packed = packed

    def start(self, part: Tensor) -> Tensor:
        """Sort the rows of the caller's state as the tokens are."""
        order = self._packed.sorted_indices
        return part if order is None else part.index_select(1, order)

    def out(self, out: Tensor) -> PackedSequence:
        """Pack the output as x was."""
        _, batch_sizes, order, back = self._packed
        return PackedSequence(out, batch_sizes, order, back)

    def last(self, part: Tensor) -> Tensor:
        """Put the rows of the final state back into the caller's order."""
        back = self._packed.unsorted_indices
        return part if back is None else part.index_select(1, back)


def layout(x: Any, input_size: int, batch_first: bool) -> Layout:
    """The layout of x; TypeError or ValueError if it is no valid tensor or PackedSequence."""
    if isinstance(x, PackedSequence):
        return Packed(x, checks.packed(x, input_size))
    x = checks.sequence(x, input_size, "B, T" if batch_first else "T, B")
    if x.dim() == 2:
        return Alone(x)
    return BatchFirst(x) if batch_first else Layout(x, (x.shape[1],))


def starts(layout: Layout, state: Sequence[Tensor] | None, L: int, sizes: tuple[int, ...]) -> list[LayerState]:
    """The state that each layer starts from, [B, *] each; zeros if there is none."""
    if state is None:
        B = layout.rows[0] if layout.rows else 1
        zeros = {size: layout.x.new_zeros(B, size) for size in sizes}  # shared, since they are only read
        return [LayerState(*(zeros[size] for size in sizes))] * L
    parts = checks.state(state, L, layout.rows, sizes)
    stacked = (layout.start(part.expand(L, *layout.rows, size)) for part, size in zip(parts, sizes, strict=True))
    return [LayerState(*layer) for layer in zip(*(part.unbind() for part in stacked), strict=True)]


def by_segments(run: Run, p: LayerParams, inputs: Inputs) -> tuple[Tensor, LayerState]:
    """Run packed sequences, one segment after another, with an implementation that takes batches of one length.

    Each segment runs the rows that have not ended, from the state of the segment before; a row that has ended keeps
    the state that it ended in.
    """
    x, s, mask, batch_sizes = inputs
    outs, ended, end = [], [], 0
    for rows, segment in groupby(batch_sizes):
        steps = len(list(segment))
        tokens, end = slice(end, end + steps * rows), end + steps * rows
        ended.append([part[rows:] for part in s])
        s = LayerState(*(part[:rows] for part in s))
        part = mask and Mask(mask.kept[tokens].unflatten(0, (steps, rows)), mask.scale)
        out, s = run(p, Inputs(x[tokens].unflatten(0, (steps, rows)), s, part))
        outs.append(out.flatten(0, 1))
    # The shortest sequences end first and come last.
    last = (torch.cat(parts) for parts in zip(s, *reversed(ended), strict=True))
    return torch.cat(outs), LayerState(*last)
