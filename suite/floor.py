"""A model, not a measurement: the shortest time that a step of `batched_cuda` can take on a card.

A step is a row of phases, and each phase waits for the one before. A phase takes

    max(multiply-adds / rate, L2 bytes / L2 bandwidth) + gap

where the bytes are what its tiles load, each tile its rows of the input and its rows of the weight. Weights of the
sizes here stay in L2 from step to step, so HBM's part is what must cross it once: products with x in, trajectory out:

    step = max(sum of the phases, HBM bytes / HBM bandwidth)

Left out, all of which can only add: epilogues, tiles that do not fill the last wave, loads that wait for one another.
"""

from typing import NamedTuple

from .cases import Case


class Card(NamedTuple):
    """Data-sheet figures of a card, dense; L2 bandwidth is a lead from outside, not in any data sheet."""

    name: str
    multiply_adds: float  # a second, bfloat16 with float32 sums
    hbm: float  # bytes a second
    l2: float  # bytes a second


A100 = Card("A100", multiply_adds=312e12 / 2, hbm=2.0e12, l2=5.0e12)
H100 = Card("H100", multiply_adds=989e12 / 2, hbm=3.35e12, l2=5.5e12)

#: Seconds between two phases, by the way they are started (leads: a launch from Python 5 to 30 µs, inside a CUDA graph
#: 1 to 3, a barrier of a persistent kernel 1 to 2).
GAPS = {"plain": 5e-6, "graph": 1e-6, "persistent": 1e-6}


class Phase(NamedTuple):
    """What one phase of a step costs whatever card it runs on."""

    name: str
    multiply_adds: int
    l2_bytes: int


class Floor(NamedTuple):
    """The model's account of one step of one layer."""

    phases: tuple[Phase, ...]
    hbm_bytes: int
    seconds: float


def forward_phases(case: Case, rows: int, units: int, element: int = 2) -> tuple[Phase, ...]:
    """Return the phases of a forward step, in tiles of so many batch rows by units of each gate.

    z is made in the main phase where its 12 Z S multiply-adds a row are no more than the tile's own product's are for a
    gate, units H, and is a phase of its own elsewhere, as in the implementation. Layer norm adds a phase to each LSTM,
    which passes over four float32 gates.
    """
    B, H, S, Z = case.B, case.H, case.S, case.Z
    here = 4 * Z <= 64 and units * H >= 12 * Z * S
    main_tiles = -(-B // rows) * -(-H // units)

    def product(name: str, F: int, K: int, extra: int = 0, extra_bytes: int = 0) -> Phase:
        tiles = -(-B // rows) * -(-F // units)
        return Phase(name, 4 * B * F * K + extra, tiles * (rows + 4 * units) * K * element + extra_bytes)

    def norm(name: str, F: int) -> Phase:
        return Phase(name, 0, 2 * 4 * B * F * 4)

    scales = 12 * B * H * Z
    z = 12 * Z * S * rows * main_tiles if here else 12 * Z * S * B
    weights = (12 * Z * S + (rows * S if here else 0)) * element
    phases = [product("hyper gates", S, H + S)]
    phases += [norm("hyper cell", S)] if case.layer_norm else []
    phases += [] if here else [Phase("z", z, (12 * Z * S + B * S) * element)]
    phases += [product("main gates", H, H, scales + (z if here else 0), main_tiles * weights if here else 0)]
    phases += [norm("main cell", H)] if case.layer_norm else []
    return tuple(phases)


def floor(case: Case, card: Card, start: str, rows: int, units: int, element: int = 2) -> Floor:
    """Return the model's floor of one forward step of a layer.

    start: how phases are started, a key of GAPS; ValueError if it is none.
    element: bytes of a parameter, 2 for bfloat16, whose rate is the card's.
    """
    if start not in GAPS:
        raise ValueError(f"start: expected one of {', '.join(GAPS)}, got {start!r}")
    phases = forward_phases(case, rows, units, element)
    # In: products with x. Out: h and h_hat, and both cells in float32.
    hbm_bytes = case.B * (4 * (case.H + case.S) * element + (case.H + case.S) * (element + 4))
    busy = sum(
        max(phase.multiply_adds / card.multiply_adds, phase.l2_bytes / card.l2) + GAPS[start] for phase in phases
    )
    return Floor(phases, hbm_bytes, max(busy, hbm_bytes / card.hbm))
