"""Faults of correct implementations, which the comparison must reject.

Those in C++ share one copy of the package, which is built once; an environment variable selects the active one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import torch

from impls import names
from impls.registry import find
from suite.cases.case import Case
from suite.cases.verification import DROPOUT, RAGGED, VERIFY
from suite.checks.equality import catalogue
from suite.checks.equality.tasks import Comparison, Group, against_naive, against_wide
from suite.checks.faults.planting import VARIABLE, Edit, Edited, Fault, edits, listed


class Planted(NamedTuple):
    """A fault, the edits that plant it, and the comparisons of which one must show it."""

    fault: Fault
    edited: Edited
    comparisons: tuple[Comparison, ...]


#: The comparisons that may show a fault, of the implementation that runs it, in a dtype.
Shown = Callable[[str, torch.dtype], tuple[Comparison, ...]]


def _in_cases(cases: Sequence[Case]) -> Shown:
    """A plain call of each case whose options the implementation supports."""

    def shown(runs: str, dtype: torch.dtype) -> tuple[Comparison, ...]:
        options = find(runs).options
        return tuple(against_naive(case, dtype) for case in cases if options.issuperset(case.options))

    return shown


def _in_uses(group: Group) -> Shown:
    """A group of uses, in float64 too where a verification has it in float32: faults in C++ are built for one dtype."""

    def shown(_: str, dtype: torch.dtype) -> tuple[Comparison, ...]:
        return tuple(against_wide(case, dtype, group) for case in catalogue.GROUPS[group])

    return shown


def _in_pairs(runs: str, dtype: torch.dtype) -> tuple[Comparison, ...]:
    """Options in pairs, those on few sequences first, which take least."""
    of_dtype = [comparison for comparison in catalogue.paired(runs) if comparison.dtype == dtype]
    return tuple(sorted(of_dtype, key=lambda comparison: comparison.case.T * comparison.case.B))


#: The simplest first.
_VERIFIED = tuple(sorted((case for case in VERIFY if case.T > 2), key=attrgetter("layer_norm", "L", "state")))
#: By kind of fault, which heads its table.
_OF_KINDS: Mapping[str, Shown] = {
    "step": _in_cases(_VERIFIED),
    "layer norm": _in_cases(_VERIFIED),
    "states and layers": _in_cases(_VERIFIED),
    "masks": _in_cases(_VERIFIED),
    "inputs damaged": _in_cases(_VERIFIED),
    "uninitialised memory": _in_cases(_VERIFIED),
    "memory of earlier runs": _in_cases(_VERIFIED),
    "precision": _in_cases(_VERIFIED),
    "gradient": _in_cases(_VERIFIED),
    "packed sequences": _in_cases(RAGGED),
    "dropout": _in_cases(DROPOUT),
    "pairs": _in_pairs,
    "left behind": _in_cases(_VERIFIED),
    "left behind, dropout": _in_cases(DROPOUT),
}


def with_groups(shown: Mapping[str, Shown], groups: Iterable[Group]) -> dict[str, Shown]:
    """What shows each kind of fault, and kinds that have the names of groups of uses; ValueError if one is there."""
    by_kind = dict(shown)
    for group in groups:
        if group.name in by_kind:
            kinds = ", ".join(by_kind)
            raise ValueError(f"group of uses {group.name!r}: expected a name that no kind of fault has, of {kinds}")
        by_kind[group.name] = _in_uses(group)
    return by_kind


SHOWN = with_groups(_OF_KINDS, catalogue.GROUPS)


def _comparisons(fault: Fault, runs: str) -> tuple[Comparison, ...]:
    """Comparisons that may show a fault in an implementation."""
    if fault.kind not in SHOWN:
        raise ValueError(f"{fault.name!r}: expected a kind of fault, one of {', '.join(SHOWN)}, got {fault.kind!r}")
    return SHOWN[fault.kind](runs, fault.dtype)


def _runs(path: Path) -> str:
    """Name of the implementation that runs an edited file."""
    module = path.with_suffix("").parts[0]
    if module in names():
        return module
    return "deferred" if module == "gradient" else "row_scaled"


#: Compile quickly, and to the same code on every processor; and a function that is true of the active fault.
_ALL_COMPILED = (
    *edits("batched_cpu/sets.py", ("torch.backends.cpu.get_cpu_capability().lower()", '"baseline"')),
    *edits("batched_cpu/build.py", ("-O3 ", "-O0 ")),
    *edits(
        "batched_cpu/cell.h",
        (
            "constexpr int kGroup = 4;",
            "constexpr int kGroup = 4;\n"
            "inline bool fault(int number) {\n"
            f'  const char* const active = std::getenv("{VARIABLE}");\n'
            "  return active != nullptr && std::atoi(active) == number;\n}",
        ),
    ),
)


def _in_cpp(fault: Fault) -> bool:
    """True for a fault that replaces expressions in C++."""
    return fault.path.suffix == ".h"


def _where_active(edit: Edit, number: int) -> Edit:
    """An edit of an expression that holds if the fault of that number is active."""
    return edit._replace(new=f"(fault({number}) ? {edit.new} : {edit.right})")


def _planted(faults: Sequence[Fault]) -> list[Planted]:
    """The faults, of which those in C++ that apply replace expressions in a common copy."""
    common = list(_ALL_COMPILED)
    numbers: dict[str, int] = {}
    alone = [Edited(fault.name, fault.edits, _runs(fault.path)) for fault in faults]
    for fault, edited in zip(faults, alone, strict=True):
        if _in_cpp(fault) and not edited.stale():
            number = numbers.setdefault(fault.name, len(numbers) + 1)
            common += [_where_active(edit, number) for edit in fault.edits]
    planted = []
    for fault, edited in zip(faults, alone, strict=True):
        if fault.name in numbers:
            edited = replace(edited, edits=tuple(common), active=str(numbers[fault.name]))
        planted.append(Planted(fault, edited, _comparisons(fault, edited.runs)))
    return planted


FAULTS = _planted(listed(Path(__file__).with_suffix(".toml")))
