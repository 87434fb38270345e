"""The torch operator around an implementation's sweeps, with its fake and its gradient, and a short way around it.

The operator is for torch.compile and for whoever watches operators; a plain call reaches the sweeps without it.

Between the forward and the backward pass it keeps x, the trajectory (out, c, h_hat, c_hat) and, unless `Limits` say
otherwise, the residuals of the forward sweep; the rest is computed anew chunk by chunk of steps and never stands whole
in memory.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..definition import LayerParams, LayerState, Mask, Run, RunPacked
from . import transforms
from .chunks import bounds, limits, stretches
from .interface import Inputs, Keep, Past, Sweeps, Weights

#: What the arrays of one forward chunk take for each number of the output, where every phase of a step has its own.
_NUMBERS = 40

#: The forward pass of an operator: (x, params, start, keep, and mask and batch_sizes where there are any) -> (out, last
#: state, trajectory without out, residuals). The last two are empty unless `Keep` asks for them; the residuals are one
#: array. Cells of the last state may be wider than x.
Forward = Callable[..., tuple[Tensor, list[Tensor], list[Tensor], list[Tensor]]]
#: Its backward pass: (x, params, start, trajectory with out, residuals, d_out, d_last, needs, and the same) -> the
#: gradients of those of x, params and start whose `needs` is true. They may be wider than x.
Gradient = Callable[..., list[Tensor]]


def as_operator(module: str, sweeps: Sweeps) -> tuple[Run, RunPacked]:
    """Make an implementation of sweeps, as an operator `<package>::<module>` with a fake and a backward.

    It is for batches, and where the sweeps take tokens, for packed sequences too.

    module: the `__name__` of the file that plugs in, which keeps operators apart when the package is imported under
    two names. A second derivative raises NotImplementedError.
    """
    package, name = module.rsplit(".", 1)
    qualified = f"{package.replace('.', '_')}::{name}"
    forward_pass, backward_pass = partial(_forward_pass, sweeps), partial(_backward_pass, sweeps)
    gradient_op, gradient = _gradient_op(qualified + "_backward", name, sweeps, backward_pass)
    operator, forward = _forward_op(qualified, sweeps, forward_pass, gradient_op)
    differentiable = _differentiable(name, forward, gradient)

    def run_packed(
        p: LayerParams, x: Tensor, batch_sizes: Sequence[int], s: LayerState, mask: Mask | None
    ) -> tuple[Tensor, LayerState]:
        params, transformed = p.present(), transforms.active() or transforms.forward_mode()
        # A transform outside the innermost may differentiate what shows no requires_grad in here.
        grad = torch.is_grad_enabled() and (transformed or any(q.requires_grad for q in (x, *params, *s)))
        keep = Keep.RESIDUALS if sweeps.residuals is not None and limits(x.device).residuals else Keep.TRAJECTORY
        kept, scale = ([], 1.0) if mask is None else ([mask.kept], mask.scale)
        call = differentiable if grad or transformed else forward
        if torch.compiler.is_compiling():
            call = operator  # which it traces with the gradient that is registered
        out, last, *_ = call(x, params, list(s), batch_sizes, kept, scale, (keep if grad else Keep.NOTHING).value)
        return out, LayerState(*last)

    def run(p: LayerParams, x: Tensor, s: LayerState, mask: Mask | None) -> tuple[Tensor, LayerState]:
        return run_packed(p, x, [], s, mask)

    return run, run_packed


def _unless_seen(operator: Callable[..., Any], call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls the operator where somebody may want to see it, else what it would call."""

    def either(x: Tensor, params: Sequence[Tensor], start: Sequence[Tensor], *rest: Any) -> Any:
        return (operator if transforms.seen((x, *params, *start)) else call)(x, params, start, *rest)

    return either


def _forward_op(qualified: str, sweeps: Sweeps, forward: Forward, gradient: Gradient) -> tuple[Forward, Forward]:
    """Return the operator, and a function that does the same without it where it can."""

    def call(
        x: Tensor,
        params: Sequence[Tensor],
        start: Sequence[Tensor],
        batch_sizes: Sequence[int],
        kept: Sequence[Tensor],
        scale: float,
        keep: int,
    ) -> tuple[Tensor, list[Tensor], list[Tensor], list[Tensor]]:
        out, last, trajectory, residuals = forward(x, params, start, keep, **_further(batch_sizes, kept, scale))
        return out, [_in_dtype(part, x.dtype) for part in last], trajectory, residuals

    op = torch.library.custom_op(qualified, call, mutates_args=())

    @op.register_fake
    def _(
        x: Tensor,
        params: Sequence[Tensor],
        start: Sequence[Tensor],
        batch_sizes: Sequence[int],
        kept: Sequence[Tensor],
        scale: float,
        keep: int,
    ) -> tuple[Tensor, list[Tensor], list[Tensor], list[Tensor]]:
        out, trajectory, residuals = _kept(sweeps, LayerParams.of(params), x, keep)
        return out, [x.new_empty(part.shape) for part in start], trajectory, residuals

    op.register_autograd(_derivative(gradient), setup_context=_save)
    return op, _unless_seen(op, call)


