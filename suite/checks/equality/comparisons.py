"""Every comparison by value of a verification: a case, a dtype, and how the model is used.

Small cases have `naive` as their oracle, wide ones row_scaled. Faults are planted in what a default run compares.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch

from impls import HyperLSTM, names
from impls.registry import ORACLE, find
from suite.checks.equality.changes import CHANGES
from suite.checks.equality.layouts import AT_ONCE, LAID_OUT
from suite.checks.equality.leftovers import watched
from suite.checks.equality.pairs import OF_A_LAYER, PAIRS
from suite.checks.equality.uses import CALLS, FROZEN, GRADIENTS, INFERENCE, MEANS_FAR_FROM_0, SATURATED, Use
from suite.shared.cases import (
    AGAINST,
    DROPOUT,
    RAGGED,
    ROUNDED,
    TIMED,
    VERIFY,
    VERIFY_FIRST,
    VERIFY_TINY,
    Case,
    lengths,
    pairs,
)
from suite.shared.compare import DRAWS, FLOOR, Build, Verdict, compare
from suite.shared.oracle import plain

F64, F32, BF16 = torch.float64, torch.float32, torch.bfloat16
#: Cases at which a model is used in many ways.
SMALL = Case(T=4, B=3, I=6, H=9, S=7, Z=3, layer_norm=True, state="stacked")
LARGE = Case(T=4, B=66, I=100, H=136, S=40, Z=9, layer_norm=True, state="stacked")
PACKED = Case(T=5, B=9, I=97, H=72, S=33, Z=4, L=2, lengths=lengths(5, 9), state="plain", recurrent_dropout=0.3)
DROPPED = Case(T=3, B=3, I=5, H=8, S=6, Z=2, L=2, layer_norm=True, state="stacked", dropout=0.25, recurrent_dropout=0.4)
WIDER = Case(T=2, B=9, I=33, H=72, S=33, Z=4, L=2, state="stacked", dropout=0.25, recurrent_dropout=0.3)
#: So few rows beside so many weights that batched_cpu reads these as they are stored.
FEW_ROWS = Case(T=5, B=3, I=5, H=512, S=8, Z=2)
#: Without a gradient.
LONG = (
    Case(T=1, B=66, I=97, H=72, S=33, Z=4),
    Case(T=100, B=5, I=33, H=64, S=32, Z=3, layer_norm=True, state="stacked"),
    Case(T=50, B=36, I=97, H=65, S=20, Z=9, recurrent_dropout=0.3),
    Case(T=20, B=9, I=33, H=40, S=17, Z=2, lengths=lengths(20, 9), state="stacked"),
    Case(T=2, B=3, I=33, H=40, S=33, Z=2, L=2, lengths=(1, 2, 1), state="stacked"),  # fewer steps than slots
    Case(T=1, B=3, I=33, H=40, S=33, Z=2, L=2, lengths=(1, 1, 1), state="stacked"),
)
#: Of `naive`.
LITERAL = Case(T=2, B=8, I=97, H=128, S=33, Z=9, layer_norm=True, state="stacked")
_TRAINED = {SMALL: (F64,), LARGE: (F32,), PACKED: (F64, BF16)}
#: By group of uses: the uses, and the cases and their dtypes.
USED: dict[str, tuple[tuple[Use, ...], dict[Case, tuple[torch.dtype, ...]]]] = {
    "frozen": (FROZEN, _TRAINED),
    "gradients": (GRADIENTS, _TRAINED | {FEW_ROWS: (F32,)}),
    "layouts": (LAID_OUT, _TRAINED),
    "changes": (CHANGES, {DROPPED: (F64,), WIDER: (F32,)}),
    "means far from 0": ((MEANS_FAR_FROM_0,), {replace(LARGE, S=120): (F32,)}),
    "saturated": (SATURATED, {replace(LARGE, layer_norm=False): (F64, F32)}),
    "calls": (CALLS, {SMALL: (F64,), LARGE: (F32,)}),
    "inference": (INFERENCE, dict.fromkeys(LONG, (F32,))),
}
#: Uses by the name that a comparison has of them.
USES = {
    "": (Use("", plain),),
    "layouts at once": AT_ONCE,
    **{group: uses for group, (uses, _) in USED.items()},
    **{use.name: (use,) for _, use in (*PAIRS, *OF_A_LAYER)},
}
#: Where each group of uses is defined, a module of this folder and a name in it: its rows depend on that.
DEFINED = {
    "": "",
    "layouts at once": "layouts.AT_ONCE",
    "frozen": "uses.FROZEN",
    "gradients": "uses.GRADIENTS",
    "layouts": "layouts.LAID_OUT",
    "changes": "changes.CHANGES",
    "means far from 0": "uses.MEANS_FAR_FROM_0",
    "saturated": "uses.SATURATED",
    "calls": "uses.CALLS",
    "inference": "uses.INFERENCE",
    **{use.name: "pairs.PAIRS" for _, use in (*PAIRS, *OF_A_LAYER)},
}
#: Draws of a wide case whose narrower layer has fewer units than that, in float32 and in another dtype. The rule is
#: about norms over many numbers: the gradient of a bias of few units may nearly cancel, and its relative error is then
#: chance.
NARROW = {32: (DRAWS, 3), 64: (3, 1)}


class Comparison(NamedTuple):
    """A case in a dtype; use: a group of `USES` or a row of `PAIRS`, "" for a plain call with all gradients."""

    case: Case
    dtype: torch.dtype
    use: str = ""
    wide: bool = False
    #: Part of a default run.
    default: bool = True

    @property
    def id(self) -> str:
        """Name in test ids and tables."""
        return f"{self.case.id}-{self.use}" if self.use else self.case.id

    def worst(self, build: Build, device: torch.device) -> Verdict:
        """The worst verdict on any tensor."""
        return max((worst for worst, *_ in self.verdicts(build, device)), key=lambda verdict: verdict.ratio)

    def verdicts(self, build: Build, device: torch.device) -> Iterator[list[Verdict]]:
        """Verdicts on all tensors of each use, or of the one plain call, worst first."""
        model = build(self.case, self.dtype, torch.device("meta"))  # one, which shows what a use leaves to the next
        yield from (self._compared(use, build, model, device) for use in USES[self.use])

    def _compared(self, use: Use, build: Build, model: HyperLSTM, device: torch.device) -> list[Verdict]:
        how = partial(compare, case=self.case, dtype=self.dtype, device=device, run=watched(use.run))
        how = partial(how, numbers=use.numbers, expected=use.expected, draws=self._draws())
        if self.wide:
            how = partial(how, against=AGAINST, rounded=ROUNDED[self.dtype])
        cast_from = F32 if self.dtype == BF16 and "autocast" in use.name else None
        every = how(build if cast_from else lambda *_: model, cast_from=cast_from)
        return [replace(one, tensor=f"{one.tensor}, {use.name}") if use.name else one for one in every]

    def _draws(self) -> int:
        if not self.wide:
            # In float64 the rule is its floor, which any draw must keep; the second shows what the first left behind.
            return 2 if self.dtype == F64 else DRAWS
        units, others = min(self.case.H, self.case.S), self.dtype != F32
        return 1 if self.use else next((draws[others] for few, draws in NARROW.items() if units < few), 1)


def small(name: str) -> list[Comparison]:
    """Cases of an implementation whose oracle is `naive`."""
    every = [(case, dtype) for dtype in FLOOR for case in (*VERIFY, RAGGED[0], DROPOUT[0])]
    every += [(case, F64) for case in VERIFY_TINY + RAGGED[1:] + DROPOUT[1:]]
    impl = find(name)
    return [Comparison(case, dtype, default=case in VERIFY_FIRST) for case, dtype in every if dtype in impl.dtypes]


def wide(name: str) -> list[Comparison]:
    """Cases of an implementation at the sizes that people run.

    Of row_scaled in float64 alone, since it is the oracle: what differs is the module around it. `naive`, whose weight
    tensors would be too large, has one case.
    """
    if name == ORACLE:
        return [Comparison(LITERAL, F64, wide=True)]
    impl = find(name)
    # Only what runs on a GPU alone treats float16 in another way than bfloat16.
    always = {F64, F32, BF16} if "cpu" in impl.devices else set(ROUNDED)
    return [
        Comparison(case, dtype, wide=True, default=default or (case not in TIMED and dtype in always))
        for case, dtype, default in pairs()
        if dtype in ((F64,) if name == AGAINST else impl.dtypes)
    ]


def used(name: str) -> list[Comparison]:
    """Groups of uses of an implementation, at small and at large sizes."""
    if name == ORACLE:
        return []
    return [
        Comparison(case, dtype, group, wide=True)
        for group, (_, cases) in USED.items()
        for case, dtypes in cases.items()
        for dtype in ((F64,) if name == AGAINST else dtypes)
        if dtype in find(name).dtypes
    ]


def paired(name: str, pairs: Sequence[tuple[Case, Use]] = PAIRS) -> list[Comparison]:
    """Options of an implementation in pairs, in the most precise dtype that it has, or under autocast.

    Where formulas lose digits, float64 is the oracle, and naive's own error in float32 says how many are lost.
    """
    exact = find(name).dtypes[0]

    def dtype(use: Use) -> torch.dtype:
        if use.name.endswith("extreme"):
            return F32
        kept = exact == F64 and "float64_in_autocast" in use.name
        return BF16 if "autocast" in use.name and not kept else exact

    return [Comparison(case, dtype(use), use.name) for case, use in pairs]


def every_id() -> list[str]:
    """The ids of all cases."""
    every = (each.id for name in names() for each in (*small(name), *wide(name), *used(name), *paired(name)))
    return list(dict.fromkeys(every))
