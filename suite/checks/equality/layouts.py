"""Layouts in memory of x, states, gradients and parameters, whose numbers stay the same: none changes a result."""

from collections.abc import Callable, Collection, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from impls import HyperLSTM
from suite.checks.equality.uses import Use, without_others
from suite.shared.cases import Case
from suite.shared.compare import MUTATED, bits
from suite.shared.oracle import OUTPUTS, STATE_NAMES, Draw, Output, Results, State, named, packed, plain

#: A tensor of these numbers in another layout, and the memory that it is a view of.
Layout = Callable[[Tensor], tuple[Tensor, Tensor]]


def _spread(step: int, value: Tensor) -> tuple[Tensor, Tensor]:
    """Every `step`th column of rows that are longer than that, from an address that is a multiple of 16 bytes."""
    end = step * value.shape[-1] + 8
    whole = value.new_full((*value.shape[:-1], end + 1), torch.nan)
    return whole[..., 8:end:step].copy_(value), whole


def _moved(axis: int, to: int, value: Tensor) -> tuple[Tensor, Tensor]:
    whole = value.movedim(axis, to).contiguous()
    return whole.movedim(to, axis), whole


def _unaligned(value: Tensor) -> tuple[Tensor, Tensor]:
    """At an address that is a multiple of the size of one number and of nothing larger."""
    whole = value.new_full((value.numel() + 1,), torch.nan)
    return whole[1:].view(value.shape).copy_(value), whole


def _expanded(value: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The first number of each axis, repeated with a stride of 0."""
    whole = value
    for axis in axes:
        whole = whole.narrow(axis, 0, 1)
    whole = whole.clone()
    return whole.expand_as(value), whole


LAYOUTS: dict[str, Layout] = {
    "padded": partial(_spread, 1),
    "every second column": partial(_spread, 2),
    "transposed": partial(_moved, 0, -1),
    "columns first": partial(_moved, -1, 0),
    "not aligned": _unaligned,
}
#: What begins the names of tensors, and the axes over which these may be equal: those of a batch, of the gates, and all
#: of a gradient, as that of a sum is.
EXPANDED = {"x": ((-2,),), "state": ((-2,),), "layers": ((0,),), "grad": ((-2,), (0, 1, 2))}


def _changed(sample: Draw, what: str, change: Callable[[Tensor], Tensor]) -> Draw:
    """Change the tensors whose names begin so."""
    new = {name: change(value) if name.startswith(what) else value for name, value in named(sample).items()}
    state = sample.state and tuple(new[f"state {name}"] for name in STATE_NAMES)
    cotangents = tuple(new[f"grad {name}"] for name in OUTPUTS)
    return Draw({name: new[name] for name in sample.params}, new["x"], state, cotangents)


def _run(
    what: str, layout: Layout, model: HyperLSTM, case: Case, sample: Draw, arriving: Collection[str] = OUTPUTS
) -> Results:
    memory = list[tuple[Tensor, Tensor]]()

    def lay_out(value: Tensor) -> Tensor:
        laid_out, whole = layout(value.detach())
        memory.append((whole, whole.clone()))
        return laid_out

    laid_out, usual = _changed(sample, what, lay_out), {name: p.data for name, p in model.named_parameters()}
    for name, p in model.named_parameters():
        p.data = laid_out.params[name].data
    of_tokens = case.lengths and what == "x" and layout in LAYOUTS.values()
    call = partial(_packed, layout) if of_tokens else packed
    results = plain(model, case, laid_out, arriving=arriving, call=call)
    for name, p in model.named_parameters():
        p.data = usual[name]
    if not all(torch.equal(*map(bits, both)) for both in memory):
        results[f"{MUTATED}{what} in memory"] = torch.zeros(())
    return results


def _packed(layout: Layout, model: nn.Module, case: Case, x: Tensor, state: State | None) -> Output:
    """Call the model on packed sequences whose tokens have the layout."""
    tokens, *order = pack_padded_sequence(x, list(case.lengths), enforce_sorted=False)
    out, last = model(PackedSequence(layout(tokens)[0], *order), state)
    return pad_packed_sequence(out, total_length=case.T)[0], last


def _uses(what: str, axes: tuple[tuple[int, ...], ...]) -> Iterator[Use]:
    for name, layout in LAYOUTS.items():
        yield Use(f"{what} {name}", partial(_run, what, layout))
    for over in axes:
        layout = partial(_expanded, axes=over)
        numbers = partial(_changed, what=what, change=lambda value, layout=layout: layout(value)[0].clone())  # type: ignore[misc]
        yield Use(f"{what} expanded over {over}", partial(_run, what, layout), numbers=numbers)


LAID_OUT = (
    *(use for what, axes in EXPANDED.items() for use in _uses(what, axes)),
    # Where a final state has no gradient, zeros like the given state would have its layout.
    Use(
        "state columns first, gradient of out alone",
        partial(_run, "state", LAYOUTS["columns first"], arriving=("out",)),
        numbers=partial(without_others, arriving=("out",)),
    ),
)

#: Each layout of all tensors at once, for an implementation whose calls take long.
AT_ONCE = (*_uses("", ()), *(use for use in LAID_OUT if "grad expanded" in use.name or "alone" in use.name))
