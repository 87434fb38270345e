"""The gradient of an LSTM cell and of layer norm, step by step, for a backward pass over chunks of steps."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..definition import EPS, CellNorms, Mask, masked


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
        d_gates = dy if self.gates_norm.weight is None else torch.empty_like(dy)
        d_cell: Tensor = self.cell_norm.back(t, dh * self.into_cell[t])
        dc = torch.addcmul(d_cell, dc, self.forget, out=self.dc[t])
        self.forget = self.f[t]
        torch.mul(into[:, :3], dc.unsqueeze(1), out=d_gates[:, :3])
        torch.mul(into[:, 3], dh, out=d_gates[:, 3])
        if d_gates is not dy:
            dy.copy_(self.gates_norm.back(t, d_gates))
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

    def back(self, t: slice, d: Tensor) -> Tensor:
        """The gradient of y_t from that of the norm's output, already multiplied by the norm's weight."""
        if self.weight is None:
            return d
        F = self.y.shape[-1:]
        dy: Tensor = torch.ops.aten.native_layer_norm_backward(
            d, self.y[t], F, self.mean[t], self.rstd[t], None, None, [True, False, False]
        )[0]
        return dy

    def sums(self, d: Callable[[], Tensor]) -> list[Tensor]:
        """The gradients of weight and bias from the gradient of the norm's output over all steps."""
        if self.weight is None:
            return []
        rows = d()
        # As wide as the cells, where moments in half precision would cost digits.
        normalised = torch.native_layer_norm(self.y.to(rows.dtype), self.y.shape[-1:], None, None, EPS)[0]
        return [normalised.mul_(rows).sum(0), rows.sum(0)]
