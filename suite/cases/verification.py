"""The cases of verification."""

from dataclasses import replace

from impls.batched_cpu.sets import WAYS
from suite.cases.case import Case, lengths


def _both(*cases: Case) -> tuple[Case, ...]:
    return tuple(replace(case, layer_norm=layer_norm) for case in cases for layer_norm in (False, True))


#: Two layers, strided input, and one state for both layers.
TWO_LAYERS = Case(T=7, B=3, I=5, H=16, S=8, Z=4, L=2, strided=True, state="shared")

#: Cases of every dtype. H and S of at least 5: the tolerance rule is a statement about norms of tensors, which says
#: little of tensors with two elements.
VERIFY = _both(
    Case(T=1, B=1, I=5, H=7, S=5, Z=2),
    Case(T=1, B=3, I=5, H=8, S=8, Z=3, state="stacked"),
    Case(T=2, B=3, I=1, H=9, S=6, Z=1),
    Case(T=2, B=3, I=9, H=5, S=7, Z=8, strided=True),
    Case(T=7, B=3, I=6, H=6, S=6, Z=6),
    Case(T=7, B=3, I=4, H=6, S=11, Z=2, state="stacked"),
    Case(T=7, B=1, I=13, H=17, S=5, Z=4, L=2),
    TWO_LAYERS,
    Case(T=7, B=3, I=3, H=10, S=7, Z=3, L=3, state="stacked"),
)

#: Packed sequences, the first in every dtype, the others in float64: not sorted and sorted, one much longer than the
#: rest, all of one step, all equal, one alone.
RAGGED = (
    Case(T=5, B=4, I=4, H=7, S=5, Z=2, L=2, lengths=(3, 2, 5, 2), layer_norm=True, state="stacked"),
    Case(T=7, B=4, I=5, H=8, S=6, Z=3, lengths=(3, 7, 1, 3)),
    Case(T=6, B=3, I=5, H=9, S=6, Z=2, L=2, lengths=(6, 4, 1), layer_norm=True),
    Case(T=9, B=3, I=6, H=6, S=7, Z=3, L=3, lengths=(1, 1, 9), state="shared"),
    Case(T=1, B=3, I=5, H=8, S=5, Z=2, lengths=(1, 1, 1), layer_norm=True, state="stacked"),
    Case(T=4, B=3, I=7, H=6, S=6, Z=4, L=2, lengths=(4, 4, 4), state="shared"),
    Case(T=4, B=1, I=5, H=8, S=6, Z=2, lengths=(4,), layer_norm=True),
)

#: Dropout, the first in every dtype, the others in float64. An oracle draws the same masks, from the same seed, in the
#: order of the packed tokens where there are lengths; in evaluation mode it has no dropout.
DROPOUT = (
    Case(T=5, B=3, I=4, H=7, S=6, Z=2, L=2, layer_norm=True, state="stacked", dropout=0.25, recurrent_dropout=0.4),
    Case(T=4, B=3, I=5, H=8, S=5, Z=2, recurrent_dropout=0.5),
    Case(T=4, B=3, I=4, H=7, S=5, Z=2, L=2, lengths=(2, 4, 1), dropout=0.25, recurrent_dropout=0.4),
    Case(T=4, B=3, I=3, H=6, S=5, Z=3, L=3, dropout=0.5),
    Case(T=3, B=2, I=3, H=6, S=5, Z=3, L=2, dropout=0.5, recurrent_dropout=0.5, training=False),
)

#: Cases of every implementation and dtype in a default verification.
VERIFY_FIRST = (replace(TWO_LAYERS, layer_norm=True), RAGGED[0], DROPOUT[0])

#: Sizes below 5, in float64 alone. Layer norm over fewer than three numbers has a gradient that is zero except for eps,
#: so there the relative error of any implementation says nothing.
VERIFY_TINY = (
    Case(T=2, B=3, I=1, H=1, S=1, Z=1, state="stacked"),
    Case(T=7, B=1, I=2, H=4, S=3, Z=2, L=2),
    Case(T=7, B=1, I=2, H=4, S=3, Z=2, L=2, layer_norm=True),
    Case(T=2, B=3, I=3, H=2, S=4, Z=1, state="stacked"),
)

#: The cases whose oracle is `naive`: those of every dtype, and those of float64 alone.
IN_EVERY_DTYPE = (*VERIFY, RAGGED[0], DROPOUT[0])
IN_FLOAT64 = (*VERIFY_TINY, *RAGGED[1:], *DROPOUT[1:])

