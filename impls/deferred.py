"""A hand-written gradient: the loop over steps computes only what must be sequential; weight gradients follow it."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

from .definition import (
    EPS,
    CellNorms,
    Inputs,
    LayerParams,
    LayerState,
    Mask,
    Masking,
    Norm,
    embedding_bias,
    hidden_weight,
    input_weight,
    masked,
    masking,
    norm,
    of_tokens,
    steps_of,
    tokens,
)
from .gradient.backward import BackwardSweep, Chunk, Deltas, Weights, by_chunks
from .gradient.chunks import NUMBERS, bounds, limits, part, stretches
from .gradient.operator import HandWritten, allocate_states, as_operator, in_dtypes

#: (inputs of some steps, arrays for the states after each, array for uh or None) -> last state
_ForwardSweep = Callable[[Inputs, LayerState, Tensor | None], LayerState]


def forward(
    p: LayerParams, inputs: Inputs, out: Tensor, states: Sequence[Tensor], residuals: Tensor | None
) -> LayerState:
    """Run over a sequence chunk by chunk, so that the products with x stay in the cache."""
    chunks = stretches(bounds(limits(out.device).forward, NUMBERS, p, inputs), inputs.batch_sizes)
    sweep, length = _forward_sweep(p), max(chunk.at.stop - chunk.at.start for chunk in chunks)
    # Unless states are saved, each chunk overwrites the states of the previous chunk.
    arrays = states or allocate_states(p, out, (length, *out.shape[1:-1]))
    s = in_dtypes(inputs.start, (out, *arrays))
    for chunk in chunks:
        at = chunk.at if states else slice(chunk.at.stop - chunk.at.start)
        into = LayerState(out[chunk.at], *(q[at] for q in arrays))
        s = sweep(part(inputs, chunk, s), into, None if residuals is None else residuals[chunk.at])
        s = LayerState(*(q.clone() for q in s))
    return s


def _forward_sweep(p: LayerParams) -> _ForwardSweep:
    """The sweep over a chunk's steps in torch operations, in place where that saves a pass over memory."""
    H, S, Z = p.bias.shape[1], p.hyper_bias.shape[1], p.z_bias.shape[2]
    n, n_hyper = norm(p.norm_weight, p.norm_bias), norm(p.hyper_norm_weight, p.hyper_norm_bias)
    n_c, n_hyper_c = norm(p.norm_c_weight, p.norm_c_bias), norm(p.hyper_norm_c_weight, p.hyper_norm_c_bias)
    w_x, w_h = input_weight(p), hidden_weight(p).T
    w_s, w_z = p.hyper_weight_s.flatten(0, 1).T, p.z_weight.flatten(0, 2).T
    all_of_g = masking(None)
    b_z, w_d, b_d = embedding_bias(p), p.d_weight.flatten(0, 1).mT, _scale_bias(p)

    def sweep(inputs: Inputs, into: LayerState, residuals: Tensor | None) -> LayerState:
        rows, vx = inputs.rows, tokens(linear(inputs.x, w_x))
        uh = torch.empty_like(vx) if residuals is None else tokens(residuals)
        v = vx[:, : 4 * H].unflatten(1, (4, H))
        a_x = vx[:, 4 * H :] + p.hyper_bias.flatten()
        h, c, h_hat, c_hat = inputs.start
        y = v.new_empty(len(h), 4, H)
        scale, kept = of_tokens(inputs.mask, rows)
        m = masking(scale)
        u, a_h = uh[:, : 4 * H].unflatten(1, (4, H)), uh[:, 4 * H :]
        arrays = (v, a_x, uh, u, a_h, *map(tokens, into))
        steps = zip(rows, kept, *(part.split(rows) for part in arrays), strict=True)
        ended: list[list[Tensor]] = []
        for B, kept_t, v_t, a_x_t, uh_t, u_t, a_h_t, to_h, to_c, to_h_hat, to_c_hat in steps:
            if len(h) > B:
                ended.append([part[B:] for part in (h, c, h_hat, c_hat)])
                h, c, h_hat, c_hat, y = (part[:B] for part in (h, c, h_hat, c_hat, y))
            torch.mm(h, w_h, out=uh_t)
            a = torch.addmm(a_x_t, h_hat, w_s).add_(a_h_t)
            h_hat, c_hat = _cell(n_hyper(a.view(B, 4, S)), c_hat, n_hyper_c, all_of_g, None, to_h_hat, to_c_hat)
            z = torch.addmm(b_z, h_hat, w_z).view(B, 12, Z)
            d_h, d_x, b = torch.baddbmm(b_d, z.transpose(0, 1), w_d).view(3, 4, B, H).transpose(1, 2)
            torch.mul(d_h, u_t, out=y)
            y.addcmul_(d_x, v_t).add_(b)
            h, c = _cell(n(y), c, n_c, m, kept_t, to_h, to_c)
        return LayerState(*map(torch.cat, zip((h, c, h_hat, c_hat), *reversed(ended), strict=True)))

    return sweep


