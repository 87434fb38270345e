"""How a pass is split among the multiprocessors of a card: groups, members and tiles, by a small model of its time.

The model is arithmetic on sizes, not a measurement. It gives the same split for the same sizes and card everywhere.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import torch

#: Microseconds of a group's barrier, of a turn of a loop whose turns wait for one another, of loads that wait together.
BARRIER, TURN, LOADS = 1.3, 0.13, 0.25
#: Groups of loads in a call of a function, each waiting for the one before it, as counted in the instructions of the
#: compiled kernels at 833470aa: in half precision, in float32 and TF32; and how many more with layer norm.
GROUPS = {
    "hyper_cells": (1, 1, 0),
    "gates": (4, 8, 1),
    "cells": (1, 1, 0),
    "outputs": (1, 1, 0),
    "cell_norm_sums": (1, 1, 0),
    "cells_back": (1, 1, 7),
    "norms_back": (7, 4, 0),
    "scaled": (4, 6, 0),
    "hyper_back": (1, 1, 0),
}
#: Bytes of L2 that a multiprocessor can ask for in a clock.
_ASKED = 64
#: Rows of a tile between the products.
TILE = 16
#: Bytes of registers of a thread for a tile of the forward products, and half of it backward.
_SUMS = 64
#: Bytes of registers of a thread for the gates of a tile, and numbers backward, where it holds far more arrays.
_GATES, _GATES_BACK = 32, 4
#: Threads of a warp.
WARP = 32
#: The rows of a group, the columns of a tile of the products, and the units of a tile of the other phases.
_ROWS, _COLUMNS, _UNITS = (16, 32, 64, 128), (16, 32, 64, 128), (16, 32, 64)
#: Shared memory that is kept free of loads in flight, for operands that change their layout and for sums of a row.
SPARE = 24 << 10
#: GHz of every card: it weighs what is read against what waits, so that one that varied would vary the split.
_CLOCK = 1.7


class Rates(NamedTuple):
    """What one multiprocessor does in a clock."""

    float32: int  # multiply-adds
    tf32: int  # the same, on tensor cores
    half: int  # the same of float16 and bfloat16, added up in float32
    l2: int  # bytes, while all multiprocessors ask
    group_rows: int  # rows from which four warps multiply a tile together; 0 if warps multiply alone


#: By compute capability, ten to the whole number.
RATES = {
    80: Rates(64, 512, 1024, 24, 0),
    86: Rates(128, 256, 512, 16, 0),
    90: Rates(128, 1024, 2048, 24, 64),
    100: Rates(128, 2048, 4096, 24, 64),
    120: Rates(128, 256, 512, 16, 0),
}


class Card(NamedTuple):
    """What a split depends on."""

    multiprocessors: int
    shared: int  # bytes of shared memory that a program may take
    rates: Rates

    @classmethod
    def of(cls, device: torch.device) -> "Card":
        """The properties of a CUDA device; of another, on which kernels are interpreted, those of `ONE`."""
        return _card(torch.cuda._utils._get_device_index(device, optional=True)) if device.type == "cuda" else ONE


@cache  # the driver takes up to a millisecond
def _card(device: int) -> Card:
    from triton.runtime import driver

    properties, named = driver.active.utils.get_device_properties(device), torch.cuda.get_device_properties(device)
    rates = rates_of(10 * named.major + named.minor, named.name)
    return Card(properties["multiprocessor_count"], properties["max_shared_mem"], rates)


def rates_of(capability: int, name: str) -> Rates:
    """The rates of a card; GeForce cards add up in float32 at half the rate of their siblings."""
    rates = RATES[max(known for known in RATES if known <= capability)]
    return rates._replace(tf32=rates.tf32 // 2, half=rates.half // 2) if "GeForce" in name else rates


#: One program after the other, as Triton's interpreter runs them.
ONE = Card(1, 227 << 10, RATES[90])
A100, A10, L4 = Card(108, 163 << 10, RATES[80]), Card(72, 99 << 10, RATES[86]), Card(58, 99 << 10, RATES[86])
H100, B200 = Card(132, 227 << 10, RATES[90]), Card(148, 227 << 10, RATES[100])
RTX_5090 = Card(170, 99 << 10, rates_of(120, "GeForce"))


class Sizes(NamedTuple):
    """What one layer's pass depends on; H and S are multiples of 8."""

    B: int
    H: int
    S: int
    Z: int
    layer_norm: bool
    arithmetic: str  # float32, tf32, bfloat16 or float16

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


#: The time of one step: (sizes, card, split) -> the split with its microseconds.
Step = Callable[[Sizes, Card, Split], Split]


@cache
def _split(sizes: Sizes, card: Card, step: Step) -> Split:
    """The fastest split; of two as fast the smaller."""
    return min((step(sizes, card, one) for one in candidates(sizes, card, step is forward_step)), key=cost)


