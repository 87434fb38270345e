"""The catalogue of all comparisons by value of a verification; faults are planted in what a default run compares."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product

import torch

from impls import names
from impls.registry import ORACLE, Impl, find
from suite.cases.case import Case, lengths
from suite.cases.plan import workloads
from suite.cases.verification import IN_EVERY_DTYPE, IN_FLOAT16, IN_FLOAT64, ROWS, SPLIT, VERIFY_FIRST, WIDE
from suite.cases.workloads import TIMED
from suite.checks.equality import calls, changes, extremes, gradients, layouts
from suite.checks.equality.comparisons import (
    BF16,
    F16,
    F32,
    F64,
    WIDE_ORACLE,
    Comparison,
    Uses,
    against_naive,
    against_wide,
    dtypes_at_size,
)
from suite.checks.equality.pairs import COVERING, Combination, case_of, dtype_of, use_of
from suite.comparison.memory import shortage
from suite.comparison.tolerance import DTYPES
from suite.shared.devices import DeviceType

#: Cases at which a model is used in many ways.
NARROW = Case(T=4, B=3, I=6, H=9, S=7, Z=3, layer_norm=True, state="stacked")
LARGE = Case(T=4, B=66, I=100, H=136, S=40, Z=9, layer_norm=True, state="stacked")
PACKED = Case(T=5, B=9, I=97, H=72, S=33, Z=4, L=2, lengths=lengths(5, 9), state="shared", recurrent_dropout=0.3)
DROPPED = Case(T=3, B=3, I=5, H=8, S=6, Z=2, L=2, layer_norm=True, state="stacked", dropout=0.25, recurrent_dropout=0.4)
DROPPED_WIDE = Case(T=2, B=9, I=33, H=72, S=33, Z=4, L=2, state="stacked", dropout=0.25, recurrent_dropout=0.3)
#: So few rows beside so many weights that batched_cpu reads these as they are stored.
FEW_ROWS = Case(T=5, B=3, I=5, H=512, S=8, Z=2)
#: Compared without a gradient alone.
FORWARD_CASES = (
    Case(T=1, B=66, I=97, H=72, S=33, Z=4),
    Case(T=100, B=5, I=33, H=64, S=32, Z=3, layer_norm=True, state="stacked"),
    Case(T=50, B=36, I=97, H=65, S=20, Z=9, recurrent_dropout=0.3),
    Case(T=20, B=9, I=33, H=40, S=17, Z=2, lengths=lengths(20, 9), state="stacked"),
    Case(T=2, B=3, I=33, H=40, S=33, Z=2, L=2, lengths=(1, 2, 1), state="stacked"),  # fewer steps than slots
    Case(T=1, B=3, I=33, H=40, S=33, Z=2, L=2, lengths=(1, 1, 1), state="stacked"),
)
#: Of an implementation that builds weights.
LITERAL = Case(T=2, B=8, I=97, H=128, S=33, Z=9, layer_norm=True, state="stacked")
_TRAINED = {NARROW: (F64,), LARGE: (F32,), PACKED: (F64, BF16)}
#: By name, uses of one model, and the cases and dtypes in which every implementation is used so.
GROUPS: Mapping[str, tuple[Uses, Mapping[Case, Sequence[torch.dtype]]]] = {
    "frozen": (gradients.FROZEN, _TRAINED),
    "gradients": (gradients.GRADIENTS, _TRAINED | {FEW_ROWS: (F32,)}),
    "layouts": (layouts.LAID_OUT, _TRAINED),
    "changes": (changes.CHANGES, {DROPPED: (F64,), DROPPED_WIDE: (F32,)}),
    "means far from 0": (extremes.MEANS_FAR_FROM_0, {replace(LARGE, S=120): (F32,)}),
    "saturated": (extremes.SATURATED, {replace(LARGE, layer_norm=False): (F64, F32)}),
    "calls": (calls.CALLS, {NARROW: (F64,), LARGE: (F32,)}),
    "inference": (calls.INFERENCE, dict.fromkeys(FORWARD_CASES, (F32,))),
}


def _wide_in_default_run(impl: Impl, case: Case, dtype: torch.dtype) -> bool:
    """Whether a default run makes the plain call of a wide case in a dtype.

    - Of workloads that a CPU times by default it has all in float32, and those with layer norm in float64 and bfloat16.
    - Of workloads that no CPU times by default it has those with layer norm in float32, of what runs on a GPU alone.
    - Of the other wide cases it has all. In float16 these are `IN_FLOAT16`, but all for what runs on a GPU alone, which
      alone treats float16 in another way than bfloat16.
    """
    if case in TIMED:
        if TIMED[case].name not in workloads(DeviceType.CPU):
            return DeviceType.CPU not in impl.devices and dtype == F32 and case.layer_norm
        return dtype == F32 or (dtype in (F64, BF16) and case.layer_norm)
    return dtype != F16 or case in IN_FLOAT16 or DeviceType.CPU not in impl.devices


def small(name: str) -> list[Comparison]:
    """Comparisons of an implementation whose oracle is `naive`: some cases in each dtype, the others in float64."""
    comparisons = []
    for dtype, case in (*product(DTYPES, IN_EVERY_DTYPE), *product([F64], IN_FLOAT64)):
        if dtype in find(name).dtypes:
            comparisons.append(against_naive(case, dtype, default=case in VERIFY_FIRST))
    return comparisons


def wide(name: str) -> list[Comparison]:
    """Comparisons of an implementation at the sizes that people run; if it builds weights, of one case."""
    impl = find(name)
    if impl.builds_weights:
        return [against_wide(LITERAL, dtype) for dtype in dtypes_at_size(impl)]
    comparisons = []
    for case in (*WIDE, SPLIT, ROWS, *TIMED):
        for dtype in _compared_dtypes(impl, DTYPES):
            default = _wide_in_default_run(impl, case, dtype)
            comparisons.append(against_wide(case, dtype, default=default))
    return comparisons


def grouped(name: str) -> list[Comparison]:
    """Groups of uses of an implementation, at small and at large sizes; none if it builds weights.

    Of `row_scaled`, the oracle of wide cases, a default run has the first case of each group: nothing of it depends on
    sizes.
    """
    impl = find(name)
    if impl.builds_weights:
        return []
    comparisons = []
    for group, (uses, cases) in GROUPS.items():
        for case, dtypes in cases.items():
            default = name != WIDE_ORACLE or case == next(iter(cases))
            for dtype in _compared_dtypes(impl, dtypes):
                comparisons.append(against_wide(case, dtype, group, uses, default=default))
    return comparisons


def _compared_dtypes(impl: Impl, dtypes: Iterable[torch.dtype]) -> list[torch.dtype]:
    """The dtypes in which it is compared; of the oracle float64 alone, as only the module around it differs."""
    if impl.name == WIDE_ORACLE:
        return [F64]
    return [dtype for dtype in dtypes if dtype in dtypes_at_size(impl)]


def paired(name: str, covering: Iterable[Combination] = COVERING) -> list[Comparison]:
    """Options of an implementation in pairs, in the most precise dtype that it has, or under autocast.

    A default run has none of `naive`: the oracle is its layer function, and `row_scaled` runs in the same module.
    """
    most_precise = min(find(name).dtypes, key=lambda dtype: torch.finfo(dtype).eps)
    comparisons = []
    for options in covering:
        case, dtype, use = case_of(options), dtype_of(options, most_precise), use_of(options)
        comparisons.append(against_naive(case, dtype, use.name, (use,), default=name != ORACLE))
    return comparisons


def of_every_implementation(*parts: Callable[[str], list[Comparison]]) -> list[tuple[str, Comparison]]:
    """Comparisons of all implementations; parts: of the catalogue, from the name of an implementation.

    Implementations come one after the other on each case, so that its references are in memory. Cases have sizes that
    the implementation takes; of several that become one the first is made.
    """
    by_case: dict[tuple[str, torch.dtype], dict[str, Comparison]] = {}
    for name in names():
        multiples = find(name).multiples
        for part in parts:
            for comparison in part(name):
                fitting = comparison._replace(case=comparison.case.fitting(multiples))
                by_case.setdefault((fitting.id, fitting.dtype), {}).setdefault(name, fitting)
    return [compared for of_case in by_case.values() for compared in of_case.items()]


def at_sizes(cases: Iterable[Case], dtypes: Sequence[torch.dtype], most: int) -> list[tuple[str, Comparison]]:
    """Comparisons of every implementation at some sizes, in its dtypes; of these only in `dtypes`, if there are any.

    most: bytes that may be taken. Where its training step does not fit, the forward pass alone is compared, and nothing
    where that of the oracle does not fit.
    """
    compared = []
    for case in dict.fromkeys(cases):  # a person may name a size twice
        of_oracle = shortage(WIDE_ORACLE, case, F64, most)
        for name in names():
            for dtype in dtypes_at_size(find(name)):
                if dtypes and dtype not in dtypes:
                    continue
                comparison, lacking = against_wide(case, dtype), shortage(name, case, dtype, most)
                if of_oracle:
                    lacking = f"As the oracle, {of_oracle}"
                elif lacking and not shortage(name, case, dtype, most, training=False):
                    comparison, lacking = against_wide(case, dtype, "inference", calls.INFERENCE), ""
                compared.append((name, comparison._replace(too_large=lacking)))
    return compared
