"""Whether TF32 operands are rounded to nearest before a product, which a tensor core would cut off instead."""

# mypy: ignore-errors
# What a kernel's arguments are is Triton's to say, which has no static types.

import torch
import triton
import triton.language as tl

from impls.batched_cuda.parts import tf32

#: Bits of a float32 that TF32 drops.
DROPPED = 13


@triton.jit
def rounded(x, to, N: tl.constexpr):
    """Write N numbers as a product would take them."""
    k = tl.arange(0, N)
    tl.store(to + k, tf32(tl.load(x + k)))


def wrongly_rounded() -> str:
    """Return what is not rounded to the nearest of TF32's numbers, halves away from 0; "" if all is."""
    torch.manual_seed(0)
    x = torch.randn(4096) * torch.logspace(-30, 37, 4096)
    x[:5] = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0, -0.0])
    # A NaN whose last bits are all set is what a card makes; added to, it would become -0.
    x.view(torch.int32)[5] = 0x7FFFFFFF
    got = torch.empty_like(x)
    rounded[(1,)](x, got, len(x))
    fraction, exponent = torch.frexp(x.double())
    steps = 2 ** (24 - DROPPED)
    nearest = torch.ldexp((fraction.abs() * steps + 0.5).floor().copysign(fraction) / steps, exponent).float()
    bad = ~((got == nearest) | (x.isnan() & got.isnan()))
    return "" if not bad.any() else f"expected {nearest[bad][:3].tolist()}, got {got[bad][:3].tolist()}"
