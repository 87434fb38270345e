"""Layouts in memory of x, states, gradients and parameters, whose numbers stay the same: none changes a result."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import partial

import torch
from torch import Tensor

from impls import HyperLSTM
from suite.cases.case import Case
from suite.checks.equality.calls import observed
from suite.checks.equality.tasks import Group
from suite.checks.equality.use import Use
from suite.comparison.draws import Draw, by_argument, with_values
from suite.comparison.runs import Outcome, Run, packed, run_plain
from suite.comparison.tensors import Argument, Kind
from suite.comparison.tolerance import changed_arguments

#: Function that returns a tensor of the same numbers in another layout.
Layout = Callable[[Tensor], Tensor]
#: The layout of all arguments of a kind.
Layouts = Mapping[Kind, Layout]


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


class MemoryLayout(StrEnum):
    """How all tensors lie in memory, as uses name it."""

    CONTIGUOUS = "contiguous"
    PADDED = "padded"
    EVERY_SECOND_COLUMN = "every second column"
    TRANSPOSED = "transposed, not aligned"
    COLUMNS_FIRST = "columns first"
    NOT_ALIGNED = "not aligned"
    ALIGNED_TO_8 = "aligned to 8 bytes"
    ALIGNED_TO_16 = "aligned to 16 bytes"


PADDED = partial(_spread, 1)
#: The layouts of all tensors.
OF_ALL_TENSORS: dict[MemoryLayout, Layouts] = {
    MemoryLayout.CONTIGUOUS: {},
    MemoryLayout.PADDED: dict.fromkeys(Kind, PADDED),
    MemoryLayout.EVERY_SECOND_COLUMN: dict.fromkeys(Kind, partial(_spread, 2)),
    MemoryLayout.TRANSPOSED: dict.fromkeys(Kind, partial(_moved, 0, -1, 1)),
    MemoryLayout.COLUMNS_FIRST: dict.fromkeys(Kind, partial(_moved, -1, 0, 16)),
    MemoryLayout.NOT_ALIGNED: dict.fromkeys(Kind, partial(_aligned, 1)),
    MemoryLayout.ALIGNED_TO_8: dict.fromkeys(Kind, partial(_aligned, 8)),
    MemoryLayout.ALIGNED_TO_16: dict.fromkeys(Kind, partial(_aligned, 16)),
}
#: Layouts of numbers that are equal over an axis; the gradient of a sum is equal over all.
OVER_BATCH = partial(_expanded, (-2,))
EXPANDED: dict[str, Layouts] = {
    "x and gradients expanded over the batch": {Kind.X: OVER_BATCH, Kind.COTANGENT: OVER_BATCH},
    "states expanded over the batch, parameters over their first axis": {
        Kind.STATE: OVER_BATCH,
        Kind.PARAMETER: partial(_expanded, (0,)),
    },
    "gradients expanded": {Kind.COTANGENT: partial(_expanded, (0, 1, 2))},
}


def _laid_out(layouts: Layouts, sample: Draw) -> Draw:
    def lay_out(argument: Argument, value: Tensor) -> Tensor:
        layout = layouts.get(argument.kind)
        return layout(value.detach()) if layout else value

    return with_values(sample, lay_out)


def _equal_over_axes(layouts: Layouts, sample: Draw) -> Draw:
    return with_values(_laid_out(layouts, sample), lambda _, value: value.clone())


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
        findings = changed_arguments(by_argument(sample), by_argument(laid_out))
        return outcome._replace(findings=(*outcome.findings, *findings))

    return run


def layout_of_tokens(layouts: Layouts) -> Layout:
    """The layout of the data of a PackedSequence, which is that of x."""
    return layouts.get(Kind.X, Tensor.contiguous)


def _use(name: str, layouts: Layouts) -> Use:
    on_packed = partial(run_plain, call=partial(packed, of_tokens=layout_of_tokens(layouts)))
    return Use(name, in_layouts(layouts, on_packed))


def _use_of_equal(name: str, layouts: Layouts) -> Use:
    return Use(name, in_layouts(layouts), change_draw=partial(_equal_over_axes, layouts))


_IN_ANOTHER_LAYOUT = [memory for memory in MemoryLayout if memory is not MemoryLayout.CONTIGUOUS]
#: All tensors at once, for an implementation whose calls take long.
AT_ONCE = Group(
    "layouts at once",
    (
        *(_use(memory, OF_ALL_TENSORS[memory]) for memory in _IN_ANOTHER_LAYOUT),
        *(_use_of_equal(name, layouts) for name, layouts in EXPANDED.items()),
        Use("columns first, observed", observed(in_layouts(OF_ALL_TENSORS[MemoryLayout.COLUMNS_FIRST]))),
    ),
)
#: By name, the tensors of one kind, which are padded while the others are contiguous.
_PADDED = {"x": Kind.X, "states": Kind.STATE, "parameters": Kind.PARAMETER, "cotangents": Kind.COTANGENT}
LAID_OUT = Group(
    "layouts",
    (*AT_ONCE.uses, *(_use(f"{name} padded", {kind: PADDED}) for name, kind in _PADDED.items())),
)
