"""A model, not a measurement: the shortest time that a step of `batched_cuda` can take on a card.

A step is a row of phases, each one launch of a kernel, and each waits for the one before. A phase takes

    max(multiply-adds / rate, bytes / L2 bandwidth) + gap

where the launches, their grids and their tiles are those that the implementation would start on that card, and the
bytes are what the tiles load and store. Weights of the sizes here stay in L2 from step to step, so HBM's part is what
must cross it once: products with x in, trajectory out. A training step adds the products outside the loop over steps,
at the card's rate.

Left out, all of which can only add: loads that wait for one another, tiles that do not fill the last wave, memory that
large products move.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import pandas as pd
import torch

from .cases import WORKLOADS, Case

#: The workloads of the model: the paper's own.
SIZES = ("char-ptb", "enwik8", "handwriting")


class Rates(NamedTuple):
    """Data-sheet figures of a card, dense; L2 bandwidth is a lead from outside, not in any data sheet."""

    multiply_adds: float  # a second, bfloat16 with float32 sums
    hbm: float  # bytes a second
    l2: float  # bytes a second


CARDS = {
    "A100": Rates(multiply_adds=312e12 / 2, hbm=2.0e12, l2=5.0e12),
    "H100": Rates(multiply_adds=989e12 / 2, hbm=3.35e12, l2=5.5e12),
}
#: Seconds between two phases that a CUDA graph starts (a lead: 1 to 3 µs; from Python 5 to 30).
GAP = 1e-6
#: The arithmetic of the model.
DTYPE = torch.bfloat16


class Phase(NamedTuple):
    """What one launch costs whatever card it runs on."""

    name: str
    multiply_adds: int
    bytes: int  # through L2


class Tiles(NamedTuple):
    """A launch's programs and the sides of their tiles."""

    programs: int
    rows: int
    units: int


def _product(tiles: Tiles, gates: int, K: int) -> int:
    """Return the numbers that tiles load for [*, K] x [K, gates *]."""
    return tiles.programs * (tiles.rows + gates * tiles.units) * K


#: By kernel: (case, tiles) -> multiply-adds, and numbers that the tiles load and store.
_COSTS: dict[str, Callable[[Case, Tiles, dict[str, Any]], tuple[int, int]]] = {
    "hyper_gates": lambda c, t, _: (4 * c.B * c.S * (c.H + c.S), _product(t, 4, c.H + c.S)),
    "embed": lambda c, t, _: (12 * c.B * c.Z * c.S, _product(t, 1, c.S)),
    "main_gates": lambda c, t, k: (
        4 * c.B * c.H * c.H + 12 * c.B * c.H * c.Z + (t.programs * t.rows * 12 * c.Z * c.S if k["EMBED"] else 0),
        _product(t, 4, c.H) + (t.programs * (t.rows + 12 * c.Z) * c.S if k["EMBED"] else 0),
    ),
    # Gates in float32, read; c read and written, h written.
    "norm_cell": lambda c, _, k: (0, c.B * k["F"] * (2 * 4 + 2 * 2 + 1)),
    # u, v's scales and gates: 4 each, read and written.
    "main_gradient": lambda c, t, _: (c.B * c.H * 4 * (c.H + c.S), _product(t, 1, 4 * (c.H + c.S)) + 16 * c.B * c.H),
    # dy is read for each of three sources, u and v once.
    "embedding_gradient": lambda c, t, _: (12 * c.B * c.H * c.Z, 20 * c.B * c.H + 12 * t.programs * t.units * c.H),
    "hyper_gradient": lambda c, t, _: (c.B * c.S * (12 * c.Z + 4 * c.S), _product(t, 1, 12 * c.Z + 4 * c.S)),
    # Normalised gates read, their gradients, dy and du written, d_h read; cells in float32.
    "norm_cell_gradient": lambda c, _, k: (0, c.B * k["F"] * ((20 if k["SCALED"] else 12) + 2 * 4)),
}


