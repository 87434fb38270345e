"""Faults of correct implementations, which the comparison must reject.

Those in C++ share one copy of the package, which is compiled once for each of their dtypes, with the flags of a user's
build; a number selects the active one.
"""

import ctypes
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from unittest import mock

import torch

from impls.batched_cpu import sets
from impls.definition import dtype_name
from impls.registry import find
from suite.cases.case import Case
from suite.cases.verification import DROPOUT, RAGGED, SPLIT, VERIFY, WIDE
from suite.checks.equality import catalogue
from suite.checks.equality.comparisons import Comparison, against_naive, against_wide
from suite.checks.faults.planting import Edits, Fault, copied, listed
from suite.checks.recording import Keep
from suite.comparison.draws import Build
from suite.comparison.tensors import OUTPUTS
from suite.comparison.tolerance import Judgement
from suite.results.columns import Row
from suite.results.outcomes import Verdict

CPU = torch.device("cpu")

#: The comparisons of which one must show a fault, from the implementation that runs it and a dtype.
Shown = Callable[[str, torch.dtype], list[Comparison]]


def _in_cases(cases: Sequence[Case]) -> Shown:
    """A plain call of each case whose options the implementation supports."""

    def shown(runs: str, dtype: torch.dtype) -> list[Comparison]:
        options = find(runs).options
        return [against_naive(case, dtype) for case in cases if options.issuperset(case.options)]

    return shown


def _in_uses(group: str) -> Shown:
    """A group of uses, in float64 too where a verification has it in float32."""
    uses, cases = catalogue.GROUPS[group]
    return lambda _, dtype: [against_wide(case, dtype, group, uses) for case in cases]


def _size(comparison: Comparison) -> int:
    case = comparison.case
    return case.tokens * case.H * case.H


def _in_pairs(runs: str, dtype: torch.dtype) -> list[Comparison]:
    """Options in pairs."""
    return sorted((each for each in catalogue.paired(runs) if each.dtype == dtype), key=_size)


def _wide(_: str, dtype: torch.dtype) -> list[Comparison]:
    """Sizes that people run."""
    return sorted((against_wide(case, dtype) for case in (*WIDE, SPLIT)), key=_size)


#: The simplest first.
_SMALL = _in_cases(sorted((case for case in VERIFY if case.T > 2), key=attrgetter("layer_norm", "L", "state")))
#: By kind of fault, which heads its table.
SHOWN: Mapping[str, Shown] = {
    "packed sequences": _in_cases(RAGGED),
    "dropout": _in_cases(DROPOUT),
    "sizes": _wide,
    "rounding": _wide,
    "Triton": _in_cases((VERIFY[0], DROPOUT[1])),
    "pairs": _in_pairs,
    **{group: _in_uses(group) for group in catalogue.GROUPS},
}
#: Those that share a compiled copy one after another, so that as a rule one process has them.
FAULTS = sorted(listed(), key=lambda fault: (fault.compiled, str(fault.dtype)))
#: Those in C++ that apply; each is active by its place here, from 1.
COMPILED = [fault for fault in FAULTS if fault.compiled and not fault.stale()]
#: Compile what this processor runs of a dtype alone; the number of the active fault; and a vector rounded to bfloat16.
_COMMON: Edits = {
    "batched_cpu/sets.py": [("return [(name, dtype) for name in sets]", "return [(instruction_set(dtype), dtype)]")],
    "batched_cpu/vec.h": [
        (
            "#define ALWAYS_INLINE_LAMBDA __attribute__((always_inline))",
            "#define ALWAYS_INLINE_LAMBDA __attribute__((always_inline))\n"
            'extern "C" {\n__attribute__((visibility("default"))) inline volatile int hyperlstm_fault = 0;\n}',
        ),
        (
            "// x y + z: one instruction where there is one.",
            "inline Vec<float> narrow(const Vec<float>& x) {\n"
            "  const auto bits = (Vec<float>::Int)x.native;\n"
            "  return Vec<float>((Vec<float>::Native)((bits + 0x7fff + (bits >> 16 & 1)) & -0x10000));\n"
            "}\ninline Vec<double> narrow(const Vec<double>& x) { return x; }\n",
        ),
    ],
}


