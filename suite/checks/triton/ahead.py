"""Passes of `batched_cuda` in the checks of a GPU, whose kernels are compiled before the first test, on all cores."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from impls.definition import dtype_name
from impls.registry import find
from suite.cases.case import Case, Start
from suite.cases.verification import DROPOUT, RAGGED
from suite.cases.workloads import WORKLOADS
from suite.checks.equality import activations, values
from suite.checks.equality.catalogue import DROPPED, grouped, paired, small, wide
from suite.checks.module import capabilities, models, runs
from suite.checks.triton import TRITON
from suite.checks.triton.compiled import Way as Way
from suite.checks.triton.interpreted import CASES

PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
#: As large as users run it, where a product is another instruction, tiles have extra columns, and members share rows.
FULL = [Case(T=3, B=128, I=50, H=1000, S=128, Z=4, layer_norm=layer_norm) for layer_norm in (False, True)]
#: The same, the sizes with the largest Z, and those at which TF32 gains most.
FULL_PAIRS = [(case, name) for case in (*FULL, replace(WORKLOADS["enwik8"].case, T=2)) for name in PRECISIONS]
FULL_PAIRS += [(replace(WORKLOADS["medium"].case, T=3), "tf32")]
#: The same sizes, packed, and with a mask of g.
FULL_PACKED = replace(FULL[1], lengths=(3, *[2] * 63, *[1] * 64), recurrent_dropout=0.1)
#: Steps of two concurrent calls, and the batch size of the second.
STEPS = 50
ROWS = 96
#: Sizes that are compared first: without layer norm, with it, packed, and with a mask of g.
FIRST = (*CASES[:2], RAGGED[0], DROPOUT[0])
LONG_NARROW_WIDE = (
    Case(T=10_000, B=2, I=4, H=32, S=16, Z=4),
    Case(T=3, B=1, I=50, H=256, S=64, Z=4, layer_norm=True),
    Case(T=3, B=4096, I=4, H=40, S=16, Z=3),
)
#: What a GPU is asked for bits of.
MODELS = [
    Case(T=12, B=24, I=10, H=96, S=32, Z=4, L=2, layer_norm=layer_norm, state=Start.STACKED)
    for layer_norm in (False, True)
]
#: Sizes at which the module is called in many ways, and their arithmetics.
CALLED = [
    (runs.CASE, ("float32",)),
    (models.CASE, ("float32", "bfloat16", "float16")),
    (models.DROPPED, ("float32",)),
    (DROPPED, ("float32",)),
    (capabilities.WIDE, ("float32",)),
]
#: Sizes at which sums in half precision are checked.
SUMMED = (values.CASE, values.WIDER, replace(values.WIDER, layer_norm=True))


def of_cuda() -> list[Way]:
    """Passes of the tests that `nox -s cuda` runs."""
    ways = [Way(case, arithmetic) for case, arithmetic in FULL_PAIRS]
    ways += [Way(FULL_PACKED, arithmetic) for arithmetic in PRECISIONS]
    ways += [Way(case, "bfloat16") for case in MODELS]
    ways += [Way(replace(case, B=ROWS), "bfloat16") for case in FULL]
    ways.append(Way(replace(FULL[0], training=False), "bfloat16"))
    return [*ways, *_either(FIRST)]


def of_checks(thorough: bool) -> Iterator[Way]:
    """Passes of a verification: of all comparisons, of uses of the module, and of the tests that only a GPU runs."""
    yield from of_cuda()
    yield from _either(CASES)
    for case in LONG_NARROW_WIDE:
        yield Way(case, "float32")
    for comparison in (*small(TRITON), *wide(TRITON)):
        if comparison.default or thorough:
            yield Way(trained(comparison.case), dtype_name(comparison.dtype))
    for comparison in (*grouped(TRITON), *paired(TRITON)):
        arithmetic = dtype_name(comparison.dtype)
        for residuals in {use.residuals for use in comparison.group.uses}:
            yield Way(trained(comparison.case), arithmetic, residuals)
        evaluated = replace(comparison.case, training=False)
        yield Way(trained(evaluated), arithmetic)
        yield Way(evaluated, arithmetic)
    for case, arithmetics in CALLED:
        for arithmetic in arithmetics:
            yield from any_way(case, arithmetic)
    for dtype in find(TRITON).dtypes:
        yield Way(activations.CASE, dtype_name(dtype))
    for case in SUMMED:
        yield Way(replace(case, T=3), "bfloat16")


def trained(case: Case) -> Case:
    """A case whose pass has a gradient; in evaluation mode it has no masks."""
    return case if case.training else replace(case, training=True, dropout=0.0, recurrent_dropout=0.0)


def any_way(case: Case, arithmetic: str) -> Iterator[Way]:
    """A case with and without a mask, packed or not: with residuals, without them, and without a gradient."""
    for mask in (0.0, 0.5):
        for lengths in ((), (case.T,) * case.B):
            variant = replace(case, recurrent_dropout=mask, lengths=lengths)
            yield Way(variant, arithmetic)
            yield Way(variant, arithmetic, residuals=False)
            yield Way(replace(variant, training=False), arithmetic)


def _either(cases: Sequence[Case]) -> list[Way]:
    ways = []
    for case in cases:
        for arithmetic in PRECISIONS:
            for alone in (True, False):
                ways.append(Way(case, arithmetic, alone=alone))
    return ways
