"""What phases are cut for and started by."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from . import tiles
from .tiles import Card, Tile

#: Starts a kernel: (kernel, grid, arguments, compile-time constants and options). Only this depends on where it runs.
Launch = Callable[[Any, tuple[int, ...], Sequence[Any], dict[str, Any]], None]
#: A kernel with its grid and constants: called with its arguments.
Phase = Callable[..., None]


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
        }
        return lambda *given: self.launch(kernel, grid, given, constants)

    def by_row(self, kernel: Any, rows: int, F: int, **sizes: Any) -> Phase:
        """Return the phase that runs a kernel with one program for each row of F numbers."""
        block, warps = tiles.along(F)
        constants = {**sizes, "F": F, "BLOCK": block, "num_warps": warps}
        return lambda *given: self.launch(kernel, (rows,), given, constants)
