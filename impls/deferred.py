"""A gradient written by hand: back through time goes only what must, all weight gradients come after the loop."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .layer import EPS, LayerParams, LayerState, norm
from .recurrence import (
    BackwardSweep,
    Chunk,
    Deltas,
    ForwardSweep,
    Sweeps,
    embedding_bias,
    hidden_weight,
    rung,
)


def forward(p: LayerParams) -> ForwardSweep:
    """Return the sweep over a chunk's steps in plain torch operations, written in place where that saves a pass."""
    H, S, Z = p.bias.shape[1], p.hyper_bias.shape[1], p.z_bias.shape[2]
    n, n_hyper = norm(p.norm_weight, p.norm_bias), norm(p.hyper_norm_weight, p.hyper_norm_bias)
    n_c, n_hyper_c = norm(p.norm_c_weight, p.norm_c_bias), norm(p.hyper_norm_c_weight, p.hyper_norm_c_bias)
    w_h, w_s, w_z = hidden_weight(p).T, p.hyper_weight_s.flatten(0, 1).T, p.z_weight.flatten(0, 2).T
    b_z, w_d, b_d = embedding_bias(p), p.d_weight.flatten(0, 1).mT, _scale_bias(p)

    def sweep(vx: Tensor, s: LayerState, into: LayerState) -> LayerState:
        B = vx.shape[1]
        v = vx[..., : 4 * H].unflatten(-1, (4, H))
        a_x = vx[..., 4 * H :] + p.hyper_bias.flatten()
        h, c, h_hat, c_hat = s
        for v_t, a_x_t, to_h, to_c, to_h_hat, to_c_hat in zip(v, a_x, *into, strict=True):
            uh = h @ w_h
            a = torch.addmm(a_x_t, h_hat, w_s).add_(uh[:, 4 * H :])
            h_hat, c_hat = _cell(n_hyper(a.view(B, 4, S)), c_hat, n_hyper_c, to_h_hat, to_c_hat)
            z = torch.addmm(b_z, h_hat, w_z).view(B, 12, Z)
            d_h, d_x, b = torch.baddbmm(b_d, z.transpose(0, 1), w_d).view(3, 4, B, H).transpose(1, 2)
            y = uh[:, : 4 * H].view(B, 4, H).mul_(d_h).addcmul_(d_x, v_t).add_(b)
            h, c = _cell(n(y), c, n_c, to_h, to_c)
        return LayerState(h, c, h_hat, c_hat)

    return sweep


def _scale_bias(p: LayerParams) -> Tensor:
    """Return what is added to the twelve d z, [12, 1, H]: the bias for the last four."""
    return torch.cat([torch.zeros_like(p.bias), torch.zeros_like(p.bias), p.bias]).unsqueeze(1)


def _cell(y: Tensor, c: Tensor, n_c: Callable[[Tensor], Tensor], to_h: Tensor, to_c: Tensor) -> tuple[Tensor, Tensor]:
    """Write h and c after one step of an LSTM cell with gates y [B, 4, F] and return them."""
    i, f = torch.sigmoid(y[:, :2]).unbind(1)
    g, o = torch.tanh(y[:, 2]), torch.sigmoid(y[:, 3])
    torch.add(f * c, i * g, out=to_c)
    torch.mul(o, torch.tanh(n_c(to_c)), out=to_h)
    return to_h, to_c


def backward(p: LayerParams) -> BackwardSweep:
    """Return the sweep back over a chunk's steps (design: gradients by hand); sums over steps are left to others."""
    H, S, Z = p.bias.shape[1], p.hyper_bias.shape[1], p.z_bias.shape[2]
    w_h, w_s, w_z = hidden_weight(p), p.hyper_weight_s.flatten(0, 1), p.z_weight.flatten(0, 2)
    w_d, w_d_t, b_d = p.d_weight.flatten(0, 1), p.d_weight.flatten(0, 1).mT, _scale_bias(p)

    def sweep(chunk: Chunk, carried: LayerState) -> tuple[Deltas, LayerState]:
        K, B = chunk.z.shape[:2]
        u, a_h = chunk.uh.split([4 * H, 4 * S], dim=-1)
        v, a_x = chunk.vx.split([4 * H, 4 * S], dim=-1)
        a = (chunk.before.h_hat @ w_s.T).add_(a_h).add_(a_x).add_(p.hyper_bias.flatten())
        z = chunk.z.flatten(0, 1).transpose(0, 1)  # [12, K B, Z]
        d_h, d_x, b = torch.baddbmm(b_d, z, w_d_t).view(3, 4, K, B, H).permute(0, 2, 3, 1, 4)  # [K, B, 4, H] each
        u, v = u.unflatten(-1, (4, H)), v.unflatten(-1, (4, H))
        main = CellGradient((d_h * u).addcmul_(d_x, v).add_(b), chunk.before.c, chunk.after.c, p[10:14])
        hyper = CellGradient(a.view(K, B, 4, S), chunk.before.c_hat, chunk.after.c_hat, p[14:18])

        rec = chunk.uh.new_empty(K, B, 4 * H + 4 * S)
        du, da = rec[..., : 4 * H].unflatten(-1, (4, H)), rec[..., 4 * H :].unflatten(-1, (4, S))
        dy, dz = rec.new_empty(K, B, 4, H), rec.new_empty(K, B, 12, Z)
        scaled = rec.new_empty(3, 4, B, H)
        dh, dc, dh_hat, dc_hat = carried
        for t in reversed(range(K)):
            dc = main.step(t, chunk.d_out[t] + dh, dc, dy[t])
            torch.mul(dy[t], d_h[t], out=du[t])
            torch.mul(dy[t], u[t], out=scaled[0].transpose(0, 1))
            torch.mul(dy[t], v[t], out=scaled[1].transpose(0, 1))
            scaled[2].transpose(0, 1).copy_(dy[t])
            dz[t] = torch.bmm(scaled.view(12, B, H), w_d).transpose(0, 1)
            dc_hat = hyper.step(t, torch.addmm(dh_hat, dz[t].view(B, 12 * Z), w_z), dc_hat, da[t])
            dh, dh_hat = rec[t] @ w_h, rec[t, :, 4 * H :] @ w_s
        deltas = Deltas(rec, (dy * d_x).flatten(2), dy, dz, (*main.norms(), *hyper.norms()))
        return deltas, LayerState(dh, dc, dh_hat, dc_hat)

    return sweep


