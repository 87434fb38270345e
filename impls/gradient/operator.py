"""What a hand-written gradient plugs into: the interface, and the operators that make a layer function of it.

torch.compile, dispatch modes and tensor subclasses see the operators, with their fakes and their gradient. Eager calls
go through an autograd function instead, since `torch.library` takes its arguments apart in Python, which takes longer
than a small layer.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

from ..definition import Inputs, LayerParams, LayerState, Mask, Run, cell_dtype
from ..registry import differentiated_by_autograd
from ..tracing import is_of_an_edit
from . import flops
from .chunks import Limits, limits, limits_as_numbers

#: Namespace of the operators; the name of the package on PyPI.
NAMESPACE = "hyperlstm"


class Saved(NamedTuple):
    """What the forward pass saves for the backward pass."""

    states: LayerState  # [T, B, *] each: the states after each step; h is the output
    residuals: Tensor | None  # [T, B, *]: further values; None if the backward pass should recompute them
    limits: Limits  # those of the forward pass


#: (parameters, inputs, out, states, residuals) -> final state in new memory; the cells may be in a wider dtype than x.
#: out: array [T, B, H] to write. states: arrays [T, B, *] to write c, h_hat and c_hat to; empty if they are not saved.
#: residuals: array to write, or None. With packed sequences, the final state of a row is that after its last step.
Forward = Callable[[LayerParams, Inputs, Tensor, Sequence[Tensor], Tensor | None], LayerState]
#: (parameters, inputs, saved, d_out, d_last, needed) -> gradients by name: at least the needed ones.
#: d_last: gradients of the final state, None if zero. needed: "x", names in `LayerState` (for the initial state) and
#: names in `LayerParams`. Gradients are contiguous; their dtype may be wider. Within an operator nothing is
#: differentiated, so torch's autograd and `torch.func` do not help.
Backward = Callable[
    [LayerParams, Inputs, Saved, Tensor, Sequence[Tensor | None], Collection[str]], Mapping[str, Tensor]
]
#: Names of all gradients, in the order of an operator's arguments.
NAMES = ("x", *LayerState._fields, *LayerParams._fields)


class HandWritten(NamedTuple):
    """An implementation with a hand-written gradient."""

    forward: Forward
    backward: Backward
    #: (I, H, S) -> number of residuals per row and step.
    residuals: Callable[[int, int, int], int]
    #: dtype of x -> that of the residuals.
    residuals_dtype: Callable[[torch.dtype], torch.dtype] = lambda dtype: dtype


def allocate_states(p: LayerParams, x: Tensor, over: Sequence[int]) -> list[Tensor]:
    """Arrays for c, h_hat and c_hat over some axes; the cells in float32 or wider."""
    H, S, cell = p.bias.shape[1], p.hyper_bias.shape[1], cell_dtype(x.dtype)
    return [x.new_empty(*over, F, dtype=dtype) for F, dtype in ((H, cell), (S, x.dtype), (S, cell))]


def in_dtype(value: Tensor, dtype: torch.dtype) -> Tensor:
    """`value.to(dtype)`, skipped if it is a no-op: the call alone costs ten times the comparison."""
    return value if value.dtype == dtype else value.to(dtype)


#: out, final state, the other states after each step, residuals; the last two are empty unless they are saved.
Results = tuple[Tensor, list[Tensor], list[Tensor], list[Tensor]]


class Kept(NamedTuple):
    """A call as its backward pass reads it. Autograd keeps the tensors in one sequence, in the order of `pack`."""

    p: LayerParams
    inputs: Inputs
    saved: Saved

    @staticmethod
    def pack(
        layer: Sequence[Tensor], keep: Tensor | None, out: Tensor, states: Sequence[Tensor], residuals: Sequence[Tensor]
    ) -> tuple[Tensor | None, ...]:
        """The tensors; layer: x, the initial state and the parameters. The others: see `Results`."""
        return (*layer, keep, out, *states, *(residuals or (None,)))

    @classmethod
    def unpack(cls, tensors: Sequence[Any], scale: float, batch_sizes: Sequence[int], limits: Sequence[Any]) -> "Kept":
        """Undo `pack`; scale, batch_sizes: of `Inputs`."""
        x, h, c, h_hat, c_hat, *params, keep, out, c_after, h_hat_after, c_hat_after, residuals = tensors
        p, inputs = _layer(x, (h, c, h_hat, c_hat), params, keep, scale, batch_sizes)
        return cls(p, inputs, Saved(LayerState(out, c_after, h_hat_after, c_hat_after), residuals, Limits(*limits)))

    def arguments(self) -> tuple[Any, ...]:
        """The arguments of the gradient's operator before the gradients."""
        states, residuals, limits = self.saved
        return *_flat(self.p, self.inputs), list(states), residuals, limits.as_numbers()


