"""How a pass is split among the multiprocessors of a card: groups, members and tiles, by a small model of its time.

The model is arithmetic on sizes, not a measurement. It has two purposes: the same split for the same sizes and card,
everywhere, and a prediction to hold the first run on a card against.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import torch

#: Bytes from L2 that one multiprocessor gets in a clock while all ask; the whole of an H100 some 5.5 TB/s.
L2_BYTES = 24
#: Multiply-adds that one multiprocessor makes in a clock, by how numbers are multiplied.
MULTIPLY_ADDS = {"float32": 128, "tf32": 512, "bfloat16": 1024, "float16": 1024}
#: Microseconds of a barrier; of one turn of a loop whose turns wait for one another; and of reading what was just
#: written, which each part of a phase begins with.
BARRIER, TURN, ROUND_TRIP = 1.2, 0.13, 0.5
#: Rows of a tile between the products, as in `phases.py`, which imports Triton.
TILE = 16
#: Bytes of a tile of the products that a thread has registers for, and of the gates of a tile of the other phases;
#: backward, where it holds far more arrays, half of the products' and so many gates. The threads of a warp.
SUMS, GATES, GATES_BACK, WARP = 64, 32, 4, 32
#: The rows of a group, the columns of a tile of the products, and the units of a tile of the other phases.
_ROWS, _COLUMNS, _UNITS = (16, 32, 64, 128), (16, 32, 64, 128), (16, 32, 64)
#: Shared memory that is kept free of loads in flight, for operands that change their layout and for sums of a row.
SPARE = 24 << 10
#: Multiprocessors that stay free for other kernels, such as NCCL's, where that takes at most so much longer.
FREE, LONGER = 4, 1.06


class Card(NamedTuple):
    """What a split depends on."""

    multiprocessors: int
    shared: int  # bytes of shared memory that a program may take
    clock: float = 1.7  # GHz, for predictions

    @classmethod
    def of(cls, device: torch.device) -> "Card":
        """The properties of a CUDA device; of another, on which kernels are interpreted, those of `ONE`."""
        return _card(torch.cuda._utils._get_device_index(device, optional=True)) if device.type == "cuda" else ONE


@cache  # the driver takes up to a millisecond
def _card(device: int) -> Card:
    from triton.runtime import driver

    known = driver.active.utils.get_device_properties(device)
    return Card(known["multiprocessor_count"], known["max_shared_mem"])


#: One program after the other, as Triton's interpreter runs them.
ONE = Card(1, 227 << 10)
A100, A10 = Card(108, 163 << 10, 1.41), Card(72, 99 << 10, 1.69)
L4, RTX_4090 = Card(58, 99 << 10, 2.04), Card(128, 99 << 10, 2.52)
H100, B200, RTX_5090 = Card(132, 227 << 10, 1.755), Card(148, 227 << 10, 1.85), Card(170, 99 << 10, 2.41)


class Sizes(NamedTuple):
    """What one layer's pass depends on; H and S are multiples of 8."""

    B: int
    H: int
    S: int
    Z: int
    layer_norm: bool
    arithmetic: str  # as in MULTIPLY_ADDS

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return 2 if self.arithmetic in ("bfloat16", "float16") else 4


@dataclass(frozen=True)
class Split:
    """One pass: its groups of members, and the tiles of their phases, as the kernels name them."""

    groups: int
    members: int
    rows: int  # of a group
    columns: int  # of a tile of the products
    extra: int  # columns more, where these make the tiles come out even
    depth: int
    units: int  # of a tile of the other phases
    shares: int  # how many programs share out the units of a tile of rows
    some: int  # rows of the hyper LSTM that a program takes at a time; backward, of a job
    warps: int
    stages: int
    microseconds: float = 0.0  # of a step, by the model
    l2_bytes: int = 0  # of a step, by all programs
    barriers: int = 0  # of a step

    @property
    def programs(self) -> int:
        """Programs of the launch."""
        return self.groups * self.members

    @property
    def alone(self) -> bool:
        """True if groups have one member, which waits for no other."""
        return self.members == 1


def forward(sizes: Sizes, card: Card) -> Split:
    """The split of a forward pass that is the fastest by the model."""
    return _split(sizes, card, forward_step)


def backward(sizes: Sizes, card: Card) -> Split:
    """The split of a backward pass that is the fastest by the model."""
    return _split(sizes, card, backward_step)


#: The time of one step: (sizes, card, split) -> the split with its microseconds, bytes and barriers.
Step = Callable[[Sizes, Card, Split], Split]


@cache
def _split(sizes: Sizes, card: Card, step: Step) -> Split:
    """The fastest split; of two that are as fast the smaller."""
    found = [step(sizes, card, one) for one in candidates(sizes, card, step is forward_step)]
    best = min(found, key=cost)
    spared = [one for one in found if one.programs <= max(1, card.multiprocessors - FREE)]
    free = min(spared, key=cost, default=best)
    return free if free.microseconds <= LONGER * best.microseconds else best


