"""Dropout: masks drawn by the module, so that under one seed every implementation computes the same function.

Between layers it is that of `torch.nn.LSTM`. Recurrent dropout is on the candidate g of the main LSTM alone,
c_t = f c_{t-1} + i (m_t g), with a mask of its own at each step: what the cell remembers is never dropped (Semeniuta et
al. 2016, arXiv 1603.05118).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..definition import Mask
from ..registry import in_transform

#: What 16 bits can tell apart.
_LEVELS = 1 << 16


def draw(p: float, shape: Sequence[int], device: torch.device) -> Mask | None:
    """A mask that drops with probability p, to the nearest 1/65536, from torch's generator of the device.

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
    """The four numbers of 16 bits in each of 64, the lowest first."""
    if in_transform():  # the vmap of torch 2.11 has no rule for a view in another dtype
        return torch.stack([(bits >> shift).to(torch.int16) for shift in range(0, 64, 16)], dim=-1).flatten(-2)
    return bits.view(torch.int16)