def _scale_bias(p: LayerParams) -> Tensor:
    """The bias of the twelve d from z, [12, 1, H]: 0 except for the last four."""
    return torch.cat([torch.zeros_like(p.bias), torch.zeros_like(p.bias), p.bias]).unsqueeze(1)


def _cell(
    y: Tensor, c: Tensor, n_c: Norm, m: Masking, kept: Tensor | None, to_h: Tensor, to_c: Tensor
) -> tuple[Tensor, Tensor]:
    """Write h and c after one step of an LSTM cell with gates y [B, 4, F] and return them."""
    i, f = torch.sigmoid(y[:, :2]).unbind(1)
    g, o = m(torch.tanh(y[:, 2]), kept), torch.sigmoid(y[:, 3])
    torch.addcmul(f * c, i, g, out=to_c)
    torch.mul(o, torch.tanh(n_c(to_c)), out=to_h)
    return to_h, to_c


def _backward_sweep(p: LayerParams, weights: Weights) -> BackwardSweep:
    """The backward sweep over a chunk's steps (impls/README.md, Gradient), without the sums over steps."""
    H, S, Z = p.bias.shape[1], p.hyper_bias.shape[1], p.z_bias.shape[2]
    w_h, w_s, w_z = weights.h, p.hyper_weight_s.flatten(0, 1), weights.z
    w_d = p.d_weight.flatten(0, 1)

    def sweep(chunk: Chunk, d_out: Tensor, d_last: LayerState) -> tuple[Deltas, LayerState]:
        rows, mask = chunk.inputs.rows, chunk.inputs.mask
        before, after = (LayerState(*map(tokens, s)) for s in (chunk.before, chunk.after))
        uh, vx, z, d_out = tokens(chunk.uh), tokens(chunk.vx), chunk.z.flatten(0, -3), tokens(d_out)
        mask, N = mask and Mask(tokens(mask.kept), mask.scale), len(uh)
        u, a_h = uh.split([4 * H, 4 * S], dim=1)
        v, a_x = vx.split([4 * H, 4 * S], dim=1)
        a = (before.h_hat @ w_s.T).add_(a_h).add_(a_x).add_(p.hyper_bias.flatten())
        z = z.transpose(0, 1)  # [12, N, Z]
        d_h, d_x = torch.bmm(z[:8], w_d[:8].mT).view(2, 4, N, H).transpose(1, 2)  # [N, 4, H] each
        b = torch.baddbmm(p.bias.unsqueeze(1), z[8:], w_d[8:].mT).transpose(0, 1)
        u, v = u.unflatten(1, (4, H)), v.unflatten(1, (4, H))
        d_uh = uh.new_empty(N, 4 * H + 4 * S)
        du, da = d_uh[:, : 4 * H].unflatten(1, (4, H)), d_uh[:, 4 * H :].unflatten(1, (4, S))
        dy, dz = d_uh.new_empty(N, 4, H), d_uh.new_empty(N, 12, Z)
        y = torch.mul(d_h, u, out=d_uh.new_empty(N, 4, H)).addcmul_(d_x, v).add_(b)
        del b
        main = CellGradient(y, before.c, after.c, p.norms, mask, dy)
        hyper = CellGradient(a.view(N, 4, S), before.c_hat, after.c_hat, p.hyper_norms, None, da)
        widest = d_uh.new_empty(8, rows[0], H)
        dh, dc, dh_hat, dc_hat = (d[: rows[-1]] for d in d_last)
        for B, t in reversed(list(zip(rows, steps_of(rows), strict=True))):
            if len(dh) < B:
                so_far = dh, main.last(dc), dh_hat, hyper.last(dc_hat)
                dh, dc, dh_hat, dc_hat = joined(so_far, d_last, B)
            scaled = widest[:, :B]
            torch.add(d_out[t], dh, out=main.dh[t])
            dc = main.step(t, dc)
            torch.mul(dy[t], d_h[t], out=du[t])
            torch.mul(dy[t], u[t], out=scaled[:4].transpose(0, 1))
            torch.mul(dy[t], v[t], out=scaled[4:].transpose(0, 1))
            dz[t, :8] = torch.bmm(scaled, w_d[:8]).transpose(0, 1)
            dz[t, 8:] = torch.bmm(dy[t].transpose(0, 1), w_d[8:]).transpose(0, 1)
            torch.addmm(dh_hat, dz[t].view(B, 12 * Z), w_z, out=hyper.dh[t])
            dc_hat = hyper.step(t, dc_hat)
            dh, dh_hat = d_uh[t] @ w_h, d_uh[t, 4 * H :] @ w_s
        deltas = Deltas(d_uh, (dy * d_x).flatten(1), dy, dz, (*main.norms(), *hyper.norms()))
        first = dh, main.last(dc), dh_hat, hyper.last(dc_hat)
        return deltas, LayerState(*joined(first, d_last, len(d_last.h)))

    return sweep


def joined(d: Sequence[Tensor], d_last: LayerState, rows: int) -> list[Tensor]:
    """The gradients d, extended to `rows` rows by the d_last of sequences that end here."""
    return [torch.cat([part, q[len(part) : rows]]) for part, q in zip(d, d_last, strict=True)]


