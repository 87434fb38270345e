"""The skeleton of every hand-written gradient: what stands around the loop over steps, written once.

An implementation plugs in a forward sweep over steps and a backward pass. The skeleton makes a `torch.library` operator
of them and keeps between the two only x and the trajectory (out, c, h_hat, c_hat), and for short sequences the products
with h; the rest is rebuilt chunk by chunk of steps and never stands whole in memory.

`by_chunks` makes a backward pass of a sweep over one chunk: around it, it computes the products with x and h in one
large product each, and turns the deltas that the sweep leaves into weight gradients the same way.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from . import transforms
from .layer import LayerParams, LayerState, Run, embedding_bias, hidden_weight, input_weight

#: What the arrays of one chunk may take, by device type: small beside the trajectory of a long sequence, large enough
#: for the products over a chunk to run at full speed.
CHUNK_BYTES = {"cpu": 32 << 20, "cuda": 256 << 20}
#: The same for the forward pass, which sums nothing over steps: its arrays should stay in the cache.
FORWARD_CHUNK_BYTES = {"cpu": 16 << 20, "cuda": 256 << 20}
#: How many rows a chunk may sum over: a longer sum in one go rounds worse than one that is taken step by step, and what
#: a chunk leaves should be in the cache when it is summed. A GPU's products split such sums themselves.
CHUNK_ROWS = {"cpu": 512, "cuda": 1 << 62}
#: Up to this size the products with h are kept for the backward pass; above, memory counts for more than the sixth of
#: the time that rebuilding them takes.
KEEP_BYTES = {"cpu": 24 << 20, "cuda": 256 << 20}

#: What the arrays of one chunk take for each number of the output, where every phase of a step has its own.
_NUMBERS = 40

_NORMS = tuple(name for name in LayerParams._fields if "norm" in name)


class Weights:
    """What products over whole chunks multiply by, each put together once a sequence, when first asked for."""

    def __init__(self, p: LayerParams) -> None:
        self._p = p

    @cached_property
    def x(self) -> Tensor:
        """The weights for x, [4H + 4S, I]."""
        return input_weight(self._p)

    @cached_property
    def h(self) -> Tensor:
        """The weights for h, [4H + 4S, H]."""
        return hidden_weight(self._p)

    @cached_property
    def z(self) -> tuple[Tensor, Tensor]:
        """The weights [12Z, S] and the bias [12Z] of z."""
        return self._p.z_weight.flatten(0, 2), embedding_bias(self._p)


class Inputs:
    """x of K consecutive steps, [K, B, I], with its products for the sweeps that do not make their own."""

    def __init__(self, x: Tensor, weights: Weights) -> None:
        self.x, self._weights = x, weights

    @cached_property
    def products(self) -> Tensor:
        """The products with x_t, [K, B, 4H + 4S]: v, then the hyper LSTM's part; made when first asked for."""
        return linear(self.x, self._weights.x)


