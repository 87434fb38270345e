"""The torch operators around a hand-written gradient, and the autograd function that eager calls go through.

torch.compile, dispatch modes and tensor subclasses see the operators, with their fakes and their gradient. Eager calls
bypass them, since `torch.library` takes its arguments apart in Python, which takes longer than a small layer.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from ..definition import LayerParams, LayerState, Mask, Run, RunPacked
from .chunks import limits
from .interface import NAMES, HandWritten, Inputs, Save, Saved, allocate_states, in_dtype
from .single_backward import no_second_derivative, single_backward

#: out, last state, the states after each step but out, residuals; the last two empty unless `Save` asks for them.
Results = tuple[Tensor, list[Tensor], list[Tensor], list[Tensor]]


#: The arguments of an operator that are a `_Layer`.
_LAYER = "Tensor x, Tensor[] start, Tensor[] params, Tensor? keep, float scale, SymInt[] batch_sizes"


class _Layer(NamedTuple):
    """A layer's arguments as the operators have them: flat, tensors first."""

    x: Tensor
    start: Sequence[Tensor]
    params: Sequence[Tensor]
    keep: Tensor | None  # which of g are kept
    scale: float  # of those
    batch_sizes: Sequence[int]

    @property
    def inputs(self) -> Inputs:
        mask = None if self.keep is None else Mask(self.keep, self.scale)
        return Inputs(self.x, LayerState(*self.start), mask, self.batch_sizes)


def _forward(of: HandWritten, layer: _Layer, save: int) -> Results:
    p = LayerParams(*layer.params)
    out, states, residuals = _allocate(of, p, layer.x, save)
    last = of.forward(p, layer.inputs, out, states, residuals[0] if residuals else None)
    return out, [in_dtype(part, layer.x.dtype) for part in last], states, residuals


