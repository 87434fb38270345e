"""Layouts in memory of x, states, gradients and parameters, whose numbers stay the same: none changes a result."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from impls import HyperLSTM
from suite.cases.case import Case
from suite.checks.equality.calls import observed
from suite.checks.equality.comparisons import Use, Uses
from suite.comparison.draws import Draw, by_name
from suite.comparison.runs import Outcome, Run, packed, run_plain
from suite.comparison.tolerance import changed

#: Function that returns a tensor of the same numbers in another layout.
Layout = Callable[[Tensor], Tensor]
#: By field of a draw, the layout of its tensors.
Layouts = Mapping[str, Layout]


def _spread(stride: int, value: Tensor) -> Tensor:
    """Every `stride`th column of a wider buffer, from an address that is a multiple of 16 bytes."""
    end = stride * value.shape[-1] + 8
    rows = value.new_full((*value.shape[:-1], end + 1), torch.nan)
    return rows[..., 8:end:stride].copy_(value)


def _aligned(to: int, value: Tensor) -> Tensor:
    """At an address that is a multiple of `to` bytes, or of the size of one number, and of nothing larger."""
    skipped = max(1, to // value.element_size())
    memory = value.new_empty(value.numel() + skipped)
    return memory[skipped:].view(value.shape).copy_(value)


def _moved(axis: int, to: int, aligned: int, value: Tensor) -> Tensor:
    """In memory with an axis elsewhere, at such an address."""
    moved = _aligned(aligned, value.movedim(axis, to))
    return moved.movedim(to, axis)


def _expanded(axes: tuple[int, ...], value: Tensor) -> Tensor:
    """The first number of each axis, repeated with a stride of 0."""
    first = value
    for axis in axes:
        first = first.narrow(axis, 0, 1)
    return first.clone().expand_as(value)


PADDED = partial(_spread, 1)
#: The layouts of all tensors.
OF_ALL_TENSORS: dict[str, Layouts] = {
    "contiguous": {},
    "padded": dict.fromkeys(Draw._fields, PADDED),
    "every second column": dict.fromkeys(Draw._fields, partial(_spread, 2)),
    "transposed, not aligned": dict.fromkeys(Draw._fields, partial(_moved, 0, -1, 1)),
    "columns first": dict.fromkeys(Draw._fields, partial(_moved, -1, 0, 16)),
    "not aligned": dict.fromkeys(Draw._fields, partial(_aligned, 1)),
    "aligned to 8 bytes": dict.fromkeys(Draw._fields, partial(_aligned, 8)),
    "aligned to 16 bytes": dict.fromkeys(Draw._fields, partial(_aligned, 16)),
}
#: Layouts of numbers that are equal over an axis; the gradient of a sum is equal over all.
OVER_BATCH = partial(_expanded, (-2,))
EXPANDED: dict[str, Layouts] = {
    "x and gradients expanded over the batch": {"x": OVER_BATCH, "cotangents": OVER_BATCH},
    "states expanded over the batch, parameters over their first axis": {
        "state": OVER_BATCH,
        "params": partial(_expanded, (0,)),
    },
    "gradients expanded": {"cotangents": partial(_expanded, (0, 1, 2))},
}


def _laid_out(layouts: Layouts, sample: Draw) -> Draw:
    with torch.no_grad():
        parts = {part: tree_map_only(Tensor, layout, getattr(sample, part)) for part, layout in layouts.items()}
    return sample._replace(**parts)


def _equal_over_axes(layouts: Layouts, sample: Draw) -> Draw:
    equal: Draw = tree_map_only(Tensor, Tensor.clone, _laid_out(layouts, sample))
    return equal


def in_layouts(layouts: Layouts, of: Run = run_plain) -> Run:
    """A run on tensors in these layouts, with a finding of each that it changes."""

    def run(model: HyperLSTM, case: Case, sample: Draw) -> Outcome:
        laid_out = _laid_out(layouts, sample)
        contiguous = {name: p.data for name, p in model.named_parameters()}
        for name, p in model.named_parameters():
            p.data = laid_out.params[name].data
        outcome = of(model, case, laid_out)
        for name, p in model.named_parameters():
            p.data = contiguous[name]
        findings = changed(by_name(sample), by_name(laid_out))
        return outcome._replace(findings=(*outcome.findings, *findings))

    return run


def layout_of_tokens(layouts: Layouts) -> Layout:
    """The layout of the data of a PackedSequence, which is that of x."""
    return layouts.get("x", Tensor.contiguous)


def _use(name: str, layouts: Layouts) -> Use:
    on_packed = partial(run_plain, call=partial(packed, of_tokens=layout_of_tokens(layouts)))
    return Use(name, in_layouts(layouts, on_packed))


def _use_of_equal(name: str, layouts: Layouts) -> Use:
    return Use(name, in_layouts(layouts), change_draw=partial(_equal_over_axes, layouts))


#: All tensors at once, for an implementation whose calls take long.
AT_ONCE: Uses = (
    *(_use(name, layouts) for name, layouts in OF_ALL_TENSORS.items() if layouts),
    *(_use_of_equal(name, layouts) for name, layouts in EXPANDED.items()),
    Use("columns first, observed", observed(in_layouts(OF_ALL_TENSORS["columns first"]))),
)
LAID_OUT: Uses = (
    *AT_ONCE,
    _use("x padded", {"x": PADDED}),
    _use("states padded", {"state": PADDED}),
    _use("parameters padded", {"params": PADDED}),
    _use("cotangents padded", {"cotangents": PADDED}),
)
