"""What phases are cut for and started by."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..definition import CellNorms
from ..dropout import Mask
from . import tiles
from .tiles import Card, Tile

#: Starts a kernel: (kernel, grid, arguments, compile-time constants and options). Only this depends on where it runs.
Launch = Callable[[Any, tuple[int, ...], Sequence[Any], dict[str, Any]], None]
#: Multiply-adds may be fused, whatever Triton's default is, which changes.
_OPTIONS = {"enable_fp_fusion": True}
#: A kernel with its grid and constants: called with its arguments.
Phase = Callable[..., None]


def dense(q: Tensor) -> Tensor:
    """Return what kernels may read: contiguous, from an address that is a multiple of 16 bytes; a copy if q is not so.

    What begins at a row of such a tensor is aligned as its rows are, which the kernels count on (`parts.starts`).
    """
    q = q.contiguous()
    return q.clone() if q.data_ptr() % 16 else q


def dense_norms(norms: CellNorms) -> CellNorms:
    """Return norms that kernels may read."""
    return CellNorms(*(None if q is None else dense(q) for q in norms))


class DenseMask(NamedTuple):
    """A mask of g that kernels may read; two None where there is none."""

    kept: Tensor | None  # [K, B, H], 1 where a number is kept, else 0
    scale: float | None


NO_MASK = DenseMask(None, None)


def dense_mask(mask: Mask | None) -> DenseMask:
    """Return a mask that kernels may read."""
    # As numbers of a byte: of bits, as which Triton takes bool, no address of a row can be told.
    return NO_MASK if mask is None else DenseMask(dense(mask.kept.view(torch.uint8)), mask.scale)


@dataclass(frozen=True)
class Target:
    """The card, how float32 products are made, and how a kernel is started."""

    card: Card
    precision: str  # "ieee", "tf32" or, in an interpreter without bfloat16 products, "wide"
    launch: Launch

    def tiled(self, kernel: Any, tile: Tile, B: int, F: int, across: int = 1, **sizes: Any) -> Phase:
        """Return the phase that runs a kernel over the tiles of [B, F]; across: the grid's second axis."""
        grid = (-(-B // tile.rows) * -(-F // tile.units), across)
        constants = {
            **sizes,
            "ROWS": tile.rows,
            "UNITS": tile.units,
            "DEPTH": tile.depth,
            "PRECISION": self.precision,
            "num_warps": tile.warps,
            "num_stages": tile.stages,
            **_OPTIONS,
        }
        return lambda *given: self.launch(kernel, grid, given, constants)

    def by_program(self, kernel: Any, cut: tiles.Sequence, B: int, **sizes: Any) -> Phase:
        """Return the launch of a kernel whose programs have some of B rows for themselves."""
        constants = {
            **sizes,
            "ROWS": cut.rows,
            "UNITS": cut.units,
            "S_UNITS": cut.s_units,
            "WHOLE": cut.whole,
            "S_WHOLE": cut.s_whole,
            "DEPTH": cut.depth,
            "PRECISION": self.precision,
            "num_warps": cut.warps,
            "num_stages": 2,
            **_OPTIONS,
        }
        return lambda *given: self.launch(kernel, (-(-B // cut.rows),), given, constants)

    def by_row(self, kernel: Any, rows: int, F: int, **sizes: Any) -> Phase:
        """Return the phase that runs a kernel with one program for each row of F numbers."""
        block, warps = tiles.along(F)
        constants = {**sizes, "F": F, "BLOCK": block, "num_warps": warps, **_OPTIONS}
        return lambda *given: self.launch(kernel, (rows,), given, constants)