#: A layer's parameters and inputs as operators take them: flat, tensors first.
_LAYER = "Tensor x, Tensor[] start, Tensor[] params, Tensor? keep, float scale, SymInt[] batch_sizes"


def _flat(p: LayerParams, inputs: Inputs) -> tuple[Any, ...]:
    keep, scale = inputs.mask or (None, 1.0)
    return inputs.x, list(inputs.start), p.present(), keep, scale, inputs.batch_sizes


def _layer(
    x: Tensor,
    start: Sequence[Tensor],
    params: Sequence[Tensor],
    keep: Tensor | None,
    scale: float,
    batch_sizes: Sequence[int],
) -> tuple[LayerParams, Inputs]:
    """Undo `_flat`."""
    mask = None if keep is None else Mask(keep, scale)
    return LayerParams(*params), Inputs(x, LayerState(*start), mask, batch_sizes)


def _forward(of: HandWritten, p: LayerParams, inputs: Inputs, most: Limits | None) -> Results:
    """Run the layer; most: the limits, or None without a gradient, for which nothing is saved then."""
    out, states, residuals = _allocate(of, p, inputs.x, most)
    last = of.forward(p, inputs, out, states, residuals[0] if residuals else None)
    return out, [in_dtype(part, inputs.x.dtype) for part in last], states, residuals


