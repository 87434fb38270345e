"""Predicted time of a layer's pass of `batched_cuda` on a GPU, to compare a first run with; nothing is measured.

A step takes what the model of `impls/batched_cuda/split.py` says. Products over all tokens add a time bounded by
arithmetic or memory at a share of the maker's rates, and small operators a fixed time each.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

from suite.shared.cases import WORKLOADS, Case

#: By name, a card of `split.py` and its memory bandwidth in GB/s.
CARDS = {"H100": ("H100", 3350), "A100": ("A100", 2039), "L4": ("L4", 300), "RTX 4090": ("RTX_4090", 1008)}
ARITHMETICS = ("float32", "tf32", "bfloat16")
#: The share of a card's rate that large products reach.
REACHED = 0.6
#: Microseconds of a small operator on the device, and how many a pass has.
OPERATOR, OPERATORS = 2.0, {"forward": 8, "backward": 24}


def predictions() -> Iterator[dict[str, Any]]:
    """A row for each workload, card, arithmetic, layer norm and pass."""
    every = product(
        (case for case in WORKLOADS.values() if not case.lengths), CARDS, ARITHMETICS, (False, True), OPERATORS
    )
    for case, card, arithmetic, layer_norm, direction in every:
        yield predicted(replace(case, layer_norm=layer_norm), card, arithmetic, direction)


def predicted(case: Case, card: str, arithmetic: str, direction: str) -> dict[str, Any]:
    from impls.batched_cuda import layout, split  # imports Triton, which may be missing

    name, memory = CARDS[card]
    here = getattr(split, name)
    sizes = split.Sizes(case.B, layout.padded(case.H), layout.padded(case.S), case.Z, case.layer_norm, arithmetic)
    cut = getattr(split, direction)(sizes, here)
    multiply_adds, numbers = _around(case, direction)
    rate = REACHED * split.MULTIPLY_ADDS[arithmetic] * here.multiprocessors * here.clock * 1e9
    seconds = max(multiply_adds / rate, numbers * sizes.itemsize / (memory * 1e9))
    around_ms = 1e3 * seconds + 1e-3 * OPERATOR * OPERATORS[direction]
    return {
        "workload": case.name,
        "arithmetic": arithmetic,
        "layer_norm": "on" if case.layer_norm else "off",
        "card": card,
        "pass": direction,
        **{n: getattr(cut, n) for n in ("groups", "members", "rows", "columns", "units", "barriers", "l2_bytes")},
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