def _gradient_op(qualified: str, name: str, sweeps: Sweeps, gradient: Gradient) -> tuple[Gradient, Gradient]:
    """Return the operator, and a function that does the same without it where it can."""

    def call(
        x: Tensor,
        params: Sequence[Tensor],
        start: Sequence[Tensor],
        batch_sizes: Sequence[int],
        trajectory: Sequence[Tensor],
        residuals: Sequence[Tensor],
        kept: Sequence[Tensor],
        scale: float,
        d_out: Tensor,
        d_last: Sequence[Tensor],
        needs: Sequence[bool],
    ) -> list[Tensor]:
        grads = gradient(
            x, params, start, trajectory, residuals, d_out, d_last, needs, **_further(batch_sizes, kept, scale)
        )
        return [_in_dtype(grad, x.dtype) for grad in grads]

    op = torch.library.custom_op(qualified, call, mutates_args=())

    @op.register_fake
    def _(x: Tensor, params: Sequence[Tensor], start: Sequence[Tensor], *rest: Any) -> list[Tensor]:
        return [x.new_empty(q.shape) for q, need in zip((x, *params, *start), rest[-1], strict=True) if need]

    op.register_autograd(lambda *_: transforms.no_second_derivative(name))
    return op, _unless_seen(op, call)


def _forward_pass(
    sweeps: Sweeps,
    x: Tensor,
    params: Sequence[Tensor],
    start: Sequence[Tensor],
    keep: int,
    mask: Mask | None = None,
    batch_sizes: Sequence[int] = (),
) -> tuple[Tensor, list[Tensor], list[Tensor], list[Tensor]]:
    p, T, B = LayerParams.of(params), len(batch_sizes or x), len(start[0])
    out, trajectory, residuals = _kept(sweeps, p, x, keep)
    sweep, weights = sweeps.forward(p), Weights(p)
    if sweeps.ring is not None:
        # What no backward pass will read, later steps overwrite.
        rest = trajectory or _states(p, x, [min(T, sweeps.ring), B])
        s = _in_dtypes(start, (out, *rest))
        into = LayerState(out, *rest)
        last = sweep(Inputs(x, weights, mask, batch_sizes), s, into, residuals[0] if residuals else None)
        return out, list(last), trajectory, residuals
    cut = bounds(limits(x.device).forward, _NUMBERS, p, T, B, batch_sizes=batch_sizes)
    chunks = [(at, at.stop - at.start, sizes) for _, at, sizes in stretches(cut, batch_sizes)]
    rest = trajectory or _states(p, x, [max(length for _, length, _ in chunks), *x.shape[1:-1]])
    s = _in_dtypes(start, (out, *rest))
    for at, length, sizes in chunks:
        into = LayerState(out[at], *(part[at] if trajectory else part[:length] for part in rest))
        inputs = Inputs(x[at], weights, mask and mask.part(at), sizes)
        s = sweep(inputs, s, into, residuals[0][at] if residuals else None)
        # Cloned, since the next chunk may write where this state lies.
        s = LayerState(*(part.clone() for part in s))
    return out, list(s), trajectory, residuals


def _in_dtype(value: Tensor, dtype: torch.dtype) -> Tensor:
    # Asked first, since a conversion that does nothing takes ten times as long.
    return value if value.dtype == dtype else value.to(dtype)


def _in_dtypes(values: Sequence[Tensor], states: Sequence[Tensor]) -> LayerState:
    return LayerState(*(_in_dtype(value, q.dtype) for value, q in zip(values, states, strict=True)))