class CellGradient:
    """The gradient of one LSTM cell over a chunk: all that does not depend on later steps is computed at once."""

    def __init__(self, y: Tensor, before: Tensor, after: Tensor, norms: Sequence[Tensor | None]) -> None:
        """Take the gates y [K, B, 4, F] before the norm, the raw cells [K, B, F], the norms of gates and cell."""
        weight, bias, c_weight, c_bias = norms
        self.gates_norm, self.cell_norm = norm_gradient(y, weight, bias), norm_gradient(after, c_weight, c_bias)
        value = self.gates_norm.value
        i, f = torch.sigmoid(value[..., :2, :]).unbind(-2)
        g, o = torch.tanh(value[..., 2, :]), torch.sigmoid(value[..., 3, :])
        tanh_c = torch.tanh(self.cell_norm.value)
        self.forget = f
        self.dh_to_c = o * (1 - tanh_c * tanh_c)  # [K, B, F], to the cell after its norm
        self.to_gates = torch.stack(  # [K, B, 4, F]: i, f, g from dc, o from dh
            [g * i * (1 - i), before * f * (1 - f), i * (1 - g * g), tanh_c * o * (1 - o)], dim=-2
        )
        self.d_gates, self.d_cell = torch.empty_like(value), torch.empty_like(after)

    def step(self, t: int, dh: Tensor, dc: Tensor, to: Tensor) -> Tensor:
        """Write the gradient of y_t [B, 4, F], given that of h_t and what is carried to c_t; return that of c_{t-1}."""
        torch.mul(dh, self.dh_to_c[t], out=self.d_cell[t])
        dc = dc + self.cell_norm.back(t, self.d_cell[t])
        torch.mul(self.to_gates[t, :, :3], dc.unsqueeze(1), out=self.d_gates[t, :, :3])
        torch.mul(self.to_gates[t, :, 3], dh, out=self.d_gates[t, :, 3])
        to.copy_(self.gates_norm.back(t, self.d_gates[t]))
        return dc * self.forget[t]

    def norms(self) -> list[Tensor]:
        """Return the gradients of the four norm parameters, summed over the chunk; none without layer norm."""
        return [*self.gates_norm.sums(self.d_gates), *self.cell_norm.sums(self.d_cell)]


class Identity:
    """No norm: gradients pass."""

    def __init__(self, y: Tensor) -> None:
        self.value = y

    def back(self, t: int, d: Tensor) -> Tensor:
        """Return the gradient of y_t from that of its norm."""
        return d

    def sums(self, d: Tensor) -> list[Tensor]:
        """Return the gradients of weight and bias from that of the norm over all steps."""
        return []


class LayerNorm:
    """Layer norm of y [K, ..., F] over its last axis, with its backward step by step."""

    def __init__(self, y: Tensor, weight: Tensor, bias: Tensor) -> None:
        self.y, self.weight = y, weight
        self.normalised, self.mean, self.rstd = torch.native_layer_norm(y, y.shape[-1:], None, None, EPS)
        self.value = self.normalised * weight + bias

    def back(self, t: int, d: Tensor) -> Tensor:
        """Return the gradient of y_t from that of its norm."""
        F = self.y.shape[-1:]
        dy: Tensor = torch.ops.aten.native_layer_norm_backward(
            (d * self.weight).to(d.dtype), self.y[t], F, self.mean[t], self.rstd[t], None, None, [True, False, False]
        )[0]
        return dy

    def sums(self, d: Tensor) -> list[Tensor]:
        """Return the gradients of weight and bias from that of the norm over all steps."""
        return [(d * self.normalised).flatten(0, 1).sum(0), d.flatten(0, 1).sum(0)]


def norm_gradient(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Identity | LayerNorm:
    """Return the norm that the parameters ask for."""
    return Identity(y) if weight is None or bias is None else LayerNorm(y, weight, bias)


run = rung(__name__, Sweeps(forward, backward))
