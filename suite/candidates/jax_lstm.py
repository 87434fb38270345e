"""HyperLSTM in JAX (equations: impls/README.md), as a JAX user would write it for speed, called as a torch module.

A jitted `lax.scan` over steps, with one product per factor: both LSTMs' weights for x side by side, both for h, and for
h_hat those of the hyper LSTM and of z. The products with x precede the scan, and the gradient is JAX's own. XLA
compiles for each size. Tensors pass by DLPack, which copies only what is not contiguous or not aligned.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from impls import HyperLSTM
from impls.definition import EPS, LayerParams, LayerState

#: An array of JAX, whose types are not known where it is not installed.
Array = Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # otherwise JAX takes most of a GPU's memory from torch


class JaxHyperLSTM(HyperLSTM):
    """A HyperLSTM of one layer that JAX computes, in float32, without dropout and from a state of zeros."""

    def __init__(self, *sizes: int, **options: Any) -> None:
        super().__init__(*sizes, **options)
        self._arrays: list[Array] = []
        tf32 = torch.get_float32_matmul_precision() != "highest"
        jax.config.update("jax_default_matmul_precision", "tensorfloat32" if tf32 else "highest")

    def forward(self, x: Any, state: Sequence[Tensor] | None = None) -> Any:
        """Run over all steps, see `HyperLSTM.forward`; TypeError unless x is a tensor [T, B, I]."""
        if not isinstance(x, Tensor) or x.dim() != 3:
            raise TypeError(f"x: expected a tensor [T, B, I], got {type(x).__name__}")
        if self.n_layers > 1 or state is not None:
            raise NotImplementedError("JAX computes one layer, from a state of zeros")
        params = list(self.parameters())
        arrays = [_to_jax(x), *self._as_arrays(params)]
        if torch.is_grad_enabled():
            out, *last = _Differentiable.apply(arrays, x, *params)
        else:
            out, *last = map(from_dlpack, _called(_forward, arrays))
        return out, tuple(last)

    def _as_arrays(self, params: Sequence[Tensor]) -> list[Array]:
        """Parameters as arrays in the same memory, cached: converting all takes as long as a small forward pass."""
        if [array.unsafe_buffer_pointer() for array in self._arrays] != [p.data_ptr() for p in params]:
            self._arrays = list(map(_to_jax, params))
        return self._arrays


class _Differentiable(torch.autograd.Function):
    """Forward keeps JAX's VJP function with its residuals, and backward calls it."""

    @staticmethod
    def forward(ctx: Any, arrays: list[Array], *inputs: Tensor) -> tuple[Tensor, ...]:
        ctx.needed = ctx.needs_input_grad[1:]
        results, ctx.vjp = _called(_forward_with_residuals, ctx.needed, arrays)
        return tuple(map(from_dlpack, results))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        results = iter(_called(_gradient, ctx.vjp, tuple(map(_to_jax, gradients))))
        return None, *(from_dlpack(next(results)) if needed else None for needed in ctx.needed)


def _to_jax(value: Tensor) -> Array:
    return jax.dlpack.from_dlpack(value.detach().contiguous())


def _called(jitted: Any, *arguments: Any) -> Any:
    """Results of a jitted function, once they are computed."""
    return jax.block_until_ready(jitted(*arguments))


def apply(arrays: Sequence[Array]) -> tuple[Array, ...]:
    """Out [T, B, H], and the last h, c, h_hat, c_hat [1, B, *]; arrays: x [T, B, I] and the parameters."""
    x, p = arrays[0], LayerParams(*arrays[1:])
    B, H, S, Z = x.shape[1], p.bias.shape[1], p.hyper_bias.shape[1], p.d_weight.shape[-1]
    w_x, w_h = _joined(p.weight_x, p.hyper_weight_x), _joined(p.weight_h, p.hyper_weight_h)
    w_h_hat = _joined(p.hyper_weight_s, p.z_weight)
    bias = jnp.concatenate([p.hyper_bias.ravel(), p.z_bias.ravel(), jnp.zeros(4 * Z, x.dtype)])
    hyper_cell = _cell(p.hyper_norm_weight, p.hyper_norm_bias, p.hyper_norm_c_weight, p.hyper_norm_c_bias)
    cell = _cell(p.norm_weight, p.norm_bias, p.norm_c_weight, p.norm_c_bias)

    def step(carry: Any, vx: Array) -> Any:
        (h, c, h_hat, c_hat), a_s = carry
        (u, a_h), (v, a_x) = jnp.split(h @ w_h, [4 * H], axis=1), jnp.split(vx, [4 * H], axis=1)
        h_hat, c_hat = hyper_cell((a_x + a_h + a_s).reshape(B, 4, S), c_hat)
        a_s, z = jnp.split(h_hat @ w_h_hat + bias, [4 * S], axis=1)  # a_s is of the next step
        d_h, d_x, d_b = jnp.einsum("bskz,skhz->sbkh", z.reshape(B, 3, 4, Z), p.d_weight)
        h, c = cell(d_h * u.reshape(B, 4, H) + d_x * v.reshape(B, 4, H) + d_b + p.bias, c)
        return (LayerState(h, c, h_hat, c_hat), a_s), h

    start = LayerState(*(jnp.zeros((B, F), x.dtype) for F in (H, H, S, S)))
    a_s = jnp.broadcast_to(bias[: 4 * S], (B, 4 * S))
    (last, _), out = jax.lax.scan(step, (start, a_s), x @ w_x)
    return out, *(part[None] for part in last)


def _joined(*weights: Array) -> Array:
    """Weights [..., F] that multiply the same factor, side by side: [F, all rows]."""
    return jnp.concatenate([weight.reshape(-1, weight.shape[-1]) for weight in weights]).T


def _cell(weight: Array, bias: Array, c_weight: Array, c_bias: Array) -> Callable[[Array, Array], tuple[Array, Array]]:
    """Function (y [B, 4, F], c [B, F]) -> h, c of an LSTM with these layer norms, or with none."""

    def cell(y: Array, c: Array) -> tuple[Array, Array]:
        i, f, g, o = jnp.unstack(_norm(y, weight, bias), axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(_norm(c, c_weight, c_bias)), c

    return cell


def _norm(y: Array, weight: Array | None, bias: Array | None) -> Array:
    """Layer norm over the last axis; y itself without a weight."""
    if weight is None:
        return y
    y -= y.mean(-1, keepdims=True)
    return y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + EPS) * weight + bias


def _vjp(needed: tuple[bool, ...], arrays: Sequence[Array]) -> Any:
    """Results, and the function from their gradients to the gradients of the needed arrays."""

    def of_needed(values: Sequence[Array]) -> tuple[Array, ...]:
        varied = iter(values)
        return apply([next(varied) if need else array for need, array in zip(needed, arrays, strict=True)])

    return jax.vjp(of_needed, [array for need, array in zip(needed, arrays, strict=True) if need])


_forward = jax.jit(apply)
_forward_with_residuals = jax.jit(_vjp, static_argnums=0)
_gradient = jax.jit(lambda vjp, gradients: vjp(gradients)[0])