def cost(one: Split) -> tuple[float, ...]:
    """The key that splits are ordered by: the model's time, then how small they are."""
    return round(one.microseconds, 3), one.programs, one.rows, one.columns, one.extra, one.units, one.shares


def candidates(sizes: Sizes, card: Card, both_sums: bool) -> Iterable[Split]:
    """Yield splits that fit the card; both_sums: whether the products may have extra columns."""
    narrow = sizes.H + sizes.S <= 256
    for rows, (columns, extra, warps, stages), units in product(_ROWS, _tiles(sizes, card, both_sums), _UNITS):
        groups, across = -(-sizes.B // rows), -(-sizes.H // units)
        sums, gates = SUMS // sizes.itemsize, GATES // sizes.itemsize
        if not both_sums:
            sums, gates = sums // 2, GATES_BACK
        fits = rows * (columns + extra) <= sums * WARP * warps and units * 4 * TILE <= gates * WARP * warps
        loads = stages // (rows + columns + extra)
        if not fits or loads < 2 or rows >= 2 * max(sizes.B, TILE) or units >= 2 * _power(sizes.H):
            continue
        for members in _members(card.multiprocessors // groups, narrow):
            shares = max(1, min(across, members // (rows // TILE)))
            some = _some(sizes, warps) if both_sums else min(_some(sizes, warps), _power_below(max(1, rows // members)))
            yield Split(groups, members, rows, columns, extra, _depth(sizes), units, shares, some, warps, min(4, loads))


def _depth(sizes: Sizes) -> int:
    """The step along a sum: a cache line of each row; half of one in float32, whose own products take registers."""
    most = {"float32": 16, "tf32": 32}.get(sizes.arithmetic, 64)
    return min(most, _power(max(sizes.H, sizes.S)))


def _some(sizes: Sizes, warps: int) -> int:
    """Rows of the hyper LSTM that a program takes at a time: as many as its threads hold some twenty arrays of."""
    return max(1, min(TILE, 4 * WARP * warps // _power(sizes.S)))


def _tiles(sizes: Sizes, card: Card, both_sums: bool) -> list[tuple[int, int, int, int]]:
    """Columns of a tile of the products and more of them, warps, and the rows and columns that fit the card."""
    most = int((card.shared - SPARE) // (_depth(sizes) * sizes.itemsize))
    extras = (0, 16, 32) if both_sums else (0,)
    return [(c, extra, warps, most) for c in _COLUMNS for extra in extras if extra < c for warps in (4, 8)]


def _members(most: int, narrow: bool) -> Iterable[int]:
    """Yield how many members a group may have, if so many programs can be there at a time."""
    yield 1
    some = {2, 3, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, most, most - FREE}
    yield from sorted(n for n in some if 1 < n <= (min(most, 24) if narrow else most))


class _Clock:
    """Adds up the phases of a step: the slowest member's time, and what all read from L2."""

    def __init__(self, sizes: Sizes, card: Card, split: Split) -> None:
        self.sizes, self.card, self.split = sizes, card, split
        # More groups than multiprocessors run one after the other.
        self.waves = -(-split.programs // card.multiprocessors)
        self.time, self.bytes, self.barriers = 0.0, 0.0, 0

    def phase(self, jobs: int, numbers: float, multiply_adds: float, turns: float, wide: float = 0.0) -> None:
        """Add one: jobs shared out, each with numbers read in the dtype, and wide ones in float32."""
        size = numbers * self.sizes.itemsize + wide * 4
        # A program that has the whole of L2's rate to itself does not read faster than it can ask.
        clocks = max(size / L2_BYTES, multiply_adds / MULTIPLY_ADDS[self.sizes.arithmetic])
        each = max(clocks / (self.card.clock * 1e3), turns * TURN)
        self.time += -(-jobs // self.split.members) * each
        self.bytes += jobs * size * self.split.groups

    def sync(self) -> None:
        """Add a barrier; where a member is alone, a barrier of the program."""
        self.time += ROUND_TRIP if self.split.alone else BARRIER
        self.barriers += not self.split.alone

    def done(self) -> Split:
        """The split with what was added up."""
        return replace(
            self.split, microseconds=self.waves * self.time, l2_bytes=int(self.bytes), barriers=self.barriers
        )


def forward_step(sizes: Sizes, card: Card, split: Split) -> Split:
    """A split with the model's figures of a step of `forward_steps`."""
    (_, H, S, Z, norm, _), clock = sizes, _Clock(sizes, card, split)
    wide, parts = split.columns + split.extra, split.rows // TILE
    jobs, turns = -(-(4 * H + 4 * S) // wide), -(-H // split.depth) + -(-S // split.depth)
    clock.phase(jobs, (split.rows + wide) * (H + S / 8), split.rows * wide * (H + S / 8), turns)
    clock.sync()
    across = -(-H // split.units)
    tiles = -(-across // split.shares)
    unit = tiles * split.units
    hyper = TILE * 4 * S * 2 + 12 * Z * S + TILE * S
    sums = TILE * (12 * Z * S + 12 * max(Z, TILE) * unit)
    trips = 3 + -(-12 * Z // 64) * -(-S // split.depth) / 4 + tiles
    clock.phase(
        parts * split.shares, hyper + TILE * 8 * unit + 12 * Z * unit, sums, trips * ROUND_TRIP / TURN, TILE * 9 * unit
    )
    if norm:
        for wide_numbers in (TILE * split.units * 6 + TILE * across * 8, TILE * split.units * 3 + TILE * across * 2):
            clock.sync()
            clock.phase(parts * across, 0, 0, 2 * ROUND_TRIP / TURN, wide_numbers)
    clock.sync()
    return clock.done()


def backward_step(sizes: Sizes, card: Card, split: Split) -> Split:
    """A split with the model's figures of a step of `backward_steps`."""
    (_, H, S, Z, norm, _), clock = sizes, _Clock(sizes, card, split)
    parts, across = split.rows // TILE, -(-H // split.units)
    tiles = -(-across // split.shares)
    unit = tiles * split.units
    if norm:
        for of_tile in (10, 16):
            clock.phase(
                parts * across, TILE * split.units * 6, 0, 2 * ROUND_TRIP / TURN, TILE * split.units * of_tile / 2
            )
            clock.sync()
    sums = TILE * (12 * Z * S + 12 * max(Z, TILE) * unit)
    trips = 3 + 2 * tiles + -(-S // 64) * -(-12 * Z // split.depth) / 4
    clock.phase(
        parts * split.shares,
        TILE * 30 * unit + 12 * Z * (unit + S),
        sums,
        trips * ROUND_TRIP / TURN,
        TILE * (12 * unit + S),
    )
    clock.sync()
    clock.phase(parts, TILE * 16 * S, 0, 3 * ROUND_TRIP / TURN, TILE * S * (6 + split.shares))
    clock.sync()
    jobs = 4 * (-(-H // split.columns))
    turns = -(-H // split.depth) + -(-S // split.depth)
    sides = split.rows + split.columns
    clock.phase(jobs, sides * (H + S), split.rows * split.columns * (H + S), turns, split.rows * split.columns)
    jobs = 4 * (-(-S // split.columns))
    if jobs > -jobs % split.members:
        clock.phase(jobs, sides * S, split.rows * split.columns * S, -(-S // split.depth), split.rows * split.columns)
    clock.sync()
    return clock.done()


def constants(sizes: Sizes, split: Split) -> dict[str, int]:
    """The compile-time constants that kernels take of a split, beside the sizes."""
    return {
        "ALONE": split.alone,
        "ROWS": split.rows,
        "COLUMNS": split.columns,
        "EXTRA": split.extra,
        "DEPTH": split.depth,
        "UNITS": split.units,
        "SHARES": split.shares,
        "GATES": _gates(sizes),
        "SPAN": min(64, max(TILE, _power(12 * sizes.Z))),
        "SOME": split.some,
        "WHOLE": _power(sizes.S),
    }


def options(split: Split) -> dict[str, Any]:
    """Triton's options for the kernels of a split; those whose programs wait for one another all run at a time."""
    return {"num_warps": split.warps, "num_stages": split.stages, "launch_cooperative_grid": not split.alone}


def of_z(sizes: Sizes, most: int = 1 << 30) -> int:
    """The step along gates' numbers of z."""
    return min(most, _power(_gates(sizes) * sizes.Z))


def _gates(sizes: Sizes) -> int:
    """The number of gates that share one product with z: all four, unless that is mostly zeros."""
    return 4 if 4 * sizes.Z <= 64 else 1


def _power(n: int) -> int:
    """The power of two from 16 up that holds n columns of a product."""
    return max(TILE, 1 << (n - 1).bit_length())


def _power_below(n: int) -> int:
    """The largest power of two that is at most n."""
    return 1 << (n.bit_length() - 1)


def arithmetic(dtype: torch.dtype) -> str:
    """The arithmetic of products; float32 follows torch.backends.cuda.matmul.fp32_precision.

    Unlike torch.get_float32_matmul_precision() that never raises.
    """
    if dtype == torch.float32 and str(torch.backends.cuda.matmul.fp32_precision) == "tf32":
        return "tf32"
    return str(dtype).removeprefix("torch.")
