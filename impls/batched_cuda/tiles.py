"""How a phase is cut into tiles: the cut that is cheapest by a small model of a multiprocessor's time.

The model is arithmetic on sizes, not a measurement, and has one purpose: the same cut for the same sizes and card,
everywhere - on a GPU, in the interpreter and in the ahead-of-time checks.
"""

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch

#: Bytes from L2, and multiply-adds by type, that one multiprocessor gets through in a clock: round figures of the
#: 8.0 and 9.0 generations, whose ratio alone matters here.
_L2_BYTES = 64
_MULTIPLY_ADDS = {torch.float32: 128, torch.bfloat16: 1024, torch.float16: 1024}
_TF32 = 512
#: The sides that a tile can have.
_ROWS, _UNITS = (16, 32, 64, 128), (16, 32, 64)
#: The most numbers of a tile, by gates, and its warps: with twice as many a warp the main phases spill registers.
_LARGEST, _WARPS = {1: 2048, 4: 1024}, 4
#: Shared memory that is kept free of loads in flight, for operands that change their layout and for sums of a row.
_SPARE = 24 << 10
#: Clocks that a phase costs whatever its size: launch, first loads, epilogue.
_START = 2000


class Card(NamedTuple):
    """What the cut depends on."""

    multiprocessors: int
    shared: int  # bytes of shared memory that a block may take

    @classmethod
    def of(cls, device: torch.device) -> "Card":
        """Return the properties of a CUDA device; for another, which only stands in for one, those of an H100."""
        if device.type != "cuda":
            return H100
        from triton.runtime import driver

        known = driver.active.utils.get_device_properties(torch.cuda._utils._get_device_index(device, optional=True))
        return cls(known["multiprocessor_count"], known["max_shared_mem"])


#: A card for each compute capability that NVIDIA has sold with tensor cores for bfloat16.
A100, A10, L4 = Card(108, 163 << 10), Card(72, 99 << 10), Card(58, 99 << 10)
H100, B200, RTX_5090 = Card(132, 227 << 10), Card(148, 227 << 10), Card(170, 99 << 10)


class Tile(NamedTuple):
    """One program's share: batch rows by units (of each gate), the step along the sum, warps, loads in flight."""

    rows: int
    units: int
    depth: int
    warps: int
    stages: int


@dataclass(frozen=True)
class Cut:
    """Cuts products on a card."""

    card: Card
    dtype: torch.dtype
    precision: str

    def __call__(self, B: int, F: int, K: int, *, gates: int = 1, copies: int = 1, factors: int = 1) -> Tile:
        """Return the tile for [B, K] x [K, gates F], the gates of a unit together; `copies` of it run side by side.

        factors: how many arrays [B, K] are loaded, whose product is the first operand.
        """
        return _tile(self, B, F, gates, K, copies, factors, 1)

    def for_gates(self, B: int, F: int, K: int, normed: bool) -> tuple[Tile, str]:
        """Return the tile for [B, K] x [K, 4F], the gates of a unit together, and where their layer norm stands.

        "no" norm; "here", in tiles that hold whole rows; or "later", in a phase of its own, where such tiles would cost
        more than that phase.
        """
        tile = _tile(self, B, F, 4, K, 1, 1, 1)
        if not normed:
            return tile, "no"
        if padded(F) > _UNITS[-1]:
            return tile, "later"
        whole = _tile(self, B, F, 4, K, 1, 1, F)
        later = self.clocks(B, F, 4, K, 1, 1, tile.rows, tile.units) + _START
        return (whole, "here") if self.clocks(B, F, 4, K, 1, 1, whole.rows, whole.units) <= later else (tile, "later")

    def clocks(self, B: int, F: int, gates: int, K: int, copies: int, factors: int, rows: int, units: int) -> float:
        """Return the model's time of a whole product."""
        waves = -(-copies * -(-B // rows) * -(-F // units) // self.card.multiprocessors)
        loads = (factors * rows + gates * units) * K * self.dtype.itemsize / _L2_BYTES
        macs = _TF32 if self.precision == "tf32" else _MULTIPLY_ADDS[self.dtype]
        return _START + waves * max(loads, rows * gates * units * K / macs)

    def stages(self, gates: int, K: int, factors: int, rows: int, units: int) -> int:
        """Return how many steps along the sum fit into shared memory beside `_SPARE`."""
        step = (factors * rows + gates * units) * self.depth(K) * self.dtype.itemsize
        return int((self.card.shared - _SPARE) // step)

    def depth(self, K: int) -> int:
        """Return the step along a sum over K: a cache line of each row."""
        return min(128 // self.dtype.itemsize, padded(K))


@cache
def _tile(cut: Cut, B: int, F: int, gates: int, K: int, copies: int, factors: int, least: int) -> Tile:
    """Return the cheapest tile of at least so many units, two steps of which fit: one loads while one is used."""
    sizes = [
        (rows, units)
        for rows in _ROWS
        for units in _UNITS
        if rows * units <= _LARGEST[gates] and rows < 2 * max(B, 16) and least <= units < 2 * max(F, 16)
        if cut.stages(gates, K, factors, rows, units) >= 2
    ]
    rows, units = min(sizes, key=lambda size: (cut.clocks(B, F, gates, K, copies, factors, *size), size))
    return Tile(rows, units, cut.depth(K), _WARPS, min(4, cut.stages(gates, K, factors, rows, units)))


def padded(n: int) -> int:
    """Return the power of two from 16 up that holds n columns of a product."""
    return max(16, 1 << (n - 1).bit_length())


class Sequence(NamedTuple):
    """How a program goes over all steps of its rows: tiles of both LSTMs, whole rows of both, the step along sums."""

    rows: int
    units: int
    s_units: int
    whole: int
    s_whole: int
    depth: int
    warps: int


#: The largest H + S for which a program owns rows with all their units.
ALONE = 256


def sequence(H: int, S: int, dtype: torch.dtype, *, whole_rows: bool, step: int) -> Sequence | None:
    """Return how one launch does all steps, or None where each phase of a step has its own; depends on size alone.

    step: bytes of a row that a product goes along at a time.
    """
    if H + S > ALONE:
        return None
    whole, s_whole = padded(H), padded(S)
    # Half as many numbers a warp as elsewhere, since all phases' pointers live at once.
    warps = 2 * _WARPS if whole_rows else _WARPS
    units, s_units = (min(n, warps * 8) for n in (whole, s_whole))
    return Sequence(_ROWS[0], units, s_units, whole, s_whole, step // dtype.itemsize, warps)


class RowBlock(NamedTuple):
    """How a program goes along a row: numbers at a time, and warps."""

    block: int
    warps: int


def along(F: int) -> RowBlock:
    """Return the blocks for a row of F numbers: one block where it holds 2048 or fewer."""
    block = min(2048, padded(F))
    return RowBlock(block, max(1, min(8, block // 128)))