def _allocate(
    of: HandWritten, p: LayerParams, x: Tensor, most: Limits | None
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Allocate out, the other states and the residuals; the cells in float32 or wider."""
    (*over, I), H, S = x.shape, p.bias.shape[1], p.hyper_bias.shape[1]
    residuals = []
    if most and most.residuals:
        residuals = [x.new_empty(*over, of.residuals(I, H, S), dtype=of.residuals_dtype(x.dtype))]
    return x.new_empty(*over, H), allocate_states(p, x, over) if most else [], residuals


def _backward(
    of: HandWritten, kept: Kept, d_out: Tensor | None, d_last: Sequence[Tensor | None], needs: Sequence[bool]
) -> list[Tensor]:
    """Gradients of x, the initial state and the parameters, in this order, where `needs` is true."""
    x, out = kept.inputs.x, kept.saved.states.h
    d_out = torch.zeros_like(out) if d_out is None else d_out
    needed = [name for name, need in zip(NAMES, needs, strict=False) if need]
    device = x.device.type
    on = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    # The module casts, so autocast was off in the forward pass too.
    with torch.autocast(device, enabled=False) if on else nullcontext():
        gradients = of.backward(*kept, d_out, d_last, needed)
    if missing := [name for name in needed if gradients.get(name) is None]:
        raise ValueError(f"backward: expected gradients of {', '.join(needed)}; missing: {', '.join(missing)}")
    return [in_dtype(gradients[name], x.dtype) for name in needed]


def _no_second_derivative(name: str) -> NoReturn:
    raise NotImplementedError(f"{name} has no second derivative; these have: {differentiated_by_autograd()}")


class _Gradients(torch.autograd.Function):
    """Identity on gradients, as a function of everything that they depend on; its backward pass raises."""

    @staticmethod
    def forward(ctx: Any, name: str, n: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.name = name
        return tuple(gradient.view_as(gradient) for gradient in tensors[:n])

    @staticmethod
    def backward(ctx: Any, *_: Any) -> NoReturn:
        _no_second_derivative(ctx.name)


def _refuse_transformed(name: str, gradients: Sequence[Tensor | None]) -> None:
    """Raise NotImplementedError for gradients with a tangent of forward-mode AD, and for batches of gradients.

    `torch.autograd.grad(..., is_grads_batched=True)` passes the latter.
    """
    for d in (d for d in gradients if d is not None):
        refused = "gradient with a tangent" if forward_ad.unpack_dual(d).tangent is not None else ""
        try:
            d.untyped_storage()
        except NotImplementedError:
            refused = "batch of gradients (is_grads_batched, vectorize=True)"
        if refused:
            raise NotImplementedError(f"{name} takes no {refused}; these do: {differentiated_by_autograd()}")


def _saved(ctx: Any, name: str, gradients: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
    """The tensors that are saved for these gradients; if one was changed in place since, the error says what to do."""
    _refuse_transformed(name, gradients)
    try:
        saved: tuple[Tensor, ...] = ctx.saved_tensors
    except RuntimeError as error:
        if not is_of_an_edit(error):
            raise
        raise RuntimeError(
            f"{name}: x, a parameter or out was changed in place before backward(). The backward pass reads out again, "
            f"so write `out = out * 2` instead of `out.mul_(2)`, or choose impl='batched': {error}"
        ) from error
    return saved


class _Eager(torch.autograd.Function):
    """A layer with its gradient, for eager calls."""

    @staticmethod
    def forward(
        ctx: Any, calls: "_Calls", p: LayerParams, inputs: Inputs, most: Limits, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        """Run the layer; tensors: x, the initial state and the parameters, which autograd records."""
        out, last, states, residuals = _forward(calls.of, p, inputs, most)
        keep, scale = inputs.mask or (None, 1.0)
        ctx.calls, ctx.rest = calls, (scale, inputs.batch_sizes, most)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*Kept.pack(tensors, keep, out, states, residuals))
        return out, *last

    @staticmethod
    def backward(ctx: Any, d_out: Tensor | None, *d_last: Tensor | None) -> tuple[Tensor | None, ...]:
        # Read only once, since checkpointing unpacks each tensor once.
        kept = Kept.unpack(_saved(ctx, ctx.calls.name, (d_out, *d_last)), *ctx.rest)
        needs = ctx.needs_input_grad[4:]
        grads = iter(ctx.calls.gradient(kept, d_out, d_last, needs))
        return None, None, None, None, *(next(grads) if need else None for need in needs)


class _Calls(NamedTuple):
    """An implementation and its operators."""

    name: str
    of: HandWritten
    function: type[_Eager]  # of the implementation's name, which profilers and graphs show
    operator: Any
    gradient_operator: Any

    def gradient(
        self, kept: Kept, d_out: Tensor | None, d_last: Sequence[Tensor | None], needs: Sequence[bool]
    ) -> list[Tensor]:
        """Result of `_backward`, called as an operator if something observes operators; it has no derivative."""
        tensors = kept.inputs.x, *kept.inputs.start, *kept.p.present()
        if _observed(tensors):
            flops.count(self.gradient_operator, flops.backward)
            grads: list[Tensor] = self.gradient_operator(*kept.arguments(), d_out, list(d_last), list(needs))
        else:
            with torch.no_grad():
                grads = _backward(self.of, kept, d_out, d_last, needs)
        if torch.is_grad_enabled():  # the caller may ask for a second derivative
            depend_on = (q for q in (*tensors, d_out, *d_last) if q is not None)
            grads = list(_Gradients.apply(self.name, len(grads), *grads, *depend_on))
        return grads

    def run(self, p: LayerParams, inputs: Inputs) -> tuple[Tensor, LayerState]:
        """Run one layer over all steps: see `Run`."""
        tensors = inputs.x, *inputs.start, *p.present()
        differentiated = torch.is_grad_enabled() and any(q.requires_grad for q in tensors)
        device = inputs.x.device
        if torch.compiler.is_compiling() or _observed(tensors):
            flops.count(self.operator, flops.forward)
            out, last, *_ = self.operator(*_flat(p, inputs), limits_as_numbers(device) if differentiated else [])
        elif differentiated:
            out, *last = self.function.apply(self, p, inputs, limits(device), *tensors)
        else:
            out, last, *_ = _forward(self.of, p, inputs, None)
        return out, LayerState(*last)


#: Types of tensors without a __torch_dispatch__ of their own.
_PLAIN = frozenset((Tensor, Parameter))


def _observed(tensors: Sequence[Tensor]) -> bool:
    """True if the call must be an operator: under a dispatch mode, for a tensor subclass, or on the meta device."""
    if torch._C._len_torch_dispatch_stack() > 0 or tensors[0].is_meta:
        return True
    return not _PLAIN.issuperset(map(type, tensors))


def as_operator(module: str, of: HandWritten) -> Run:
    """A layer function with the operators `hyperlstm::<name>` and `.._backward`; a second derivative raises.

    module: `__name__` of the implementation's module, or the name under which it is registered. Operators of other
    packages, and of a second copy of this package in the process, have a namespace of that module.
    """
    package, _, name = module.rpartition(".")
    qualified = f"{_namespace(package, name)}::{name}"
    gradient = _gradient_operator(f"{qualified}_backward", name, of)
    function = type(name, (_Eager,), {})
    return _Calls(name, of, function, _operator(qualified, name, of, gradient), gradient).run


def _namespace(package: str, name: str) -> str:
    """`hyperlstm` for both import names of the package, unless a copy under the other name was imported first."""
    free = package.rpartition(".")[2] in ("impls", NAMESPACE) and not hasattr(getattr(torch.ops, NAMESPACE), name)
    return NAMESPACE if free else f"{NAMESPACE}_in_{(package or name).replace('.', '_')}"


def _operator(qualified: str, name: str, of: HandWritten, gradient: Callable[..., list[Tensor]]) -> Any:
    def layer(*arguments: Any) -> Results:
        *layer_arguments, most = arguments
        return _forward(of, *_layer(*layer_arguments), _limits(most))

    def fake(x: Tensor, start: Sequence[Tensor], params: Sequence[Tensor], *rest: Any) -> Results:
        out, states, residuals = _allocate(of, LayerParams(*params), x, _limits(rest[-1]))
        return out, [x.new_empty(part.shape) for part in start], states, residuals

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Results) -> None:
        x, start, params, keep, *ctx.rest = inputs  # the scale, the batch sizes and the limits
        out, _, states, residuals = output
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*Kept.pack((x, *start, *params), keep, out, states, residuals))

    def derivative(ctx: Any, d_out: Tensor | None, d_last: Sequence[Tensor | None], *_: Any) -> tuple[Any, ...]:
        kept = Kept.unpack(_saved(ctx, name, (d_out, *d_last)), *ctx.rest)
        needs = [ctx.needs_input_grad[0], *ctx.needs_input_grad[1], *ctx.needs_input_grad[2]]

        flops.count(gradient, flops.backward)
        grads = iter(gradient(*kept.arguments(), d_out, list(d_last), needs))
        d_x, d_h, d_c, d_h_hat, d_c_hat, *d_params = (next(grads) if need else None for need in needs)
        # An empty list of ints is taken for a list of tensors.
        d_batch_sizes: list[int] | None = None if kept.inputs.batch_sizes else []
        return d_x, [d_h, d_c, d_h_hat, d_c_hat], d_params, None, None, d_batch_sizes, None

    schema = f"({_LAYER}, SymInt[] limits) -> (Tensor, Tensor[], Tensor[], Tensor[])"
    operator = torch.library.custom_op(qualified, layer, mutates_args=(), schema=schema)
    operator.register_fake(fake)
    operator.register_autograd(derivative, setup_context=setup_context)
    return operator


def _limits(numbers: Sequence[int]) -> Limits | None:
    """The limits that an operator is given; None if there are none, since nothing is to be saved."""
    return Limits._make(numbers) if numbers else None


def _gradient_operator(qualified: str, name: str, of: HandWritten) -> Any:
    def gradient(*arguments: Any) -> list[Tensor]:
        *layer_arguments, states, residuals, most, d_out, d_last, needs = arguments
        saved = Saved(LayerState(*states), residuals, Limits(*most))
        results, seen = list[Tensor](), set[int]()
        for q in _backward(of, Kept(*_layer(*layer_arguments), saved), d_out, d_last, needs):
            memory = q.untyped_storage()._cdata
            # Results of an operator must not share memory, as views of one product do, and begin where the fake does.
            results.append(q.clone() if memory in seen or q.storage_offset() else q)
            seen.add(memory)
        return results

    def fake(x: Tensor, start: Sequence[Tensor], params: Sequence[Tensor], *rest: Any) -> list[Tensor]:
        return [x.new_empty(q.shape) for q, need in zip((x, *start, *params), rest[-1], strict=True) if need]

    gradients = "Tensor? d_out, Tensor?[] d_last, bool[] needs"
    schema = f"({_LAYER}, Tensor[] states, Tensor? residuals, SymInt[] limits, {gradients}) -> Tensor[]"
    operator = torch.library.custom_op(qualified, gradient, mutates_args=(), schema=schema)
    operator.register_fake(fake)
    operator.register_autograd(lambda *_: _no_second_derivative(name))
    return operator
