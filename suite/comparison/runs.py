"""Runs of a case: through the module, as users call it, or through a layer function without the module.

The oracle takes the latter: layers, packed sequences, states and dropout are put together here, so that a fault in
`HyperLSTM` does not agree with itself.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from impls import HyperLSTM
from impls.calls import draw as draw_mask
from impls.definition import Inputs, LayerParams, LayerState, Mask
from impls.registry import find
from suite.cases.case import Case
from suite.comparison.draws import Draw, inputs
from suite.comparison.tensors import OUTPUTS, STATE, Arguments, Gradient, Results

State = tuple[Tensor, ...]
#: Out and the final state.
Returned = tuple[Tensor, State]
#: (model, case, x [T, B, I], state) -> out [T, B, H], zero where a sequence has ended, and the final states
ModelCall = Callable[[nn.Module, Case, Tensor, State | None], Returned]


class Outcome(NamedTuple):
    """What a run of a model gives: its results, and findings such as `argument changed: x`, each of them a failure."""

    results: Results
    findings: tuple[str, ...] = ()


#: Whether an argument requires a gradient.
Selector = Callable[[str], bool]
#: Calls a model of a case, once or several times, on a draw in its dtype.
Run = Callable[[HyperLSTM, Case, Draw], Outcome]


def packed(
    model: nn.Module,
    case: Case,
    x: Tensor,
    state: State | None,
    of_tokens: Callable[[Tensor], Tensor] = lambda tokens: tokens,
) -> Returned:
    """Call the model once, on a PackedSequence where the case has lengths; of_tokens: changes its data."""
    if not case.lengths:
        result: Returned = model(x, state)
        return result
    sequences = pack_padded_sequence(x, list(case.lengths), enforce_sorted=case.sorted_by_length)
    out, last = model(sequences._replace(data=of_tokens(sequences.data)), state)
    return pad_packed_sequence(out, total_length=case.T)[0], last


def without_module(model: nn.Module, case: Case, x: Tensor, state: State | None) -> Returned:
    """Call the layer function of the model's implementation, on a batch of the sequences of each length."""
    between = case.dropout if model.training else 0.0
    inside = case.recurrent_dropout if model.training else 0.0
    layers: Any = model.layers
    lasts = []
    for l, starts in enumerate(_starts(case, x, state)):
        p = LayerParams._make(getattr(layers[l], name) for name in LayerParams._fields)
        dropped = draw_mask(between if l else 0.0, (case.tokens, case.inputs[l]), x.device)
        g_dropped = draw_mask(inside, (case.tokens, case.H), x.device)
        x, last = _layer(str(model.impl), case, p, x, starts, dropped, g_dropped)
        lasts.append(last)
    state_of_layers = zip(*lasts, strict=True)
    return x, tuple(torch.stack(values) for values in state_of_layers)


def _layer(
    name: str,
    case: Case,
    p: LayerParams,
    x: Tensor,
    starts: Sequence[Tensor],
    dropped: Mask | None,
    g_dropped: Mask | None,
) -> tuple[Tensor, list[Tensor]]:
    """Out [T, B, H] and final states [B, *] of a layer; dropped: mask of x. g_dropped: mask of recurrent dropout."""
    out = x.new_zeros(case.T, case.B, case.H)
    rows_of_parts, ends = [], []
    for rows, tokens in _by_length(case):
        y = x[: len(tokens), rows]
        if dropped is not None:
            y = torch.where(dropped.kept[tokens], y, 0)
            if case.dropout < 1:
                y = y / (1 - case.dropout)
        mask = None if g_dropped is None else Mask(g_dropped.kept[tokens], g_dropped.scale)
        h, end = _run(name, p, Inputs(y, LayerState(*(value[rows] for value in starts)), mask))
        out = out.index_put((torch.arange(len(tokens))[:, None], rows), h)
        rows_of_parts.append(rows)
        ends.append(end)
    order = torch.cat(rows_of_parts).argsort()
    return out, [torch.cat(pieces)[order] for pieces in zip(*ends, strict=True)]


