"""Calls of a model on a padded batch of sequences of different lengths: packed, or each sequence alone."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from suite.shared.cases import Case

State = tuple[Tensor, ...]
Output = tuple[Tensor, State]
#: (model, case, x [T, B, I], state) -> out [T, B, H], zero where a sequence has ended, and the final states
Call = Callable[[nn.Module, Case, Tensor, State | None], Output]


def packed(model: nn.Module, case: Case, x: Tensor, state: State | None) -> Output:
    """Call the model once, on a PackedSequence where the case has lengths."""
    if not case.lengths:
        result: Output = model(x, state)
        return result
    in_order = sorted(case.lengths, reverse=True) == list(case.lengths)
    out, last = model(pack_padded_sequence(x, list(case.lengths), enforce_sorted=in_order), state)
    return pad_packed_sequence(out, total_length=case.T)[0], last


def each_alone(model: nn.Module, case: Case, x: Tensor, state: State | None) -> Output:
    """Call the model on each sequence of a case with lengths, in a batch of its own and without padding."""
    outs, lasts = [], []
    for b, length in enumerate(case.lengths):
        start = None if state is None else tuple(part[..., b : b + 1, :] for part in state)
        out, last = model(x[:length, b : b + 1], start)
        outs.append(nn.functional.pad(out, (0, 0, 0, 0, 0, case.T - length)))
        lasts.append(last)
    return torch.cat(outs, dim=1), tuple(torch.cat(parts, dim=1) for parts in zip(*lasts, strict=True))