def _backward_pass(
    sweeps: Sweeps,
    x: Tensor,
    params: Sequence[Tensor],
    start: Sequence[Tensor],
    trajectory: Sequence[Tensor],
    residuals: Sequence[Tensor],
    d_out: Tensor,
    d_last: Sequence[Tensor],
    needs: Sequence[bool],
    mask: Mask | None = None,
    batch_sizes: Sequence[int] = (),
) -> list[Tensor]:
    p, after = LayerParams.of(params), LayerState(*trajectory)
    past = Past(x, LayerState(*start), after, residuals[0] if residuals else None, d_out, mask, batch_sizes)
    carried = _in_dtypes(d_last, after)
    needs_x, needs_params, needs_start = transforms.nested(needs, (None, len(params), len(start)))
    wanted = [name for name, need in zip(LayerParams._fields, needs_params, strict=False) if need]
    d_x = x.new_empty(x.shape) if needs_x else None
    d_params, d_start = sweeps.backward(p, wanted, past, carried, d_x)
    grads = [] if d_x is None else [d_x]
    grads += [d_params[name] for name in wanted]
    return grads + [d for d, need in zip(d_start, needs_start, strict=True) if need]


def _differentiable(name: str, forward: Forward, gradient: Gradient) -> Forward:
    """Return the forward pass with its gradient, for everything but torch.compile."""
    once = transforms.Transformable(gradient, lambda *_: None, lambda *_: transforms.no_second_derivative(name))

    def first(*arguments: Any) -> list[Tensor]:
        # Without create_graph nobody can ask for a second derivative.
        return (once if torch.is_grad_enabled() or transforms.active() else gradient)(*arguments)

    return transforms.Transformable(forward, _save, _derivative(first))


def _states(p: LayerParams, x: Tensor, over: Sequence[int]) -> list[Tensor]:
    """Return room for c, h_hat and c_hat over steps and rows, or over tokens; the cells in float32 or wider."""
    H, S, cell = p.bias.shape[1], p.hyper_bias.shape[1], torch.promote_types(x.dtype, torch.float32)
    return [x.new_empty(*over, F, dtype=dtype) for F, dtype in ((H, cell), (S, x.dtype), (S, cell))]


def _kept(sweeps: Sweeps, p: LayerParams, x: Tensor, keep: int) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Return room for out, the trajectory of the other states and the residuals; the last two empty if not kept."""
    (*over, I), H, S = x.shape, p.bias.shape[1], p.hyper_bias.shape[1]
    residuals = []
    if keep == Keep.RESIDUALS and sweeps.residuals is not None:
        residuals = [x.new_empty(*over, sweeps.residuals(I, H, S))]
    return x.new_empty(*over, H), _states(p, x, over) if keep != Keep.NOTHING else [], residuals


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
    """Put away what the backward pass reads."""
    x, params, start, batch_sizes, kept, scale, _ = inputs
    out, _, trajectory, residuals = output
    flat, ctx.places = transforms.flattened((x, params, start, [out, *trajectory], residuals, kept))
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*flat)
    ctx.batch_sizes, ctx.scale = batch_sizes, scale


def _derivative(gradient: Gradient) -> Callable[..., tuple[Any, ...]]:
    """Return the gradients of an operator's arguments from those of its outputs, None for those that nobody needs."""

    def derivative(ctx: Any, d_out: Tensor | None, d_last: Sequence[Tensor | None], *_: Any) -> tuple[Any, ...]:
        x, params, start, trajectory, residuals, kept = transforms.nested(ctx.saved_tensors, ctx.places)
        needs_x, needs_params, needs_start, *_ = ctx.needs_input_grad
        needs = [needs_x, *needs_params, *needs_start]
        d_out = torch.zeros_like(trajectory[0]) if d_out is None else d_out
        d_last = [torch.zeros_like(q) if d is None else d for q, d in zip(start, d_last, strict=True)]
        left = trajectory, residuals, kept, ctx.scale
        found = iter(gradient(x, params, start, ctx.batch_sizes, *left, d_out, d_last, needs))
        grads = [next(found) if need else None for need in needs]
        d_x, d_params, d_start = transforms.nested(grads, ctx.places[:3])
        # torch takes a list of no numbers for one of tensors.
        return d_x, d_params, d_start, None if ctx.batch_sizes else [], [None] * len(kept), None, None

    return derivative


def _further(batch_sizes: Sequence[int], kept: Sequence[Tensor], scale: float) -> dict[str, Any]:
    """Return what a pass is told of packed sequences and of a mask, if there is any."""
    packed = {"batch_sizes": batch_sizes} if batch_sizes else {}
    return packed | ({"mask": Mask(kept[0], scale)} if kept else {})
