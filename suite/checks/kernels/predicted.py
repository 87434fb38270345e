"""Predicted time of a layer's pass of `batched_cuda` on a card, to compare the first run on one with.

A step takes what the model of `impls/batched_cuda/split.py` says. To that come products over all tokens, bounded by a
card's arithmetic or memory, and small operators of a fixed time each. Nothing here is measured: rates are the maker's,
of which large products reach a part.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from suite.shared.cases import OF_ONE_LENGTH, Case


class Rates(NamedTuple):
    """A card of `split.py` by name, and its memory bandwidth."""

    card: str
    memory: float  # GB/s


CARDS = {"H100": Rates("H100", 3350), "A100": Rates("A100", 2039), "L4": Rates("L4", 300)}
CARDS["RTX 4090"] = Rates("RTX_4090", 1008)
ARITHMETICS = ("float32", "tf32", "bfloat16")
#: The share of a card's rate that large products reach.
REACHED = 0.6
#: Microseconds of a small operator on the device, and how many a pass has.
OPERATOR, OPERATORS = 2.0, {"forward": 8, "backward": 24}


def predictions() -> Iterator[dict[str, Any]]:
    """A row for each workload, card, arithmetic, layer norm and pass."""
    for case in OF_ONE_LENGTH.values():
        for card in CARDS:
            for arithmetic in ARITHMETICS:
                for layer_norm in (False, True):
                    for direction in OPERATORS:
                        yield predicted(replace(case, layer_norm=layer_norm), card, arithmetic, direction)


def predicted(case: Case, card: str, arithmetic: str, direction: str) -> dict[str, Any]:
    """Row of one pass of one layer."""
    from impls.batched_cuda import layout, split  # imports Triton, which may be missing

    rates = CARDS[card]
    here = getattr(split, rates.card)
    sizes = split.Sizes(case.B, layout.padded(case.H), layout.padded(case.S), case.Z, case.layer_norm, arithmetic)
    cut = getattr(split, direction)(sizes, here)
    multiply_adds, numbers = _around(case, direction)
    rate = REACHED * split.MULTIPLY_ADDS[arithmetic] * here.multiprocessors * here.clock * 1e9
    seconds = max(multiply_adds / rate, numbers * sizes.itemsize / (rates.memory * 1e9))
    around_ms = 1e3 * seconds + 1e-3 * OPERATOR * OPERATORS[direction]
    return {
        "workload": case.name,
        "arithmetic": arithmetic,
        "layer_norm": "on" if case.layer_norm else "off",
        "card": card,
        "pass": direction,
        **{
            name: getattr(cut, name)
            for name in ("groups", "members", "rows", "columns", "units", "barriers", "l2_bytes")
        },
        "step_us": cut.microseconds,
        "around_ms": around_ms,
        "pass_ms": around_ms + 1e-3 * case.T * cut.microseconds,
    }


def _around(case: Case, direction: str) -> tuple[float, float]:
    """Multiply-adds of the products over all tokens, and the numbers that these and the launches move."""
    I, H, S, Z, N = case.I, case.H, case.S, case.Z, case.tokens
    both = 4 * H + 4 * S
    if direction == "forward":
        return N * both * I, N * (I + 3 * both + 4 * H)
    weights = both * (3 * I + H) + 4 * S * S + 36 * H * Z + 24 * Z * S
    return N * weights, N * (12 * both + 5 * 12 * H + 8 * H)
