"""Calls of a case, and what they give: of the module, as users call it, or of a layer function without the module.

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
from suite.shared.cases import Case

Results = dict[str, Tensor]
STATE_NAMES = ("h", "c", "h_hat", "c_hat")
#: Outputs of a model, in its order.
OUTPUTS = ("out", *STATE_NAMES)
State = tuple[Tensor, ...]
Output = tuple[Tensor, State]
#: (model, case, x [T, B, I], state) -> out [T, B, H], zero where a sequence has ended, and the final states
Call = Callable[[nn.Module, Case, Tensor, State | None], Output]


class Draw(NamedTuple):
    """Random parameters, input, start and cotangents of one case."""

    params: dict[str, Tensor]
    x: Tensor
    state: tuple[Tensor, ...] | None
    cotangents: tuple[Tensor, ...]  # of out and of the four final states


class Outcome(NamedTuple):
    """What a run of a model gives: tensors by name, and findings, each of which is a failure by itself.

    A finding is a sentence about what is wrong beside the numbers, such as "argument changed: x".
    """

    tensors: Results
    findings: tuple[str, ...] = ()


#: Of numbers in the dtype of the model.
Run = Callable[[HyperLSTM, Case, Draw], Outcome]
Numbers = Callable[[Draw], Draw]


def packed(
    model: nn.Module,
    case: Case,
    x: Tensor,
    state: State | None,
    of_tokens: Callable[[Tensor], Tensor] = lambda tokens: tokens,
) -> Output:
    """Call the model once, on a PackedSequence where the case has lengths; of_tokens: changes its data."""
    if not case.lengths:
        result: Output = model(x, state)
        return result
    in_order = sorted(case.lengths, reverse=True) == list(case.lengths)
    sequences = pack_padded_sequence(x, list(case.lengths), enforce_sorted=in_order)
    out, last = model(sequences._replace(data=of_tokens(sequences.data)), state)
    return pad_packed_sequence(out, total_length=case.T)[0], last


def without_module(model: nn.Module, case: Case, x: Tensor, state: State | None) -> Output:
    """Call the layer function of the model's implementation, on a batch of the sequences of each length."""
    # The rows of a call, its steps, and where its numbers are in an array over all tokens.
    parts = _by_length(case) if case.lengths else [(torch.arange(case.B), case.T, None)]
    over = (case.tokens,) if case.lengths else (case.T, case.B)
    starts, lasts = _starts(case, x, state), []
    between, inside = (p if model.training else 0.0 for p in (case.dropout, case.recurrent_dropout))
    parameters = dict(model.named_parameters())
    for l, F in enumerate(case.inputs):
        p = LayerParams(
            **{q.split(".", 2)[2]: value for q, value in parameters.items() if q.startswith(f"layers.{l}.")}
        )
        dropped = draw_mask(between if l else 0.0, (*over, F), x.device)
        g_dropped = draw_mask(inside, (*over, case.H), x.device)
        out, ends = x.new_zeros(case.T, case.B, case.H), []
        for rows, steps, tokens in parts:
            y, mask = x[:steps, rows], _at(tokens, dropped)
            if mask is not None:
                y = torch.where(mask.kept, y / (1 - between), 0)
            start = LayerState(*(part[rows] for part in starts[l]))
            part, end = _run(str(model.impl), p, Inputs(y, start, _at(tokens, g_dropped)))
            out = out.index_put((torch.arange(steps)[:, None], rows), part)
            ends.append(end)
        x = out
        order = torch.cat([rows for rows, *_ in parts]).argsort()
        lasts.append([torch.cat(pieces)[order] for pieces in zip(*ends, strict=True)])
    return x, tuple(map(torch.stack, zip(*lasts, strict=True)))


def _run(name: str, p: LayerParams, inputs: Inputs) -> tuple[Tensor, LayerState]:
    if len(inputs.x) == 0:  # no numbers, but still a function of x
        return inputs.x.sum() * inputs.x.new_zeros(*inputs.x.shape[:2], p.bias.shape[1]), inputs.start
    return find(name).run(p, inputs)


