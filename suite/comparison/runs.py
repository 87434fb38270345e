"""Runs of a case: through the module, as users call it, or through a layer function without the module.

The oracle takes the latter: layers, packed sequences, states and dropout are put together here, so that a fault in
`HyperLSTM` does not agree with itself.
"""

from collections.abc import Callable, Collection, Sequence
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
from suite.comparison.tensors import (
    OUTPUTS,
    STATE,
    Argument,
    Arguments,
    Finding,
    Gradient,
    Output,
    Results,
    X,
    parameter,
)

State = tuple[Tensor, ...]
#: Out and the final state.
Returned = tuple[Tensor, State]
#: (model, case, x [T, B, I], state) -> out [T, B, H], zero where a sequence has ended, and the final states
ModelCall = Callable[[nn.Module, Case, Tensor, State | None], Returned]


class Outcome(NamedTuple):
    """What a run of a model gives: its results, and findings, each of which is a failure by itself."""

    results: Results
    findings: tuple[Finding, ...] = ()


#: Whether an argument requires a gradient.
Selector = Callable[[Argument], bool]
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


class Part(NamedTuple):
    """The sequences of a batch that have one length.

    rows: their places in the batch. steps: their length.
    tokens: their places among the packed tokens, [steps, rows]; None if nothing is packed.
    """

    rows: Tensor
    steps: int
    tokens: Tensor | None = None

    def of(self, mask: Mask | None) -> Mask | None:
        """The part of a mask over all tokens, [steps, rows, *]."""
        if mask is None or self.tokens is None:
            return mask
        return Mask(mask.kept[self.tokens], mask.scale)


def without_module(model: nn.Module, case: Case, x: Tensor, state: State | None) -> Returned:
    """Call the layer function of the model's implementation, on a batch of the sequences of each length."""
    over = (case.tokens,) if case.lengths else (case.T, case.B)
    between = case.dropout if model.training else 0.0
    inside = case.recurrent_dropout if model.training else 0.0
    layers: Any = model.layers
    lasts = []
    for l, starts in enumerate(_starts(case, x, state)):
        p = LayerParams._make(getattr(layers[l], name) for name in LayerParams._fields)
        before_layer = between if l else 0.0
        dropped = draw_mask(before_layer, (*over, case.inputs[l]), x.device)
        g_dropped = draw_mask(inside, (*over, case.H), x.device)
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
    parts = _by_length(case)
    ends = []
    for part in parts:
        y = x[: part.steps, part.rows]
        mask = part.of(dropped)
        if mask is not None:
            y = torch.where(mask.kept, y, 0)
            if case.dropout < 1:
                y = y / (1 - case.dropout)
        start = LayerState(*(value[part.rows] for value in starts))
        of_part = Inputs(y, start, part.of(g_dropped))
        h, end = _run(name, p, of_part)
        steps = torch.arange(part.steps)[:, None]
        out = out.index_put((steps, part.rows), h)
        ends.append(end)
    order = torch.cat([part.rows for part in parts]).argsort()
    return out, [torch.cat(pieces)[order] for pieces in zip(*ends, strict=True)]


def _run(name: str, p: LayerParams, given: Inputs) -> tuple[Tensor, LayerState]:
    if len(given.x) == 0:
        empty = given.x.new_zeros(*given.x.shape[:2], p.bias.shape[1])
        return given.x.sum() * empty, given.start  # no numbers, but still a function of x
    return find(name).run(p, given)


def _by_length(case: Case) -> list[Part]:
    """The sequences of each length, whose tokens are among the packed ones; all in one part if none is packed."""
    if not case.lengths:
        return [Part(torch.arange(case.B), case.T)]
    lengths = torch.tensor(case.lengths)
    order = torch.arange(case.B) if case.sorted_by_length else lengths.sort(descending=True).indices
    position = order.argsort()
    begins = torch.tensor(list(accumulate(case.batch_sizes, initial=0)))
    parts = []
    for steps in sorted(set(case.lengths)):
        rows = (lengths == steps).nonzero()[:, 0]
        parts.append(Part(rows, steps, begins[:steps, None] + position[rows]))
    return parts


def _starts(case: Case, x: Tensor, state: State | None) -> list[Sequence[Tensor]]:
    """The state that each layer starts from, [B, *] each."""
    if state is None:
        zeros = [x.new_zeros(case.B, F) for F in (case.H, case.H, case.S, case.S)]
        return [zeros] * case.L
    starts: list[Sequence[Tensor]] = []
    for l in range(case.L):
        starts.append([part[l] if part.dim() == 3 else part for part in state])
    return starts


def every_argument(_: Argument) -> bool:
    """A selector of all."""
    return True


def run_plain(
    model: HyperLSTM,
    case: Case,
    sample: Draw,
    *,
    select: Selector = every_argument,
    arriving: Collection[Output] = OUTPUTS,
    call: ModelCall = packed,
) -> Outcome:
    """A run of one call: output, final states and every gradient.

    select: whether an argument requires a gradient. arriving: the outputs whose cotangents are backpropagated.
    """
    leaves = arguments(model, sample, select)
    results = outputs(model, case, leaves, call)
    backward(results, sample, arriving)
    return Outcome(results | gradients(leaves))


def plain(model: HyperLSTM, case: Case, sample: Draw, *, call: ModelCall = packed) -> Results:
    """The results of such a run with all gradients."""
    return run_plain(model, case, sample, call=call).results


def backward(results: Results, sample: Draw, arriving: Collection[Output] = OUTPUTS) -> None:
    """Backpropagate the cotangents of these outputs; an output that requires no gradient is left out."""
    cotangents = sample.cotangents.by_output()
    values = []
    d_values = []
    for name in arriving:
        value = results[name]
        if value.requires_grad:
            values.append(value)
            d_values.append(cotangents[name].to(value.dtype))
    if values:
        torch.autograd.backward(values, d_values)


def arguments(model: HyperLSTM, sample: Draw, select: Selector = every_argument) -> Arguments:
    """Inputs, in the memory of the numbers, and parameters; select: see `run_plain`."""
    model.zero_grad(set_to_none=True)
    leaves: Arguments = {argument: value.detach() for argument, value in inputs(sample).items()}
    for name, value in model.named_parameters():
        leaves[parameter(name)] = value
    for argument, leaf in leaves.items():
        leaf.requires_grad_(select(argument))
    return leaves


def state_of(leaves: Arguments) -> State | None:
    """The state that a call with these arguments starts from, None if none is given."""
    parts = [leaves[part] for part in STATE if part in leaves]
    return tuple(parts) or None


def outputs(model: HyperLSTM, case: Case, leaves: Arguments, call: ModelCall = packed) -> Results:
    """Output and final states of a call with these arguments."""
    return by_output(*call(model, case, leaves[X], state_of(leaves)))


def by_output(out: Tensor, last: Sequence[Tensor]) -> Results:
    """What a model returns, by output."""
    return dict(zip(OUTPUTS, (out, *last), strict=True))


def gradients(leaves: Arguments) -> Results:
    """Gradients of arguments; a missing one counts as zero, and the rule decides whether zero is right."""
    results: Results = {}
    for argument, leaf in leaves.items():
        if leaf.requires_grad:
            results[Gradient(argument)] = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
    return results