def _run(name: str, p: LayerParams, given: Inputs) -> tuple[Tensor, LayerState]:
    if len(given.x) == 0:
        empty = given.x.new_zeros(*given.x.shape[:2], p.bias.shape[1])
        return given.x.sum() * empty, given.start  # no numbers, but still a function of x
    return find(name).run(p, given)


def _by_length(case: Case) -> Iterator[tuple[Tensor, Tensor]]:
    """The sequences of each length: their places in the batch, and those of their tokens among all, [steps, rows]."""
    lengths = torch.tensor(case.lengths or (case.T,) * case.B, dtype=torch.int64)
    order = torch.arange(case.B) if case.sorted_by_length else lengths.sort(descending=True).indices
    position = order.argsort()
    batch_sizes = case.batch_sizes or (case.B,) * case.T
    begins = torch.tensor(list(accumulate(batch_sizes, initial=0)))
    for steps in sorted({*case.lengths} or {case.T}):
        rows = (lengths == steps).nonzero()[:, 0]
        yield rows, begins[:steps, None] + position[rows]


def _starts(case: Case, x: Tensor, state: State | None) -> list[Sequence[Tensor]]:
    """The state that each layer starts from, [B, *] each."""
    if state is None:
        zeros = [x.new_zeros(case.B, F) for F in (case.H, case.H, case.S, case.S)]
        return [zeros] * case.L
    starts: list[Sequence[Tensor]] = []
    for l in range(case.L):
        starts.append([part[l] if part.dim() == 3 else part for part in state])
    return starts


def plain(
    model: HyperLSTM,
    case: Case,
    sample: Draw,
    *,
    select: Selector = lambda _: True,
    arriving: Collection[str] = OUTPUTS,
    call: ModelCall = packed,
) -> Results:
    """Results of one call: output, final states and every gradient.

    select: whether an argument requires a gradient. arriving: the outputs whose cotangents are backpropagated.
    """
    leaves = arguments(model, sample, select)
    results = outputs(model, case, leaves, call)
    backward(results, sample, arriving)
    return results | gradients(leaves)


def run_plain(model: HyperLSTM, case: Case, sample: Draw, **options: Any) -> Outcome:
    """A run of one call; options: of `plain`."""
    return Outcome(plain(model, case, sample, **options))


def backward(results: Results, sample: Draw, arriving: Collection[str] = OUTPUTS) -> None:
    """Backpropagate the cotangents of these outputs; an output that requires no gradient is left out."""
    values = []
    d_values = []
    for name, cotangent in zip(OUTPUTS, sample.cotangents, strict=True):
        if name in arriving and results[name].requires_grad:
            values.append(results[name])
            d_values.append(cotangent.to(results[name].dtype))
    if values:
        torch.autograd.backward(values, d_values)


def arguments(model: HyperLSTM, sample: Draw, select: Selector = lambda _: True) -> Arguments:
    """Inputs, in the memory of the numbers, and parameters; select: see `plain`."""
    model.zero_grad(set_to_none=True)
    leaves = {name: value.detach() for name, value in inputs(sample).items()}
    leaves.update(model.named_parameters())
    for name, leaf in leaves.items():
        leaf.requires_grad_(select(name))
    return leaves


def state_of(leaves: Arguments) -> State | None:
    """The state that a call with these arguments starts from, None if none is given."""
    parts = [leaves[part] for part in STATE if part in leaves]
    return tuple(parts) or None


def outputs(model: HyperLSTM, case: Case, leaves: Arguments, call: ModelCall = packed) -> Results:
    """Output and final states of a call with these arguments."""
    return by_output(*call(model, case, leaves["x"], state_of(leaves)))


def by_output(out: Tensor, last: Sequence[Tensor]) -> Results:
    """What a model returns, by output."""
    return dict(zip(OUTPUTS, (out, *last), strict=True))


def gradients(leaves: Arguments) -> Results:
    """Gradients of arguments; a missing one counts as zero, and the rule decides whether zero is right."""
    results: Results = {}
    for name, leaf in leaves.items():
        if leaf.requires_grad:
            results[Gradient(name)] = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
    return results
