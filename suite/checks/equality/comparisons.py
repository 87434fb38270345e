"""Every comparison by value of a verification: a case, a dtype, how the model is used, and the oracle.

Small cases have `naive` as their oracle, wide ones row_scaled. Faults are planted in what a default run compares.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from typing import NamedTuple

import torch

from impls import HyperLSTM, names
from impls.registry import ORACLE, Impl, find
from suite.cases.case import Case, Start, lengths
from suite.cases.verification import DROPOUT, RAGGED, ROWS, SPLIT, VERIFY, VERIFY_FIRST, VERIFY_TINY, WIDE
from suite.cases.workloads import TIMED
from suite.checks.equality.leftovers import watched
from suite.checks.equality.pairs import PAIRS, Pair
from suite.checks.equality.uses import Arithmetic, Use
from suite.comparison.compare import DRAWS, FLOOR, Build, Oracle, Verdict, compare, naive_oracle
from suite.comparison.oracle import run_plain
from suite.results.provenance import Definition

F64, F32, BF16, F16 = torch.float64, torch.float32, torch.bfloat16, torch.float16
#: Cases at which a model is used in many ways.
SMALL = Case(T=4, B=3, I=6, H=9, S=7, Z=3, layer_norm=True, state=Start.STACKED)
LARGE = Case(T=4, B=66, I=100, H=136, S=40, Z=9, layer_norm=True, state=Start.STACKED)
PACKED = Case(T=5, B=9, I=97, H=72, S=33, Z=4, L=2, lengths=lengths(5, 9), state=Start.PLAIN, recurrent_dropout=0.3)
DROPPED = Case(
    T=3, B=3, I=5, H=8, S=6, Z=2, L=2, layer_norm=True, state=Start.STACKED, dropout=0.25, recurrent_dropout=0.4
)
WIDER = Case(T=2, B=9, I=33, H=72, S=33, Z=4, L=2, state=Start.STACKED, dropout=0.25, recurrent_dropout=0.3)
#: So few rows beside so many weights that batched_cpu reads these as they are stored.
FEW_ROWS = Case(T=5, B=3, I=5, H=512, S=8, Z=2)
#: Without a gradient.
LONG = (
    Case(T=1, B=66, I=97, H=72, S=33, Z=4),
    Case(T=100, B=5, I=33, H=64, S=32, Z=3, layer_norm=True, state=Start.STACKED),
    Case(T=50, B=36, I=97, H=65, S=20, Z=9, recurrent_dropout=0.3),
    Case(T=20, B=9, I=33, H=40, S=17, Z=2, lengths=lengths(20, 9), state=Start.STACKED),
    Case(T=2, B=3, I=33, H=40, S=33, Z=2, L=2, lengths=(1, 2, 1), state=Start.STACKED),  # fewer steps than slots
    Case(T=1, B=3, I=33, H=40, S=33, Z=2, L=2, lengths=(1, 1, 1), state=Start.STACKED),
)
#: Of `naive`.
LITERAL = Case(T=2, B=8, I=97, H=128, S=33, Z=9, layer_norm=True, state=Start.STACKED)


class Group(NamedTuple):
    """Uses that one comparison makes of a model, one after the other.

    name: for people, in ids; "" for a plain call. defined: where its uses are, on which rows depend; None for a plain
    call. forward_only: without a gradient.
    """

    name: str
    uses: tuple[Use, ...]
    defined: Definition | None = None
    forward_only: bool = False


def _group(name: str, defined: Definition, *, forward_only: bool = False) -> Group:
    """The uses that a module of this folder defines.

    It is imported by name: a row depends on the uses of its group, and a static import would say on all.
    """
    uses: tuple[Use, ...] = getattr(import_module(f"{__package__}.{defined.module}"), defined.name)
    return Group(name, uses, defined, forward_only)


#: A plain call with all gradients.
PLAIN = Group("", (Use("", run_plain),))
FROZEN = _group("frozen", Definition("uses", "FROZEN"))
GRADIENTS = _group("gradients", Definition("uses", "GRADIENTS"))
LAYOUTS = _group("layouts", Definition("layouts", "LAID_OUT"))
LAYOUTS_AT_ONCE = _group("layouts at once", Definition("layouts", "AT_ONCE"))
CHANGES = _group("changes", Definition("changes", "CHANGES"))
MEANS_FAR_FROM_0 = _group("means far from 0", Definition("uses", "MEANS_FAR_FROM_0"))
SATURATED = _group("saturated", Definition("uses", "SATURATED"))
CALLS = _group("calls", Definition("uses", "CALLS"))
INFERENCE = _group("inference", Definition("uses", "INFERENCE"), forward_only=True)


class Used(NamedTuple):
    """A group of uses, and the cases and dtypes in which an implementation is used so."""

    group: Group
    cases: dict[Case, tuple[torch.dtype, ...]]


_TRAINED = {SMALL: (F64,), LARGE: (F32,), PACKED: (F64, BF16)}
USED = (
    Used(FROZEN, _TRAINED),
    Used(GRADIENTS, _TRAINED | {FEW_ROWS: (F32,)}),
    Used(LAYOUTS, _TRAINED),
    Used(CHANGES, {DROPPED: (F64,), WIDER: (F32,)}),
    Used(MEANS_FAR_FROM_0, {replace(LARGE, S=120): (F32,)}),
    Used(SATURATED, {replace(LARGE, layer_norm=False): (F64, F32)}),
    Used(CALLS, {SMALL: (F64,), LARGE: (F32,)}),
    Used(INFERENCE, dict.fromkeys(LONG, (F32,))),
)


class Comparison(NamedTuple):
    """A case in a dtype, the uses of a model that are compared, and what with; default: part of a default run."""

    case: Case
    dtype: torch.dtype
    group: Group
    oracle: Oracle
    default: bool = True

    @property
    def id(self) -> str:
        """Name in test ids and tables."""
        return f"{self.case.id}-{self.group.name}" if self.group.name else self.case.id

    def worst(self, build: Build, device: torch.device) -> Verdict:
        """The worst verdict on any tensor."""
        worst_of_uses = [verdicts[0] for verdicts in self.verdicts(build, device)]
        return max(worst_of_uses, key=lambda verdict: verdict.ratio)

    def verdicts(self, build: Build, device: torch.device) -> Iterator[list[Verdict]]:
        """Verdicts on all tensors of each use, worst first."""
        # Of all uses one model, which shows what a use leaves to the next.
        model = build(self.case, self.dtype, torch.device("meta"))
        for use in self.group.uses:
            yield self._compared(use, build, model, device)

    def _compared(self, use: Use, build: Build, model: HyperLSTM, device: torch.device) -> list[Verdict]:
        cast_from = use.cast_from(self.dtype)
        verdicts = compare(
            build if cast_from else lambda *_: model,
            self.case,
            self.dtype,
            device,
            self.oracle,
            cast_from=cast_from,
            run=watched(use.run),
            numbers=use.numbers,
            expected=use.expected,
        )
        return [replace(verdict, use=use.name) for verdict in verdicts]


#: The oracle of wide cases, since `naive` would build its weight tensors at every step.
WIDE_ORACLE = "row_scaled"
#: By dtype, what the numbers of a wide case are rounded to: one oracle serves two dtypes.
ROUNDED = {F64: F32, F32: F32, BF16: BF16, F16: BF16}
#: Draws of a wide case whose narrower layer has fewer units than that, in float32 and in another dtype. The rule is
#: about norms over many numbers: the gradient of a bias of few units may nearly cancel, and its relative error is then
#: chance.
NARROW = {32: (DRAWS, 3), 64: (3, 1)}


def against_naive(case: Case, dtype: torch.dtype, group: Group = PLAIN, *, default: bool = True) -> Comparison:
    """A comparison of a small case."""
    # In float64 the rule is its floor, which any draw must keep; the second shows what the first left behind.
    draws = 2 if dtype == F64 else DRAWS
    return Comparison(case, dtype, group, naive_oracle(dtype, draws), default)


def against_wide(case: Case, dtype: torch.dtype, group: Group = PLAIN, *, default: bool = True) -> Comparison:
    """A comparison of a wide case."""
    draws = _wide_draws(case, dtype) if group == PLAIN else 1
    return Comparison(case, dtype, group, Oracle(WIDE_ORACLE, ROUNDED[dtype], draws), default)


def _wide_draws(case: Case, dtype: torch.dtype) -> int:
    for units, (in_float32, in_others) in NARROW.items():
        if min(case.H, case.S) < units:
            return in_float32 if dtype == F32 else in_others
    return 1


def in_default_run(impl: Impl, case: Case, dtype: torch.dtype) -> bool:
    """Whether a default run makes a plain call of a case in a dtype; it makes all other uses.

    It has the small cases of `VERIFY_FIRST`. Of workloads that a CPU does not time by default it has those with layer
    norm, in float32; of the others all in float32 and float64, and those with layer norm in bfloat16. Of the other wide
    cases it has all, but in float16 one in four, since only what runs on a GPU alone treats that in another way than
    bfloat16.
    """
    if case in TIMED:
        if "cpu" not in TIMED[case].by_default:
            return dtype == F32 and case.layer_norm
        return dtype in (F64, F32) or (dtype == BF16 and case.layer_norm)
    if case in (*WIDE, SPLIT, ROWS):
        return dtype != F16 or case in WIDE[::4] or "cpu" not in impl.devices
    return case in VERIFY_FIRST


def small(name: str) -> list[Comparison]:
    """Cases of an implementation whose oracle is `naive`."""
    impl = find(name)
    cases = [(case, dtype) for dtype in FLOOR for case in (*VERIFY, RAGGED[0], DROPOUT[0])]
    cases += [(case, F64) for case in VERIFY_TINY + RAGGED[1:] + DROPOUT[1:]]
    comparisons = []
    for case, dtype in cases:
        if dtype in impl.dtypes:
            default = in_default_run(impl, case, dtype)
            comparisons.append(against_naive(case, dtype, default=default))
    return comparisons


def wide(name: str) -> list[Comparison]:
    """Cases of an implementation at the sizes that people run.

    Of row_scaled in float64 alone, since it is the oracle: what differs is the module around it. `naive`, whose weight
    tensors would be too large, has one case.
    """
    if name == ORACLE:
        return [against_wide(LITERAL, F64)]
    impl = find(name)
    comparisons = []
    for case in (*WIDE, SPLIT, ROWS, *TIMED):
        for dtype in ROUNDED:
            if dtype in _wide_dtypes(impl):
                default = in_default_run(impl, case, dtype)
                comparisons.append(against_wide(case, dtype, default=default))
    return comparisons


def used(name: str) -> list[Comparison]:
    """Groups of uses of an implementation, at small and at large sizes; none of `naive`."""
    if name == ORACLE:
        return []
    supported = find(name).dtypes
    comparisons = []
    for group, cases in USED:
        for case, dtypes in cases.items():
            of_case = (F64,) if name == WIDE_ORACLE else dtypes
            comparisons += [against_wide(case, dtype, group) for dtype in of_case if dtype in supported]
    return comparisons


def _wide_dtypes(impl: Impl) -> tuple[torch.dtype, ...]:
    return (F64,) if impl.name == WIDE_ORACLE else impl.dtypes


def paired(name: str, pairs: Sequence[Pair] = PAIRS) -> list[Comparison]:
    """Options of an implementation in pairs, in the most precise dtype that it has, or under autocast.

    Where formulas lose digits, float64 is the oracle, and naive's own error in float32 says how many are lost.
    """
    most_precise = find(name).dtypes[0]
    comparisons = []
    for pair in pairs:
        group = Group(pair.use.name, (pair.use,), Definition("pairs", "PAIRS"))
        comparisons.append(against_naive(pair.case, _dtype_of_pair(pair.use, most_precise), group))
    return comparisons


def _dtype_of_pair(use: Use, most_precise: torch.dtype) -> torch.dtype:
    if use.extreme:
        return F32
    if use.arithmetic is Arithmetic.EXACT:
        return most_precise
    stays = use.arithmetic is Arithmetic.FLOAT64_IN_AUTOCAST and most_precise == F64
    return F64 if stays else BF16


def every_id() -> list[str]:
    """The ids of all cases."""
    ids: dict[str, None] = {}
    for name in names():
        for comparison in (*small(name), *wide(name), *used(name), *paired(name)):
            ids[comparison.id] = None
    return list(ids)
