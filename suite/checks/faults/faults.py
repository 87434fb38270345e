"""Faults of correct implementations, which the comparison must reject.

Those in C++ share one copy of the package, which is built once; an environment variable selects the active one.
"""

from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import torch

from impls import names
from impls.registry import find
from suite.cases.verification import DROPOUT, RAGGED, VERIFY
from suite.checks.equality.catalogue import GROUPS, paired
from suite.checks.equality.comparison import Comparison, against_naive, against_wide
from suite.checks.faults.planting import VARIABLE, Edit, Edited, Fault, edits, listed


class Planted(NamedTuple):
    """A fault, the edits that plant it, and the comparisons of which one must show it."""

    fault: Fault
    edited: Edited
    comparisons: tuple[Comparison, ...]


#: The simplest first.
_VERIFIED = tuple(sorted((case for case in VERIFY if case.T > 2), key=attrgetter("layer_norm", "L", "state")))
#: By kind of fault, the cases that may show it in a plain call.
_CASES = {
    "step": _VERIFIED,
    "layer norm": _VERIFIED,
    "states and layers": _VERIFIED,
    "masks": _VERIFIED,
    "inputs damaged": _VERIFIED,
    "uninitialised memory": _VERIFIED,
    "memory of earlier runs": _VERIFIED,
    "precision": _VERIFIED,
    "gradient": _VERIFIED,
    "left behind": _VERIFIED,
    "packed sequences": RAGGED,
    "dropout": DROPOUT,
    "left behind, dropout": DROPOUT,
}
#: By kind of fault, the group of uses that may show it.
_GROUPS = {group.name: group for group in GROUPS}
#: The kind of fault that options in pairs may show.
_PAIRS = "pairs"


def _comparisons(kind: str, runs: str, dtype: torch.dtype) -> tuple[Comparison, ...]:
    """Comparisons that may show a fault in an implementation, which supports their options."""
    if kind == _PAIRS:
        return tuple(comparison for comparison in paired(runs) if comparison.dtype == dtype)
    if kind in _GROUPS:
        # In float64 too where a verification has them in float32: faults in C++ are built for one dtype.
        group = _GROUPS[kind]
        return tuple(against_wide(case, dtype, group) for case in GROUPS[group])
    options = find(runs).options
    return tuple(against_naive(case, dtype) for case in _CASES[kind] if options.issuperset(case.options))


def _runs(path: Path) -> str:
    """Name of the implementation that runs an edited file."""
    part = path.with_suffix("").parts[0]
    if part in names():
        return part
    return "deferred" if part == "gradient" else "row_scaled"


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
    return fault.edits[0].path.suffix == ".h"


def _where_active(edit: Edit, number: int) -> Edit:
    """An edit of an expression that holds if the fault of that number is active."""
    return edit._replace(new=f"(fault({number}) ? {edit.new} : {edit.right})")


def _planted(faults: Sequence[Fault]) -> list[Planted]:
    """The faults, of which those in C++ that apply replace expressions in a common copy."""
    common = list(_ALL_COMPILED)
    numbers: dict[str, int] = {}
    alone = [Edited(fault.name, fault.edits, _runs(fault.edits[0].path)) for fault in faults]
    for fault, edited in zip(faults, alone, strict=True):
        if _in_cpp(fault) and not edited.stale():
            number = numbers.setdefault(fault.name, len(numbers) + 1)
            common += [_where_active(edit, number) for edit in fault.edits]
    planted = []
    for fault, edited in zip(faults, alone, strict=True):
        if fault.name in numbers:
            edited = replace(edited, edits=tuple(common), active=str(numbers[fault.name]))
        planted.append(Planted(fault, edited, _comparisons(fault.kind, edited.runs, fault.dtype)))
    return planted


FAULTS = _planted(listed(Path(__file__).with_suffix(".toml")))