class CellGradient:
    """The gradient of one LSTM cell over a chunk; everything that does not depend on later steps is computed first."""

    def __init__(
        self, y: Tensor, before: Tensor, after: Tensor, norms: CellNorms, mask: Mask | None, dy: Tensor
    ) -> None:
        """Take gates y [N, 4, F] before their norm, raw cells [N, F], g's mask, and the buffer of dy."""
        weight, bias, c_weight, c_bias = norms
        self.gates_norm, self.cell_norm = NormGradient(y, weight, bias), NormGradient(after, c_weight, c_bias)
        value = self.gates_norm.value
        i, f = torch.sigmoid(value[:, :2]).unbind(1)
        g, o = torch.tanh(value[:, 2]), torch.sigmoid(value[:, 3])
        tanh_c = torch.tanh(self.cell_norm.value)
        self.to_cell = o * (1 - tanh_c * tanh_c)  # [N, F], from dh to the cell after its norm
        self.to_gates = torch.stack(  # [N, 4, F], from dc to i, f, g and from dh to o, after their norm
            [masked(g, mask) * i * (1 - i), before * f * (1 - f), masked(i * (1 - g * g), mask), tanh_c * o * (1 - o)],
            dim=1,
        )
        self.f, self.ones = f, torch.ones_like(f[:1])
        self.forget = self.ones  # factor from the gradient of c after a step to the gradient before it
        self.into_cell, self.into_gates = self.cell_norm.scale(self.to_cell), self.gates_norm.scale(self.to_gates)
        self.dy, self.dh, self.dc = dy, y.new_empty(after.shape), torch.empty_like(after)

    def step(self, t: slice, dc: Tensor) -> Tensor:
        """Write the gradient of y at a step's tokens from dh[t] and the gradient dc of the cell at the next step.

        Returns dc at this step.
        """
        dh, into, dy = self.dh[t], self.into_gates[t], self.dy[t]
        d_gates = self.gates_norm.buffer(dy)
        d_cell: Tensor = self.cell_norm.back(t, dh * self.into_cell[t])
        dc = torch.addcmul(d_cell, dc, self.forget, out=self.dc[t])
        self.forget = self.f[t]
        torch.mul(into[:, :3], dc.unsqueeze(1), out=d_gates[:, :3])
        torch.mul(into[:, 3], dh, out=d_gates[:, 3])
        self.gates_norm.finish(t, d_gates, dy)
        return dc

    def last(self, dc: Tensor) -> Tensor:
        """The gradient of c before the first step processed so far."""
        before: Tensor = dc * self.forget
        self.forget = self.ones
        return before

    def norms(self) -> list[Tensor]:
        """The gradients of the four norm parameters, summed over the chunk; none without layer norm."""
        gates, cell = self.gates_norm, self.cell_norm
        return [
            *gates.sums(lambda: self.to_gates * torch.stack([self.dc] * 3 + [self.dh], dim=1)),
            *cell.sums(lambda: self.to_cell * self.dh),
        ]


class NormGradient:
    """Layer norm of y [N, ..., F] over its last axis, with a backward pass by steps; the identity without a weight."""

    def __init__(self, y: Tensor, weight: Tensor | None, bias: Tensor | None) -> None:
        self.y, self.weight, self.value = y, weight, y
        if weight is not None and bias is not None:
            normalised, self.mean, self.rstd = torch.native_layer_norm(y, y.shape[-1:], None, None, EPS)
            self.value = torch.addcmul(bias, normalised, weight)

    def scale(self, d: Tensor) -> Tensor:
        """Multiply d by the norm's weight."""
        return d if self.weight is None else (d * self.weight).to(d.dtype)

    def buffer(self, dy: Tensor) -> Tensor:
        """Buffer for the gradient of the norm's output; dy itself without a norm."""
        return dy if self.weight is None else torch.empty_like(dy)

    def back(self, t: slice, d: Tensor) -> Tensor:
        """The gradient of y_t from that of the norm's output, already multiplied by the norm's weight."""
        if self.weight is None:
            return d
        F = self.y.shape[-1:]
        dy: Tensor = torch.ops.aten.native_layer_norm_backward(
            d, self.y[t], F, self.mean[t], self.rstd[t], None, None, [True, False, False]
        )[0]
        return dy

    def finish(self, t: slice, d: Tensor, dy: Tensor) -> None:
        """Write the gradient of y_t to dy."""
        if self.weight is not None:
            dy.copy_(self.back(t, d))

    def sums(self, d: Callable[[], Tensor]) -> list[Tensor]:
        """The gradients of weight and bias from the gradient of the norm's output over all steps."""
        if self.weight is None:
            return []
        rows = d()
        normalised = (self.y - self.mean).mul_(self.rstd)
        return [normalised.mul_(rows).sum(0), rows.sum(0)]


run = as_operator(__name__, HandWritten(forward, by_chunks(_backward_sweep), residuals=lambda I, H, S: 4 * (H + S)))