class Floor(NamedTuple):
    """The model's account of one step of one layer: its phases forward and backward, and what stands around them."""

    forward: tuple[Phase, ...]
    backward: tuple[Phase, ...]
    hbm_bytes: int  # a forward step
    outside: int  # multiply-adds of large products a step, forward and backward together
    rates: Rates

    def seconds(self, phases: tuple[Phase, ...]) -> float:
        """Return what a row of phases takes at least."""
        return sum(max(p.multiply_adds / self.rates.multiply_adds, p.bytes / self.rates.l2) + GAP for p in phases)

    @property
    def forward_seconds(self) -> float:
        """A forward step, with the product with x."""
        return max(self.seconds(self.forward), self.hbm_bytes / self.rates.hbm)

    @property
    def train_seconds(self) -> float:
        """A step forward and back, with its share of the products outside the loop."""
        return self.forward_seconds + self.seconds(self.backward) + self.outside / self.rates.multiply_adds


def outside_multiply_adds(case: Case) -> int:
    """Return those of a step's share in the large products of training, where x needs no gradient.

    Forward: products with x. Backward: they, the products with h, z and the hyper LSTM's gates rebuilt, and the weight
    gradients, which are as many as a whole step forward.
    """
    B, I, H, S, Z = case.B, case.I, case.H, case.S, case.Z
    with_x, rebuilt = 4 * (H + S) * I, 4 * (H + S) * H + 12 * Z * S + 4 * S * S
    return 2 * B * with_x + B * rebuilt + replace(case, T=1).multiply_adds()


def floor(case: Case, name: str) -> Floor:
    """Return the model's floor of one step of a one-layer case on a card, a key of CARDS; KeyError if it is none."""
    from impls.batched_cuda import tiles

    from .launched import step_of

    card, rates = {"A100": tiles.A100, "H100": tiles.H100}[name], CARDS[name]
    step = step_of(case, card, DTYPE, "ieee")

    def phase(kernel: Any, grid: tuple[int, ...], _: Any, constants: dict[str, Any]) -> Phase:
        called, programs = kernel.fn.__name__, grid[0] * (grid[1] if len(grid) > 1 else 1)
        cut = Tiles(programs, constants.get("ROWS", 1), constants.get("UNITS", 1))
        multiply_adds, numbers = _COSTS[called](case, cut, constants)
        return Phase(called, multiply_adds, numbers * DTYPE.itemsize)

    # In: products with x. Out: h and h_hat, and both cells in float32.
    hbm = case.B * (case.H + case.S) * (4 * DTYPE.itemsize + DTYPE.itemsize + 4)
    forward, backward = (tuple(phase(*launch) for launch in sweep) for sweep in step)
    return Floor(forward, backward, hbm, outside_multiply_adds(case), rates)


def lstm_seconds(case: Case, name: str) -> float:
    """Return the model's floor of a forward step of an LSTM of the same H: one phase, in the main phase's tiles."""
    rates = CARDS[name]
    tiled = next(phase for phase in floor(replace(case, layer_norm=False), name).forward if phase.name == "main_gates")
    return max(4 * case.B * case.H * case.H / rates.multiply_adds, tiled.bytes / rates.l2) + GAP


def rows() -> pd.DataFrame:
    """Return the model's table: a row for each workload, layer norm and card."""
    found = []
    for workload in SIZES:
        for layer_norm in (False, True):
            case = replace(WORKLOADS[workload], layer_norm=layer_norm)
            for name in CARDS:
                model = floor(case, name)
                found.append(
                    {
                        "workload": workload,
                        "T": case.T,
                        "B": case.B,
                        "layer_norm": "on" if layer_norm else "off",
                        "card": name,
                        "forward_phases": len(model.forward),
                        "forward_multiply_adds": sum(phase.multiply_adds for phase in model.forward),
                        "forward_bytes": sum(phase.bytes for phase in model.forward),
                        "forward_s": model.forward_seconds,
                        "lstm_forward_s": lstm_seconds(case, name),
                        "backward_phases": len(model.backward),
                        "backward_multiply_adds": sum(phase.multiply_adds for phase in model.backward),
                        "backward_bytes": sum(phase.bytes for phase in model.backward),
                        "outside_multiply_adds": model.outside,
                        "train_s": model.train_seconds,
                    }
                )
    return pd.DataFrame(found)