@dataclass
class Chunk:
    """K consecutive steps as the backward sweep sees them; products that it asks for and nobody kept are made anew."""

    x: Tensor  # [K, B, I]
    kept: Tensor | None  # what the forward sweep left, [K, B, 4H + 4S]
    before: LayerState  # [K, B, *] each: the states that each step started from
    after: LayerState  # [K, B, *] each: the states that each step ended in
    d_out: Tensor  # [K, B, H]
    weights: Weights

    @cached_property
    def vx(self) -> Tensor:
        """The products with x_t, [K, B, 4H + 4S]."""
        return linear(self.x, self.weights.x)

    @cached_property
    def uh(self) -> Tensor:
        """The products with h_{t-1}, [K, B, 4H + 4S]: u, then the hyper LSTM's part."""
        return linear(self.before.h, self.weights.h) if self.kept is None else self.kept

    @cached_property
    def z(self) -> Tensor:
        """The embeddings z of the step's h_hat, [K, B, 12, Z]."""
        z: Tensor = linear(self.after.h_hat, *self.weights.z)
        return z.view(*z.shape[:2], 12, z.shape[2] // 12)


class Deltas(NamedTuple):
    """What one chunk's backward sweep leaves to the large products."""

    rec: Tensor  # [K, B, 4H + 4S], gradient of the products with h: du, then da
    inp: Tensor  # [K, B, 4H], gradient of the main LSTM's product with x: dv
    y: Tensor  # [K, B, 4, H], gradient of d_h u + d_x v + b, before the norm
    z: Tensor  # [K, B, 12, Z]
    norms: Sequence[Tensor] = ()  # gradients of the norms in the order of LayerParams, summed over the chunk


#: (inputs, state before, arrays [K, B, *] to write the states after each step to, of which those but h may be a ring of
#: fewer steps, with step t at t modulo their number, array [K, B, 4H + 4S] to write to what the backward sweep finds as
#: `kept`: the products with h, or what it rather has; None if nobody wants it) -> last state
ForwardSweep = Callable[[Inputs, LayerState, LayerState, Tensor | None], LayerState]
#: (chunk, gradient of the state after it) -> (deltas, gradient of the state before it)
BackwardSweep = Callable[[Chunk, LayerState], tuple[Deltas, LayerState]]


class Past(NamedTuple):
    """What the backward pass has of a sequence."""

    x: Tensor  # [T, B, I]
    start: LayerState  # [B, *] each
    trajectory: LayerState  # [T, B, *] each: the states after each step
    kept: Tensor | None  # what the forward sweep left, [T, B, 4H + 4S]
    d_out: Tensor  # [T, B, H]


#: (parameters, names of those that want a gradient, past, gradient of the last state, array for the gradient of x, if
#: that is wanted) -> (gradients by name, contiguous and in float32 where the parameters are half; that of the start)
Backward = Callable[
    [LayerParams, Collection[str], Past, LayerState, Tensor | None], tuple[Mapping[str, Tensor], LayerState]
]


class Sweeps(NamedTuple):
    """What an implementation plugs in."""

    forward: Callable[[LayerParams], ForwardSweep]  # prepares the parameters once a sequence
    backward: Backward
    keeps_products: bool = False  # the forward sweep leaves something to be kept
    ring: int | None = None  # steps of states, but h, that a forward sweep of any length needs where nobody keeps them


def by_chunks(prepare: Callable[[LayerParams], BackwardSweep]) -> Backward:
    """Make a backward pass of a sweep over one chunk; prepare is called with the parameters once a sequence."""

    def backward(
        p: LayerParams, wanted: Collection[str], past: Past, carried: LayerState, d_x: Tensor | None
    ) -> tuple[dict[str, Tensor], LayerState]:
        cell = past.trajectory.c.dtype
        # Contiguous, whatever the parameter is: sums are added to views of it.
        totals = {
            name: torch.zeros_like(q, dtype=cell, memory_format=torch.contiguous_format)
            for name, q in p._asdict().items()
            if name in wanted
        }
        sweep, weights, (T, B, _) = prepare(p), Weights(p), past.x.shape
        for steps in reversed(cut(CHUNK_BYTES, _NUMBERS, p, T, B, CHUNK_ROWS[past.x.device.type])):
            chunk = Chunk(
                past.x[steps],
                None if past.kept is None else past.kept[steps],
                LayerState(*(_before(*states, steps) for states in zip(past.start, past.trajectory, strict=True))),
                LayerState(*(part[steps] for part in past.trajectory)),
                past.d_out[steps],
                weights,
            )
            deltas, carried = sweep(chunk, carried)
            _add_weight_gradients(totals, chunk, deltas)
            if d_x is not None:
                da = deltas.rec[..., deltas.inp.shape[-1] :]
                d_x[steps] = torch.cat([deltas.inp, da], dim=-1) @ weights.x
        return totals, carried

    return backward


def rung(module: str, sweeps: Sweeps) -> Run:
    """Make an implementation of two sweeps, as an operator `<package>::<module>` with a fake and a backward.

    module: the `__name__` of the file that plugs in, which keeps operators apart when the package is imported under
    two names. A second derivative raises NotImplementedError.
    """
    package, name = module.rsplit(".", 1)
    qualified = f"{package.replace('.', '_')}::{name}"
    backward = _backward_op(qualified + "_backward", sweeps)
    forward = _forward_op(qualified, sweeps, backward)
    transformed = _transformed(name, forward, backward)

    def run(p: LayerParams, x: Tensor, s: LayerState) -> tuple[Tensor, LayerState]:
        params = [q for q in p if q is not None]
        keep = torch.is_grad_enabled() and any(q.requires_grad for q in (x, *params, *s))
        if transforms.active():
            # A transform outside the innermost may differentiate what shows no requires_grad in here.
            out, *rest = transformed(torch.is_grad_enabled(), x, *params, *s)
        else:
            out, *rest = forward(x, params, *s, keep)
        return out, LayerState(*rest[:4])

    return run


def cell_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of c, c_hat and their gradients inside a sequence: float32 where the parameters are half."""
    return torch.promote_types(dtype, torch.float32)


def cut(limit: dict[str, int], numbers: int, p: LayerParams, T: int, B: int, rows: int = 1 << 62) -> list[slice]:
    """Cut T steps into equal parts whose arrays stay within the limit of the device, and within a number of rows."""
    step = numbers * max(B, 1) * p.bias.shape[1] * p.bias.element_size()
    n = -(-T // max(1, min(limit[p.bias.device.type] // step, rows // max(B, 1))))
    return [slice(T * i // n, T * (i + 1) // n) for i in range(n)]


def _keeps_products(sweeps: Sweeps, T: int, B: int, p: LayerParams) -> bool:
    products = T * B * 4 * (p.bias.shape[1] + p.hyper_bias.shape[1]) * p.bias.element_size()
    return sweeps.keeps_products and products <= KEEP_BYTES[p.bias.device.type]


def _before(first: Tensor, trajectory: Tensor, steps: slice) -> Tensor:
    """Return the trajectory one step earlier than these steps."""
    if steps.start:
        return trajectory[steps.start - 1 : steps.stop - 1]
    return torch.cat([first.to(trajectory.dtype).unsqueeze(0), trajectory[: steps.stop - 1]])


def _forward_op(qualified: str, sweeps: Sweeps, backward: Callable[..., Sequence[Tensor]]) -> Callable[..., Any]:
    @torch.library.custom_op(qualified, mutates_args=())
    def op(
        x: Tensor, params: Sequence[Tensor], h: Tensor, c: Tensor, h_hat: Tensor, c_hat: Tensor, keep: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        p, (T, B, _), H, S, cell = LayerParams(*params), x.shape, h.shape[1], h_hat.shape[1], cell_dtype(x.dtype)
        chunks = cut(FORWARD_CHUNK_BYTES, _NUMBERS, p, T, B) if sweeps.ring is None else [slice(0, T)]
        # What no backward pass will read, each chunk overwrites.
        rows = T if keep else min(T, sweeps.ring or max(steps.stop - steps.start for steps in chunks))
        products = keep and _keeps_products(sweeps, T, B, p)
        out = x.new_empty(T, B, H)
        kept = x.new_empty(rows, B, H, dtype=cell), x.new_empty(rows, B, S), x.new_empty(rows, B, S, dtype=cell)
        uh = x.new_empty(T, B, 4 * (H + S)) if products else x.new_empty(0)
        sweep, weights = sweeps.forward(p), Weights(p)
        s = LayerState(h, c.to(cell), h_hat, c_hat.to(cell))
        for steps in chunks:
            K = steps.stop - steps.start
            into = LayerState(out[steps], *(part[steps] if keep else part[: min(K, rows)] for part in kept))
            s = sweep(Inputs(x[steps], weights), s, into, uh[steps] if products else None)
            # Cloned, since the next chunk may write where this state lies.
            s = LayerState(*(part.clone() for part in s))
        last = (part.to(x.dtype) for part in s)
        return (out, *last, *(kept if keep else (x.new_empty(0) for _ in kept)), uh)

    @op.register_fake
    def _(
        x: Tensor, params: Sequence[Tensor], h: Tensor, c: Tensor, h_hat: Tensor, c_hat: Tensor, keep: bool
    ) -> tuple[Tensor, ...]:
        (T, B, _), H, S, cell = x.shape, h.shape[1], h_hat.shape[1], cell_dtype(x.dtype)
        out = x.new_empty(T, B, H)
        last = (x.new_empty(B, F) for F in (H, H, S, S))
        products = keep and _keeps_products(sweeps, T, B, LayerParams(*params))
        uh = x.new_empty(T, B, 4 * (H + S)) if products else x.new_empty(0)
        if not keep:
            return (out, *last, *(x.new_empty(0) for _ in range(3)), uh)
        kept = x.new_empty(T, B, H, dtype=cell), x.new_empty(T, B, S), x.new_empty(T, B, S, dtype=cell)
        return (out, *last, *kept, uh)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, params, *start, _ = inputs
        _save(ctx, (x, *params, *start), output)

    def derivative(ctx: Any, *d: Tensor | None) -> tuple[Any, ...]:
        needs_x, needs_params, *needs_start, _ = ctx.needs_input_grad

        def call(needs: list[bool], *q: Tensor) -> Sequence[Tensor]:
            return backward(q[0], q[1:-14], *q[-14:], needs)

        grads = _derivative(call, ctx.saved_tensors, d, [needs_x, *needs_params, *needs_start])
        return (grads[0], grads[1:-4], *grads[-4:], None)

    op.register_autograd(derivative, setup_context=setup_context)
    return op


def _save(ctx: Any, given: Sequence[Tensor], output: Sequence[Tensor]) -> None:
    """Put away for the backward pass: x, the parameters and the start, then out, the trajectory and the products."""
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*given, output[0], *output[5:])


def _derivative(
    backward: Callable[..., Sequence[Tensor]], saved: Sequence[Tensor], d: Sequence[Tensor | None], needs: list[bool]
) -> list[Tensor | None]:
    """Return the gradients of x, the parameters and the start, None for those that nobody needs."""
    start, out = saved[-9:-5], saved[-5]
    d_out = torch.zeros_like(out) if d[0] is None else d[0]
    d_last = [torch.zeros_like(q) if g is None else g for q, g in zip(start, d[1:], strict=False)]
    grads = backward(needs, *saved, d_out, *d_last)
    return [g if need else None for g, need in zip(grads, needs, strict=True)]


def _transformed(name: str, forward: Callable[..., Any], backward: Callable[..., Sequence[Tensor]]) -> transforms.Call:
    """Return the operator for use under torch.func: (keep, x, *params, *start) -> its outputs."""

    def run(keep: bool, *q: Tensor) -> tuple[Tensor, ...]:
        return tuple(forward(q[0], q[1:-4], *q[-4:], keep))

    def run_backward(needs: list[bool], *q: Tensor) -> tuple[Tensor, ...]:
        return tuple(backward(q[0], q[1:-14], *q[-14:], needs))

    gradient = transforms.transformable(run_backward, lambda *_: None, lambda *_: transforms.no_second_derivative(name))

    def derivative(ctx: Any, *d: Tensor | None) -> tuple[Tensor | None, ...]:
        return tuple(_derivative(gradient, ctx.saved_tensors, d, list(ctx.needs_input_grad[1:])))

    return transforms.transformable(run, _save, derivative)


def _backward_op(qualified: str, sweeps: Sweeps) -> Callable[..., Sequence[Tensor]]:
    @torch.library.custom_op(qualified, mutates_args=())
    def op(
        x: Tensor,
        params: Sequence[Tensor],
        h: Tensor,
        c: Tensor,
        h_hat: Tensor,
        c_hat: Tensor,
        out: Tensor,
        out_c: Tensor,
        out_h_hat: Tensor,
        out_c_hat: Tensor,
        kept: Tensor,
        d_out: Tensor,
        d_h: Tensor,
        d_c: Tensor,
        d_h_hat: Tensor,
        d_c_hat: Tensor,
        needs: Sequence[bool],
    ) -> list[Tensor]:
        p, cell = LayerParams(*params), cell_dtype(x.dtype)
        first, trajectory = LayerState(h, c, h_hat, c_hat), LayerState(out, out_c, out_h_hat, out_c_hat)
        carried = LayerState(d_h, d_c.to(cell), d_h_hat, d_c_hat.to(cell))
        names = LayerParams._fields[: len(params)]
        wanted = [name for name, need in zip(names, needs[1:-4], strict=True) if need]
        d_x = x.new_empty(x.shape) if needs[0] else None
        past = Past(x, first, trajectory, kept if kept.dim() == 3 else None, d_out)
        d_params, carried = sweeps.backward(p, wanted, past, carried, d_x)
        grads = [d_x, *(d_params.get(name) for name in names), *carried]
        return [
            x.new_empty(0) if g is None or not need else g.to(x.dtype) for g, need in zip(grads, needs, strict=True)
        ]

    @op.register_fake
    def _(
        x: Tensor, params: Sequence[Tensor], h: Tensor, c: Tensor, h_hat: Tensor, c_hat: Tensor, *rest: Any
    ) -> list[Tensor]:
        inputs = (x, *params, h, c, h_hat, c_hat)
        return [x.new_empty(q.shape if need else 0) for q, need in zip(inputs, rest[-1], strict=True)]

    name = qualified.split("::")[1].removesuffix("_backward")
    op.register_autograd(lambda *_: transforms.no_second_derivative(name))
    return op


def _add_weight_gradients(d_params: dict[str, Tensor], chunk: Chunk, deltas: Deltas) -> None:
    """Add one chunk's part to the gradient of each parameter that wants one: a product over all rows of the chunk."""
    H4 = deltas.inp.shape[-1]
    cell = chunk.before.c.dtype
    du, da = deltas.rec.flatten(0, 1).split([H4, deltas.rec.shape[-1] - H4], dim=1)  # [N, 4H], [N, 4S] of N = K B rows
    dv, dz, dy = deltas.inp.flatten(0, 1), deltas.z.flatten(0, 1), deltas.y.flatten(0, 1)
    x, h, h_hat_before, h_hat = (
        y.flatten(0, 1) for y in (chunk.x, chunk.before.h, chunk.before.h_hat, chunk.after.h_hat)
    )
    products = {
        "weight_x": (dv, x),
        "weight_h": (du, h),
        "hyper_weight_x": (da, x),
        "hyper_weight_h": (da, h),
        "hyper_weight_s": (da, h_hat_before),
        "z_weight": (dz.flatten(1), h_hat),
    }
    sums: dict[str, Callable[[], Tensor]] = {
        "hyper_bias": lambda: da.sum(0, dtype=cell),
        "z_bias": lambda: dz[:, :8].sum(0, dtype=cell),
        "bias": lambda: dy.sum(0, dtype=cell),
        "d_weight": lambda: _d_weight_gradient(chunk, dy),
    }
    norms = dict(zip(_NORMS, deltas.norms, strict=False))
    for name, total in d_params.items():
        if name in products:
            _add_product(total.flatten(0, -2), *products[name])
        else:
            total += (norms[name] if name in norms else sums[name]()).view_as(total)


def _add_product(total: Tensor, d: Tensor, values: Tensor) -> None:
    """Add d^T values to total [F, G], of d [N, F] and values [N, G]; in one pass over total where dtypes allow it."""
    if total.dtype == d.dtype:
        total.addmm_(d.T, values)
    else:
        total += d.T @ values


def _d_weight_gradient(chunk: Chunk, dy: Tensor) -> Tensor:
    """Return the gradient of d_weight [3, 4, H, Z] from that of y, dy [N, 4, H]."""
    u, v = (y.flatten(0, 1)[:, : 4 * dy.shape[2]].unflatten(1, (4, -1)) for y in (chunk.uh, chunk.vx))
    z = chunk.z.flatten(0, 1).unflatten(1, (3, 4))
    sources = ((dy * u, 0), (dy * v, 1), (dy, 2))
    return torch.stack([torch.bmm(d.permute(1, 2, 0), z[:, s].transpose(0, 1)) for d, s in sources])
