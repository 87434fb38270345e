"""Cases at the sizes that people run, on both sides of the sizes at which an implementation changes its way.

Their oracle is row_scaled in float64, since `naive` would build its weight tensors at every step.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import replace

import torch

from suite.shared.cases import WORKLOADS, Case, lengths

#: The implementation that the others are compared with.
AGAINST = "row_scaled"
#: Drawn cases of a default verification and of a thorough one, and the seed of the former and of half of the latter.
DRAWN, DRAWN_THOROUGH, SEED = 12, 60, 0

#: Of vectors, panels and tiles of units (4 to 128), rows of a tile or block (6, 36) and batches of few rows (4), the
#: depth of a block (128 and 256), rows of a partial sum (128 and 256) and of a chunk, inputs whose products are saved
#: (96), the weights from which a batch is split in another way, 16 columns of embeddings, and steps of a chunk.
WIDE = (
    Case(T=3, B=4, I=31, H=31, S=16, Z=4, state="plain"),
    Case(T=3, B=5, I=32, H=32, S=15, Z=5, layer_norm=True),
    Case(T=3, B=6, I=33, H=33, S=17, Z=8, state="stacked"),
    Case(T=4, B=7, I=63, H=64, S=31, Z=9, layer_norm=True, strided=True),
    Case(T=3, B=12, I=64, H=63, S=32, Z=1, L=2),
    Case(T=3, B=13, I=65, H=65, S=33, Z=2, layer_norm=True, state="stacked"),
    Case(T=2, B=31, I=95, H=96, S=40, Z=15, layer_norm=True),
    Case(T=3, B=36, I=96, H=127, S=63, Z=16),
    Case(T=2, B=37, I=97, H=128, S=64, Z=17, layer_norm=True, state="plain"),
    Case(T=3, B=64, I=127, H=129, S=65, Z=3, strided=True),
    Case(T=2, B=65, I=129, H=160, S=96, Z=6, layer_norm=True),
    Case(T=2, B=128, I=10, H=255, S=127, Z=7, state="stacked"),
    Case(T=2, B=129, I=200, H=257, S=129, Z=4, layer_norm=True, state="stacked"),
    Case(T=2, B=160, I=20, H=520, S=160, Z=5),
    Case(T=12, B=32, I=50, H=256, S=64, Z=4),
    Case(T=40, B=1, I=33, H=48, S=24, Z=3, layer_norm=True, state="stacked"),
    Case(T=70, B=8, I=9, H=72, S=36, Z=4),
    Case(T=130, B=2, I=100, H=40, S=33, Z=2, layer_norm=True),
    Case(T=6, B=5, I=40, H=80, S=36, Z=5, lengths=(6, 4, 4, 3, 1), layer_norm=True, state="stacked"),
    Case(T=9, B=40, I=97, H=65, S=33, Z=4, L=2, lengths=lengths(9, 40), state="stacked"),
    Case(T=4, B=70, I=33, H=136, S=48, Z=3, lengths=lengths(4, 70)[::-1], layer_norm=True, recurrent_dropout=0.3),
    Case(T=3, B=20, I=35, H=100, S=36, Z=4, recurrent_dropout=0.4, state="plain"),
    Case(T=3, B=66, I=97, H=72, S=33, Z=5, L=2, layer_norm=True, dropout=0.25, recurrent_dropout=0.4),
    Case(T=3, B=2, I=40, H=600, S=64, Z=4, layer_norm=True, state="stacked", recurrent_dropout=0.2),
)

#: At which checks of bits run: each is compared by value too.
SPLIT = Case(T=6, B=3, I=5, H=260, S=30, Z=2, layer_norm=True)
ROWS = Case(T=2, B=37, I=6, H=40, S=20, Z=5, L=2, layer_norm=True, state="stacked")

#: Every workload as a CPU times it, over a few steps, without layer norm and with it.
TIMED = tuple(
    replace(short, T=T, layer_norm=layer_norm, lengths=lengths(T, short.B) if short.lengths else ())
    for short in (workload.shortened for workload in WORKLOADS.values())
    for T in (4 if short.lengths else 3,)
    for layer_norm in (False, True)
)


def drawn(n: int, seed: int) -> list[Case]:
    """Cases of random sizes: B to 160, I to 200, H to 600, S to 160, Z to 17, T to 30; small ones are as likely."""
    chance = random.Random(seed)
    return [_drawn(chance) for _ in range(n)]


def _drawn(chance: random.Random) -> Case:
    def size(least: int, most: int) -> int:
        return round(math.exp(chance.uniform(math.log(least), math.log(most))))

    T, B, L = size(1, 30), size(1, 160), chance.choice((1, 1, 2))
    # A fifth of a second of one core: 3e9 multiply-adds of the forward pass and of the backward pass.
    H = min(size(5, 600), int(math.sqrt(5e8 / (4 * T * B * L))))
    ends = tuple(chance.randint(1, T) for _ in range(B - 1)) if chance.random() < 0.3 else ()
    return Case(
        T=T,
        B=B,
        I=size(1, 200),
        H=max(H, 5),
        S=size(5, 160),
        Z=size(2, 17),
        L=L,
        layer_norm=chance.random() < 0.5,
        state=chance.choice(("none", "plain", "stacked")),
        strided=chance.random() < 0.3,
        lengths=(T, *ends) if ends else (),
        recurrent_dropout=chance.choice((0.0, 0.0, 0.3)),
        dropout=chance.choice((0.0, 0.25)) if L > 1 else 0.0,
    )


def pairs() -> Iterator[tuple[Case, torch.dtype, bool]]:
    """Cases, each with a dtype, and whether a default run has them.

    Workloads that a CPU does not time by default are in a default run in float32, and with layer norm in float64; the
    others with layer norm in half precision, too.
    """
    for case in (*WIDE, SPLIT, ROWS):
        yield from ((case, dtype, True) for dtype in ROUNDED)
    for case in TIMED:
        on_cpu = "cpu" in case.by_default
        for dtype in ROUNDED:
            exact = dtype == torch.float64 and (on_cpu or case.layer_norm)
            yield case, dtype, dtype == torch.float32 or exact or (on_cpu and case.layer_norm)


#: By dtype, what the numbers of a wide case are rounded to: one oracle serves two dtypes.
ROUNDED = {
    torch.float64: torch.float32,
    torch.float32: torch.float32,
    torch.bfloat16: torch.bfloat16,
    torch.float16: torch.bfloat16,
}
