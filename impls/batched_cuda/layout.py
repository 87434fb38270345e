"""A layer and its sequences as the kernels read them: dense, each row aligned, units padded to a multiple of eight."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..definition import LayerParams, LayerState, Mask, shapes
from . import split
from .parts import COUNTER, INTERPRETED
from .split import Sizes, Split, arithmetic

#: Rows are padded to a multiple of this many units.
_ALIGNED = 8
#: The weights that the kernels multiply with, as the right operands of their products.
_MULTIPLIED = ("weight_h", "hyper_weight_h", "hyper_weight_s", "z_weight", "d_weight")
#: Largest F whose offsets in [4, F, F] fit 32 bits.
_MOST = 23_168


def padded(units: int) -> int:
    """The units that the kernels have for these, so that each row starts at a multiple of 16 bytes."""
    return -(-units // _ALIGNED) * _ALIGNED


class Dims(NamedTuple):
    """A layer's sizes as the kernels have them, padded, and as they are. What pads stays 0 in every step."""

    H: int
    HN: int
    S: int
    SN: int
    Z: int
    NORM: bool

    @classmethod
    def of(cls, p: LayerParams) -> "Dims":
        """Those of a layer."""
        H, S, Z = p.bias.shape[1], p.hyper_bias.shape[1], p.z_bias.shape[2]
        if max(H, S) > _MOST:
            raise ValueError(f"batched_cuda: expected at most {_MOST} hidden and hyper units, got {H} and {S}")
        return cls(padded(H), H, padded(S), S, Z, p.norm_weight is not None)

    @property
    def widths(self) -> tuple[int, int, int, int]:
        """The units of h, c, h_hat and c_hat."""
        return self.H, self.H, self.S, self.S

    def sizes(self, B: int, dtype: torch.dtype) -> Sizes:
        """The sizes that a split depends on."""
        return Sizes(B, self.H, self.S, self.Z, self.NORM, arithmetic(dtype))

    def constants(self, sizes: Sizes, cut: Split) -> dict[str, Any]:
        """The compile-time constants of all kernels."""
        # The interpreter has no products of bfloat16.
        if INTERPRETED and sizes.arithmetic == "bfloat16":
            precision = "float32"
        else:
            precision = "tf32" if sizes.arithmetic == "tf32" else "ieee"
        return self._asdict() | split.constants(sizes, cut) | {"PRECISION": precision}


def layer(p: LayerParams) -> tuple[Dims, LayerParams]:
    """A layer's sizes and parameters; copies only of those that are padded, not dense or `rounded`."""
    d = Dims.of(p)
    padded_shapes = shapes(p.weight_x.shape[2], d.H, d.S, d.Z, layer_norm=d.NORM)
    own = LayerParams(**{name: dense(pad(getattr(p, name), shape)) for name, shape in padded_shapes.items()})
    return d, rounded(own) if arithmetic(p.bias.dtype) == "tf32" else own


def rounded(p: LayerParams) -> LayerParams:
    """The parameters with the weights of the kernels' products rounded as `parts.tf32` does, once for a pass.

    cuBLAS, which reads them too, would round them itself. They are in one array, so that five operators round them all;
    in each but the last, 16 bytes divide the size.
    """
    weights = [getattr(p, name) for name in _MULTIPLIED]
    exact = torch.cat([q.flatten() for q in weights])
    near = exact.view(torch.int32).add(0x1000).bitwise_and_(-0x2000).view(exact.dtype)
    parts = torch.where(exact == exact, near, exact).split([q.numel() for q in weights])
    return p._replace(**{name: q.view_as(w) for name, q, w in zip(_MULTIPLIED, parts, weights, strict=True)})


def states(s: LayerState, d: Dims) -> LayerState:
    """States [.., F] as the kernels have them, padded and dense."""
    return LayerState(*(dense(pad(q, (*q.shape[:-1], width))) for q, width in zip(s, d.widths, strict=True)))


def pad(q: Tensor, shape: Sequence[int]) -> Tensor:
    """A tensor padded with zeros to a shape; itself where it has that shape."""
    if q.shape == tuple(shape):
        return q
    more = [(0, new - old) for old, new in zip(q.shape, shape, strict=True)]
    return F.pad(q, [n for pair in reversed(more) for n in pair])


def narrow(q: Tensor, shape: Sequence[int]) -> Tensor:
    """The first numbers of each axis, dense: the inverse of `pad`."""
    q = q if q.shape == tuple(shape) else q[tuple(slice(n) for n in shape)]
    return q if q.is_contiguous() else q.contiguous()


def dense(q: Tensor) -> Tensor:
    """The tensor, or a copy that kernels may read: contiguous, from an address that is a multiple of 16 bytes.

    What begins at a row of such a tensor is aligned as its rows are, which the kernels count on (`parts.starts`).
    """
    q = q if q.is_contiguous() else q.contiguous()
    return q.clone() if q.data_ptr() % 16 else q


def masks(mask: Mask | None, H: int) -> dict[str, Any]:
    """The kernels' arguments of g's mask: kept [N, H], 1 where a number is, and their scale; None without a mask."""
    if mask is None:
        return {"kept": None, "scale": None}
    return {"kept": dense(pad(mask.kept, (*mask.kept.shape[:-1], H))), "scale": mask.scale}


def steps(batch_sizes: Sequence[int], B: int, device: torch.device) -> Tensor | None:
    """The first token of each step of packed sequences and the number of all, then the steps of each of B rows.

    By one small copy from the host, which a CUDA graph cannot capture; None for a batch, whose steps all have B rows.
    """
    if not batch_sizes:
        return None
    ended = [t for t, (before, size) in enumerate(zip((B, *batch_sizes), (*batch_sizes, 0), strict=True))
             for _ in range(before - size)]  # fmt: skip
    numbers = [*accumulate(batch_sizes, initial=0), *ended[::-1]]
    return torch.tensor(numbers, dtype=torch.int64).to(device, non_blocking=True)


def room(cut: Split, numbers: int, like: Tensor) -> Tensor:
    """Memory that one launch needs in addition to its arguments: counters of the groups, then numbers of 4 bytes.

    All are 0, so that one operator makes it, but only the counters need that. numbers: how many there are.
    """
    numbers += cut.groups * COUNTER.value
    return like.new_zeros(numbers, dtype=torch.int32)


def joined_input_weight(p: LayerParams) -> Tensor:
    """Both LSTMs' weights for x side by side, [I, 4H + 4S]."""
    return torch.cat([turned(p.weight_x), turned(p.hyper_weight_x)], 1)


def mm_float32(a: Tensor, b: Tensor) -> Tensor:
    """`torch.mm`, of half precision too with its sums in float32 as the result.

    With rounded sums the gradient of z_bias would err by up to 1.7 times as much.
    """
    if a.element_size() >= 4:
        return torch.mm(a, b)
    if INTERPRETED:  # a product of the CPU has the dtype of its factors
        return torch.mm(a.float(), b.float())
    return torch.mm(a, b, out_dtype=torch.float32)


def turned(weight: Tensor) -> Tensor:
    """A view of a dense weight [4, F, G] as [G, 4F]; one operator, where two transpose and join axes."""
    _, F, G = weight.shape
    return weight.as_strided((G, 4 * F), (1, G))