def _allocate(of: HandWritten, p: LayerParams, x: Tensor, save: int) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Memory for out, the other states and the residuals; the cells in float32 or wider."""
    (*over, I), H, S = x.shape, p.bias.shape[1], p.hyper_bias.shape[1]
    residuals = [x.new_empty(*over, of.residuals(I, H, S))] if save == Save.STATES_AND_RESIDUALS else []
    return x.new_empty(*over, H), allocate_states(p, x, over) if save else [], residuals


def _backward(
    of: HandWritten,
    layer: _Layer,
    saved: Sequence[Tensor],
    d_out: Tensor | None,
    d_last: Sequence[Tensor | None],
    needs: Sequence[bool],
) -> list[Tensor]:
    """Gradients of those of x, the start and the parameters that need one, in this order.

    saved: the states after each step, out first, and the residuals if there are any.
    """
    states = LayerState(*saved[:4])
    d_out = torch.zeros_like(states.h) if d_out is None else d_out
    needed = [name for name, need in zip(NAMES, needs, strict=False) if need]
    p, past = LayerParams(*layer.params), Saved(states, saved[4] if len(saved) > 4 else None)
    device = layer.x.device.type
    on = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    # It was off in the forward pass, for which the module casts.
    with torch.autocast(device, enabled=False) if on else nullcontext():
        found = of.backward(p, layer.inputs, past, d_out, d_last, needed)
    return [in_dtype(found[name], layer.x.dtype) for name in needed]


class _Eager(torch.autograd.Function):
    """A layer outside of torch.compile, with its gradient."""

    @staticmethod
    def forward(ctx: Any, calls: "_Calls", rest: tuple[Any, ...], save: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        layer = _Layer(tensors[0], tensors[1:5], tensors[5:], *rest)
        out, last, states, residuals = _forward(calls.of, layer, save)
        ctx.calls, ctx.rest, ctx.n = calls, rest[1:], len(tensors)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, rest[0], out, *states, *residuals)
        return out, *last

    @staticmethod
    def backward(ctx: Any, d_out: Tensor | None, *d_last: Tensor | None) -> tuple[Tensor | None, ...]:
        everything = ctx.saved_tensors  # read once, since checkpointing unpacks each tensor once
        tensors, (keep, *saved) = everything[: ctx.n], everything[ctx.n :]
        layer = _Layer(tensors[0], tensors[1:5], tensors[5:], keep, *ctx.rest)
        needs = ctx.needs_input_grad[3:]
        grads = iter(ctx.calls.gradient(layer, saved, d_out, d_last, needs))
        return None, None, None, *(next(grads) if need else None for need in needs)


class _Calls(NamedTuple):
    """An implementation and its operators."""

    name: str
    of: HandWritten
    operator: Any
    gradient_operator: Any

    def gradient(
        self,
        layer: _Layer,
        saved: Sequence[Tensor],
        d_out: Tensor | None,
        d_last: Sequence[Tensor | None],
        needs: Sequence[bool],
    ) -> list[Tensor]:
        """What `_backward` returns, by the operator where somebody observes operators; it has no derivative."""
        if _observed((layer.x, *layer.params)):
            grads = self.gradient_operator(*layer, list(saved), d_out, list(d_last), list(needs))
        else:
            with torch.no_grad():
                grads = _backward(self.of, layer, saved, d_out, d_last, needs)
        return single_backward(self.name, grads, (layer.x, *layer.start, *layer.params, d_out, *d_last))

    def run(
        self, p: LayerParams, x: Tensor, batch_sizes: Sequence[int], s: LayerState, mask: Mask | None
    ) -> tuple[Tensor, LayerState]:
        """Run one layer over all steps: see `RunPacked`."""
        params = p.present()
        rest = (*(mask or (None, 1.0)), batch_sizes)
        save = Save.NONE
        if torch.is_grad_enabled() and any(q.requires_grad for q in (x, *s, *params)):
            save = Save.STATES_AND_RESIDUALS if limits(x.device).residuals else Save.STATES
        if torch.compiler.is_compiling() or _observed((x, *s, *params)):
            out, last, *_ = self.operator(x, list(s), params, *rest, save.value)
        elif save:
            out, *last = _Eager.apply(self, rest, save, x, *s, *params)
        else:
            out, last, *_ = _forward(self.of, _Layer(x, s, params, *rest), save)
        return out, LayerState(*last)


def _observed(tensors: Iterable[Tensor]) -> bool:
    """True if a dispatch mode or a tensor subclass must observe the operator call."""
    return torch._C._len_torch_dispatch_stack() > 0 or any(type(q) not in (Tensor, Parameter) for q in tensors)


def as_operator(module: str, of: HandWritten) -> tuple[Run, RunPacked]:
    """Layer functions for batches and for packed sequences, with operators `<package>::<module>` and `.._backward`.

    module: the `__name__` of the implementation, which keeps operators apart when the package is imported under two
    names. A second derivative raises NotImplementedError.
    """
    package, name = module.rsplit(".", 1)
    qualified = f"{package.replace('.', '_')}::{name}"
    gradient = _gradient_operator(f"{qualified}_backward", name, of)
    calls = _Calls(name, of, _operator(qualified, of, gradient), gradient)

    def run(p: LayerParams, x: Tensor, s: LayerState, mask: Mask | None) -> tuple[Tensor, LayerState]:
        return calls.run(p, x, (), s, mask)

    return run, calls.run


def _operator(qualified: str, of: HandWritten, gradient: Callable[..., list[Tensor]]) -> Any:
    def layer(*given: Any) -> Results:
        return _forward(of, _Layer(*given[:-1]), given[-1])

    def fake(x: Tensor, start: Sequence[Tensor], params: Sequence[Tensor], *rest: Any) -> Results:
        out, states, residuals = _allocate(of, LayerParams(*params), x, rest[-1])
        return out, [x.new_empty(part.shape) for part in start], states, residuals

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Results) -> None:
        x, start, params, keep, *ctx.rest, _ = inputs
        out, _, states, residuals = output
        ctx.n = len(params)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, *start, *params, keep, out, *states, *residuals)

    def derivative(ctx: Any, d_out: Tensor | None, d_last: Sequence[Tensor | None], *_: Any) -> tuple[Any, ...]:
        x, *others = ctx.saved_tensors
        start, params, (keep, *saved) = others[:4], others[4 : 4 + ctx.n], others[4 + ctx.n :]
        needs = [ctx.needs_input_grad[0], *ctx.needs_input_grad[1], *ctx.needs_input_grad[2]]
        found = iter(gradient(x, start, params, keep, *ctx.rest, saved, d_out, list(d_last), needs))
        d_x, *d_others = (next(found) if need else None for need in needs)
        # torch takes a list of no numbers for one of tensors.
        return d_x, d_others[:4], d_others[4:], None, None, None if ctx.rest[-1] else [], None

    schema = f"({_LAYER}, SymInt save) -> (Tensor, Tensor[], Tensor[], Tensor[])"
    operator = torch.library.custom_op(qualified, layer, mutates_args=(), schema=schema)
    operator.register_fake(fake)
    operator.register_autograd(derivative, setup_context=setup_context)
    return operator


def _gradient_operator(qualified: str, name: str, of: HandWritten) -> Any:
    def gradient(*given: Any) -> list[Tensor]:
        found, seen = list[Tensor](), set[int]()
        for q in _backward(of, _Layer(*given[:6]), *given[6:]):
            memory = q.untyped_storage()._cdata
            # Results of an operator may not share memory, as views of one product do.
            found.append(q.clone() if memory in seen else q)
            seen.add(memory)
        return found

    def fake(x: Tensor, start: Sequence[Tensor], params: Sequence[Tensor], *rest: Any) -> list[Tensor]:
        return [x.new_empty(q.shape) for q, need in zip((x, *start, *params), rest[-1], strict=True) if need]

    schema = f"({_LAYER}, Tensor[] saved, Tensor? d_out, Tensor?[] d_last, bool[] needs) -> Tensor[]"
    operator = torch.library.custom_op(qualified, gradient, mutates_args=(), schema=schema)
    operator.register_fake(fake)
    operator.register_autograd(lambda *_: no_second_derivative(name))
    return operator