#: Sizes for which a kernel needs several tiles, with edges: of rows, of units, of z, and rows of a norm that span
#: tiles; these under a mask too.
VERIFY_TILES = (
    *_both(
        Case(T=5, B=3, I=6, H=40, S=5, Z=3, state="stacked", strided=True),
        Case(T=2, B=17, I=1, H=20, S=70, Z=5),
        Case(T=2, B=2, I=7, H=70, S=9, Z=33, L=2),
    ),
    Case(T=3, B=2, I=7, H=70, S=9, Z=3, layer_norm=True, recurrent_dropout=0.4),
    Case(T=2, B=17, I=4, H=264, S=24, Z=1, state="stacked"),
)


def multiplied(way: str) -> str:
    """Name in the verification table of the check of a way to multiply bfloat16, see `test_bfloat16.py`."""
    return f"multiplied by {way}"


MULTIPLIED = [multiplied(way) for way in WAYS]

#: The sizes that people run, on both sides of those at which a code path changes: vectors, panels and tiles of units
#: (4 to 128), rows of a tile or block (6, 36), batches of few rows (4), the depth of a block (128 and 256), rows of a
#: partial sum (128 and 256) and of a chunk, inputs whose products are saved (96), the weights from which a batch is
#: split in another way, 16 columns of embeddings, and steps of a chunk. Cases of many steps have 64 units and more, so
#: that one draw is enough.
WIDE = (
    Case(T=3, B=4, I=31, H=31, S=16, Z=4, state="shared"),
    Case(T=3, B=5, I=32, H=32, S=15, Z=5, layer_norm=True),
    Case(T=3, B=6, I=33, H=33, S=17, Z=8, state="stacked"),
    Case(T=4, B=7, I=63, H=64, S=31, Z=9, layer_norm=True, strided=True),
    Case(T=3, B=12, I=64, H=63, S=32, Z=1, L=2),
    Case(T=3, B=13, I=65, H=65, S=33, Z=2, layer_norm=True, state="stacked"),
    Case(T=2, B=31, I=95, H=96, S=40, Z=15, layer_norm=True),
    Case(T=3, B=36, I=96, H=127, S=63, Z=16),
    Case(T=2, B=37, I=97, H=128, S=64, Z=17, layer_norm=True, state="shared"),
    Case(T=3, B=64, I=127, H=129, S=65, Z=3, strided=True),
    Case(T=2, B=65, I=129, H=160, S=96, Z=6, layer_norm=True),
    Case(T=2, B=128, I=10, H=255, S=127, Z=7, state="stacked"),
    Case(T=2, B=129, I=200, H=257, S=129, Z=4, layer_norm=True, state="stacked"),
    Case(T=2, B=260, I=20, H=520, S=160, Z=5),
    Case(T=12, B=32, I=50, H=256, S=64, Z=4),
    Case(T=40, B=1, I=33, H=68, S=64, Z=3, layer_norm=True, state="stacked"),
    Case(T=70, B=8, I=9, H=72, S=67, Z=4),
    Case(T=33, B=8, I=100, H=66, S=65, Z=2, layer_norm=True),
    Case(T=6, B=5, I=40, H=80, S=36, Z=5, lengths=(6, 4, 4, 3, 1), layer_norm=True, state="stacked"),
    Case(T=9, B=40, I=97, H=65, S=65, Z=4, L=2, lengths=lengths(9, 40), state="stacked"),
    Case(T=4, B=70, I=33, H=136, S=48, Z=3, lengths=lengths(4, 70)[::-1], layer_norm=True, recurrent_dropout=0.3),
    Case(T=3, B=20, I=35, H=100, S=36, Z=4, recurrent_dropout=0.4, state="shared"),
    Case(T=3, B=66, I=97, H=72, S=33, Z=5, L=2, layer_norm=True, dropout=0.25, recurrent_dropout=0.4),
    Case(T=3, B=2, I=40, H=600, S=64, Z=4, layer_norm=True, state="stacked", recurrent_dropout=0.2),
    Case(T=10, B=47, I=13, H=66, S=140, Z=12, state="shared"),
    Case(T=5, B=103, I=4, H=130, S=117, Z=6, L=2, layer_norm=True, state="stacked", recurrent_dropout=0.3),
)

#: Cases of WIDE that a default run compares in float16 too: any one in four.
IN_FLOAT16 = WIDE[::4]

#: Checks of bits run on these two, which are compared by value, too.
SPLIT = Case(T=6, B=3, I=5, H=260, S=30, Z=2, layer_norm=True)
ROWS = Case(T=2, B=37, I=6, H=40, S=20, Z=5, L=2, layer_norm=True, state="stacked")