def cost(one: Split) -> tuple[float, ...]:
    """The key that splits are ordered by: the model's time, then how small they are."""
    return round(one.microseconds, 3), one.programs, one.rows, one.columns, one.extra, one.units, one.shares


def candidates(sizes: Sizes, card: Card, both_sums: bool) -> Iterable[Split]:
    """Yield splits that fit the card; both_sums: whether the products may have extra columns."""
    # The step along a sum: a cache line of each row; half of one in float32, whose own products take registers.
    most = {"float32": 16, "tf32": 32}.get(sizes.arithmetic, 64)
    depth = min(most, _power(max(sizes.H, sizes.S)))
    extras = (0, 16, 32) if both_sums else (0,)
    sums = (_SUMS if both_sums else _SUMS // 2) // sizes.itemsize
    gates = _GATES // sizes.itemsize if both_sums else _GATES_BACK
    for rows, columns, extra, warps, units in product(_ROWS, _COLUMNS, extras, (4, 8), _UNITS):
        threads = WARP * warps
        fits = rows * (columns + extra) <= sums * threads and units * 4 * TILE <= gates * threads
        stages = (card.shared - SPARE) // (depth * sizes.itemsize) // (rows + columns + extra)
        if extra >= columns or not fits or stages < 2 or rows >= 2 * max(sizes.B, TILE) or units >= 2 * _power(sizes.H):
            continue
        if extra and sizes.arithmetic != "float32" and rows < (card.rates.group_rows or TILE * warps):
            continue  # Triton gives each warp other rows where a loop has two products; several would compute the same
        # Rows of the hyper LSTM at a time: as many as threads hold some twenty arrays of.
        some = max(1, min(TILE, 4 * threads // _power(sizes.S)))
        groups = -(-sizes.B // rows)
        for members in _members(card.multiprocessors // groups):
            shares = max(1, min(-(-sizes.H // units), members // (rows // TILE)))
            job = some if both_sums else min(some, 1 << max(1, rows // members).bit_length() - 1)  # one each
            yield Split(groups, members, rows, columns, extra, depth, units, shares, job, warps, min(4, stages))


def _members(most: int) -> list[int]:
    """How many members a group may have, if that many programs fit at a time."""
    some = {2, 3, 4, 6, 8, 12, 16, 20, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, most}
    return [1, *sorted(n for n in some if 1 < n <= most)]


class _Clock:
    """Adds up the phases of a step: the slowest member's time."""

    def __init__(self, sizes: Sizes, card: Card, split: Split) -> None:
        self.sizes, self.card, self.split = sizes, card, split
        self.time = 0.0
        rates = card.rates
        self.rate = {"float32": rates.float32, "tf32": rates.tf32}.get(sizes.arithmetic, rates.half)

    def groups(self, *functions: str) -> int:
        """Groups of loads of a call of each function."""
        return sum(loads(name, self.sizes.itemsize, self.sizes.layer_norm) for name in functions)

    def phase(self, jobs: int, size: float, multiply_adds: float, waits: float, first: float = 0.0) -> None:
        """Add jobs that are shared out, each with bytes read, and waits meanwhile; `first` is before all that."""
        asking = min(min(jobs, self.split.members) * self.split.groups, self.card.multiprocessors)
        l2 = min(_ASKED, self.card.rates.l2 * self.card.multiprocessors / asking)
        clocks = max(size / l2, multiply_adds / self.rate)
        self.time += -(-jobs // self.split.members) * (max(clocks / (_CLOCK * 1e3), waits) + first)

    def sync(self) -> None:
        """End a phase by a barrier; where a member is alone, by one of the program."""
        self.time += LOADS if self.split.alone else BARRIER

    def done(self) -> Split:
        """The split with what was added up; more groups than multiprocessors run one after the other."""
        waves = -(-self.split.programs // self.card.multiprocessors)
        return replace(self.split, microseconds=waves * self.time)


def loads(function: str, itemsize: int, norm: bool) -> int:
    """Groups of loads in a call of a function."""
    half, single, more = GROUPS[function]
    return (half if itemsize == 2 else single) + more * norm


def forward_step(sizes: Sizes, card: Card, split: Split) -> Split:
    """A split with the model's figures of a step of `forward_steps`."""
    (B, H, S, Z, norm, _), item, clock = sizes, sizes.itemsize, _Clock(sizes, card, split)
    rows, tile = min(B, split.rows), min(B, TILE)  # those that are there
    columns, parts = split.columns + split.extra, split.rows // TILE
    jobs, turns = -(-(4 * H + 4 * S) // columns), -(-H // split.depth) + -(-S // split.depth)
    k = H + S / 8
    clock.phase(jobs, (rows + columns) * k * item, split.rows * columns * k, turns * TURN, LOADS)
    clock.sync()
    across, (gates, of_z) = -(-H // split.units), _of_z(sizes)
    tiles = -(-across // split.shares)
    unit = tiles * split.units
    sums = TILE * (12 * Z * S + 12 * max(Z, TILE) * unit)
    groups = -(-TILE // split.some) * clock.groups("hyper_cells") + -(-12 * Z // 64)
    groups += tiles * 4 // gates * -(-gates * Z // min(split.depth, of_z)) * clock.groups("gates")
    groups += 0 if norm else tiles * clock.groups("cells")
    size = (12 * Z * (S + unit) + tile * S) * item + tile * (8 * S + 17 * unit) * 4
    clock.phase(parts * split.shares, size, sums, groups * LOADS)
    if norm:
        for name, of_tile, of_row in (("cells", 6, 8), ("outputs", 3, 2)):
            clock.sync()
            size = tile * (split.units * of_tile + across * of_row) * 4
            clock.phase(parts * across, size, 0, clock.groups(name) * LOADS)
    clock.sync()
    return clock.done()


def backward_step(sizes: Sizes, card: Card, split: Split) -> Split:
    """A split with the model's figures of a step of `backward_steps`."""
    (B, H, S, Z, norm, _), item, clock = sizes, sizes.itemsize, _Clock(sizes, card, split)
    rows, tile, job = min(B, split.rows), min(B, TILE), min(B, split.some)  # those that are there
    parts, across = split.rows // TILE, -(-H // split.units)
    tiles = -(-across // split.shares)
    unit = tiles * split.units
    if norm:
        for name, of_tile, of_row in (("cell_norm_sums", 5, 0), ("cells_back", 8, 2)):
            size = tile * split.units * 6 * item + tile * (split.units * of_tile + across * of_row) * 4
            clock.phase(parts * across, size, 0, clock.groups(name) * LOADS)
            clock.sync()
    sums = TILE * (12 * Z * S + 12 * max(Z, TILE) * unit)
    groups = tiles * clock.groups("cells_back", "scaled") + -(-S // 64)
    if norm:
        groups += (1 + tiles) * clock.groups("norms_back") - tiles * clock.groups("cells_back")
    size = (tile * 22 * unit + 12 * Z * (unit + S)) * item + tile * (20 * unit + S + across * 8 * norm) * 4
    clock.phase(parts * split.shares, size, sums, groups * LOADS)
    clock.sync()
    size = job * 8 * S * item + job * S * (14 + split.shares) * 4
    clock.phase(split.rows // split.some, size, 0, clock.groups("hyper_back") * LOADS)
    clock.sync()
    of_h, of_s = 4 * -(-H // split.columns), 4 * -(-S // split.columns)
    turns_h, turns_s = -(-H // split.depth) + -(-S // split.depth), -(-S // split.depth)
    sides, sums = (rows + split.columns) * item, split.rows * split.columns
    written = rows * split.columns * 4
    clock.phase(of_h, sides * (H + S) + written, sums * (H + S), turns_h * TURN, LOADS)
    if of_s > -of_h % split.members:  # more than the members that have none of the last of the others
        clock.phase(of_s, sides * S + written, sums * S, turns_s * TURN, LOADS)
    clock.sync()
    return clock.done()


def constants(sizes: Sizes, split: Split) -> dict[str, Any]:
    """The compile-time constants that kernels take of a split, beside the sizes."""
    gates, of_z = _of_z(sizes)
    return {name.upper(): n for name, n in asdict(split).items()} | {
        "ALONE": split.alone,
        "GATES": gates,
        "ZS": min(split.depth, of_z),
        "ZN": of_z,
        "SPAN": min(64, max(TILE, _power(12 * sizes.Z))),
        "WHOLE": _power(sizes.S),
    }


def options(split: Split) -> dict[str, Any]:
    """Triton's options for the kernels of a split; those whose programs wait for one another all run at a time."""
    return {"num_warps": split.warps, "num_stages": split.stages, "launch_cooperative_grid": not split.alone}


def _of_z(sizes: Sizes) -> tuple[int, int]:
    """The gates that share one product with z, all four unless that is mostly zeros; and the columns of their z."""
    gates = 4 if 4 * sizes.Z <= 64 else 1
    return gates, _power(gates * sizes.Z)


def _power(n: int) -> int:
    """The power of two from 16 up that holds n columns of a product."""
    return max(TILE, 1 << (n - 1).bit_length())


def arithmetic(dtype: torch.dtype) -> str:
    """The arithmetic of products; float32 follows torch.backends.cuda.matmul.fp32_precision.

    Unlike torch.get_float32_matmul_precision() that never raises.
    """
    if dtype == torch.float32 and str(torch.backends.cuda.matmul.fp32_precision) == "tf32":
        return "tf32"
    return str(dtype).removeprefix("torch.")