def comparisons(fault: Fault) -> list[Comparison]:
    """The comparisons of which one must show a fault, those that take least first."""
    return SHOWN.get(fault.kind, _SMALL)(fault.implementation, fault.dtype)


def caught(fault: Fault) -> tuple[str, Judgement | None, list[Judgement]]:
    """The first comparison that catches a fault by its id, its judgement on the damaged tensor, and all that are wrong.

    If none does, "", no judgement, and all that are wrong in any of them.
    """
    others: list[Judgement] = []
    if fault.threads > 1:
        torch.set_num_threads(fault.threads)
    with planted(fault) as build:
        for comparison in comparisons(fault):
            for judgements in comparison.judgements(build, CPU):
                wrong = [judgement for judgement in judgements if judgement.wrong]
                blamed = [judgement for judgement in wrong if fault.blamed_by(judgement)]
                if blamed:
                    return comparison.id, blamed[0], wrong
                others += wrong
    return "", None, others


def about(fault: Fault) -> Row:
    """Columns of a row that name a fault."""
    dtype = dtype_name(fault.dtype)
    return {"edit": fault.name, "kind": fault.kind, "implementation": fault.implementation, "dtype": dtype}


def assert_rejected(fault: Fault, case: str, worst: Judgement | None, wrong: Sequence[Judgement], keep: Keep) -> None:
    """Keep a row of what `caught` returned; AssertionError unless a tensor that the fault damages was rejected.

    The outputs of a call with a fault in a gradient must pass.
    """
    row = about(fault) | {"case": case}
    if worst is None:
        keep("faults", row | {"verdict": Verdict.SURVIVED, "wrong": 0})
        others = sorted({str(judgement) for judgement in wrong})
        raise AssertionError(f"survived: {fault.blames} in no comparison; wrong: {others or 'nothing'}")
    keep("faults", row | worst.columns | {"verdict": Verdict.REJECTED, "wrong": len(wrong)})
    if fault.blames.startswith("grad "):
        failing = {judgement.tensor for judgement in wrong}
        assert failing.isdisjoint(OUTPUTS), "the output is right, but fails"


def why_not_run(fault: Fault) -> str:
    """Why a fault cannot be planted in this process, "" if it can; `suite/test_faults.py` reports a stale edit."""
    if fault.way and fault.way not in sets.ways():
        return f"This processor does not multiply bfloat16 by {fault.way}."
    return fault.stale() or find(fault.implementation).why_unavailable(CPU, fault.dtype) or ""


@contextmanager
def planted(fault: Fault) -> Iterator[Build]:
    """Builder of HyperLSTMs with a fault."""
    if not fault.compiled:
        with copied(fault.package, {fault.file: fault.edits}, fault.implementation) as build:
            yield build
        return
    way = {sets.WAY_VARIABLE: fault.way} if fault.way else {}
    with mock.patch.dict(os.environ, way), copied(fault.package, _all_compiled(), fault.implementation) as build:
        library = ctypes.CDLL(str(sys.modules[f"{fault.package}.batched_cpu.loading"].library(fault.dtype).path))
        ctypes.c_int.in_dll(library, "hyperlstm_fault").value = COMPILED.index(fault) + 1
        yield build


def _all_compiled() -> Edits:
    """The edits of the copy that has every fault in C++, each an expression that holds while it is active."""
    edits = {file: [*changes] for file, changes in _COMMON.items()}
    for number, fault in enumerate(COMPILED, 1):
        for right, new in fault.edits:
            conditional = f"(hyperlstm_fault == {number} ? {new} : {right})"
            edits.setdefault(fault.file, []).append((right, conditional))
    return edits