def _by_length(case: Case) -> list[tuple[Tensor, int, Tensor]]:
    """Of all sequences of one length: their rows, that length, and where their tokens are among the packed ones."""
    lengths = torch.tensor(case.lengths)
    in_order = sorted(case.lengths, reverse=True) == list(case.lengths)
    place = (torch.arange(case.B) if in_order else lengths.sort(descending=True).indices).argsort()
    begins = torch.tensor(list(accumulate((int((lengths > t).sum()) for t in range(case.T)), initial=0)))
    every = [((lengths == n).nonzero()[:, 0], n) for n in sorted(set(case.lengths))]
    return [(rows, n, begins[:n, None] + place[rows]) for rows, n in every]


def _starts(case: Case, x: Tensor, state: State | None) -> list[Sequence[Tensor]]:
    """The state that each layer starts from, [B, *] each."""
    if state is None:
        return [[x.new_zeros(case.B, F) for F in (case.H, case.H, case.S, case.S)]] * case.L
    return [[part[l] if part.dim() == 3 else part for part in state] for l in range(case.L)]


def _at(tokens: Tensor | None, mask: Mask | None) -> Mask | None:
    """The part of a mask over all tokens that is a call's, [steps, rows, *]."""
    return mask if mask is None or tokens is None else Mask(mask[0][tokens], mask.scale)


def plain(
    model: HyperLSTM,
    case: Case,
    sample: Draw,
    *,
    select: Callable[[str], bool] = lambda _: True,
    arriving: Collection[str] = OUTPUTS,
    call: Call = packed,
) -> Results:
    """Output, final states and every gradient of one call.

    select: whether a name requires a gradient. arriving: the outputs that have one.
    """
    leaves = arguments(model, sample, select)
    results = outputs(model, case, leaves, call)
    backward(results, sample, arriving)
    return results | gradients(leaves)


def run_plain(model: HyperLSTM, case: Case, sample: Draw, **options: Any) -> Outcome:
    """A plain call as a run, without findings; options: of `plain`."""
    return Outcome(plain(model, case, sample, **options))


def backward(results: Results, sample: Draw, arriving: Collection[str] = OUTPUTS) -> None:
    """Give these outputs their gradients, unless they depend on nothing that requires one, as zeros without steps."""
    cotangents = dict(zip(OUTPUTS, sample.cotangents, strict=True))
    values = {n: results[n] for n in arriving if results[n].requires_grad}
    if values:
        torch.autograd.backward(list(values.values()), [cotangents[n].to(v.dtype) for n, v in values.items()])


def inputs(sample: Draw) -> Results:
    """X and the given states by name."""
    state = zip((f"state {name}" for name in STATE_NAMES), sample.state or (), strict=False)
    return {"x": sample.x, **dict(state)}


def named(sample: Draw) -> Results:
    """All numbers of a draw by name."""
    cotangents = zip((f"grad {name}" for name in OUTPUTS), sample.cotangents, strict=True)
    return {**inputs(sample), **sample.params, **dict(cotangents)}


def arguments(model: HyperLSTM, sample: Draw, select: Callable[[str], bool] = lambda name: True) -> Results:
    """Inputs, in the memory of the numbers, and parameters by name; select: see `plain`."""
    model.zero_grad(set_to_none=True)
    leaves = {name: value.detach() for name, value in inputs(sample).items()} | dict(model.named_parameters())
    return {name: leaf.requires_grad_(select(name)) for name, leaf in leaves.items()}


def outputs(model: HyperLSTM, case: Case, leaves: Results, call: Call = packed) -> Results:
    """Output and final states of a call with these arguments."""
    state = tuple(leaf for name, leaf in leaves.items() if name.startswith("state"))
    return by_name(*call(model, case, leaves["x"], state or None))


def by_name(out: Tensor, last: Sequence[Tensor]) -> Results:
    """What a model returns, by name."""
    return dict(zip(OUTPUTS, (out, *last), strict=True))


def gradients(leaves: Results) -> Results:
    """Gradients by name; a missing one counts as zero, and the rule decides whether zero is right."""
    needing = {f"grad {name}": leaf for name, leaf in leaves.items() if leaf.requires_grad}
    return {name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for name, leaf in needing.items()}
