"""Dropout: masks drawn by the module, so that under one seed every implementation computes the same function.

Between layers it is that of `torch.nn.LSTM`. Recurrent dropout is on the candidate g of the main LSTM alone,
c_t = f c_{t-1} + i (m_t g), with a mask of its own at each step: what the cell remembers is never dropped (Semeniuta et
al. 2016, arXiv 1603.05118).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import transforms

#: What 16 bits can tell apart.
_LEVELS = 1 << 16


class Mask(NamedTuple):
    """The factors m of some numbers: `scale` where they are kept, 0 elsewhere."""

    kept: Tensor  # bool, one byte a number
    scale: float  # 1 / (1 - p)

    def part(self, steps: slice) -> "Mask":
        """Return the mask of some steps or tokens."""
        return Mask(self.kept[steps], self.scale)


def draw(p: float, shape: Sequence[int], device: torch.device) -> Mask | None:
    """Return a mask that drops with probability p, to the nearest 1/65536, from torch's generator of the device.

    None where p is 0.
    """
    if p == 0:
        return None
    n = math.prod(shape)
    # Four numbers from 64 bits: on a CPU, where drawing is a serial loop, a quarter of the time that one each takes.
    bits = _quarters(torch.randint(-(2**63), 2**63 - 1, (-(-n // 4),), dtype=torch.int64, device=device))[:n]
    dropped = max(1, round(p * _LEVELS))
    return Mask((bits > dropped - 1 - _LEVELS // 2).view(shape), 1 / (1 - p) if p < 1 else 0.0)


def _quarters(bits: Tensor) -> Tensor:
    """Return the four numbers of 16 bits in each of 64, the lowest first."""
    if transforms.active():  # the vmap of torch 2.11 has no rule for a view in another dtype
        return torch.stack([(bits >> shift).to(torch.int16) for shift in range(0, 64, 16)], dim=-1).flatten(-2)
    return bits.view(torch.int16)


def masked(x: Tensor, mask: Mask | None) -> Tensor:
    """Return m x; x itself without a mask."""
    return x if mask is None else x * mask.kept * mask.scale


#: (g [B, H] of a step, which of it are kept) -> m g
Masking = Callable[[Tensor, Any], Tensor]


def masking(scale: float | None) -> Masking:
    """Return what multiplies g by m, or the identity where there is no mask."""
    return (lambda g, kept: g) if scale is None else lambda g, kept: g * kept * scale


def of_steps(mask: Mask | None, T: int) -> tuple[float | None, Sequence[Any]]:
    """Return the scale of a mask over T steps and what each step keeps; all None where there is no mask."""
    return (None, [None] * T) if mask is None else (mask.scale, mask.kept.unbind())


def of_tokens(mask: Mask | None, rows: list[int]) -> tuple[float | None, Sequence[Any]]:
    """Return the same by how many rows go on at each step, of a mask [T, B, H], or [N, H] of packed sequences."""
    return (None, [None] * len(rows)) if mask is None else (mask.scale, mask.kept.flatten(0, -2).split(rows))
