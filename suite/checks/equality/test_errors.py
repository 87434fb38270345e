"""The error of every implementation stays within the rule as sequences grow, and is written down tensor by tensor."""

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch

from impls import names
from impls.registry import dtype_name
from suite.checks.equality import longdouble
from suite.conftest import Keep, skip_reason
from suite.shared.cases import Case
from suite.shared.compare import FLOOR, OUTPUTS, TIMES, TOUCHED, Results, draw, judge, reference, relative_error

#: Lengths of the sequence, and how many draws of each: a long one says much in one.
DRAWS = {1: 8, 10: 4, 100: 1, 1000: 1}
#: The longest with layer norm alone, as it takes as long as all others together.
CASES = tuple(
    Case(T=T, B=2, I=5, H=16, S=8, Z=3, layer_norm=layer_norm, state="stacked")
    for T in DRAWS
    for layer_norm in ((True,) if T == 1000 else (False, True))
)
#: Every dtype sees the same numbers, which all of them can hold but for float16's smallest, so one oracle serves all.
ROUNDED = torch.bfloat16
ORACLE = "naive"


def made(name: str, case: Case, dtype: torch.dtype, device: torch.device) -> Results:
    results = reference(name, case, dtype, device, ROUNDED, DRAWS[case.T])
    assert not [tensor for tensor in results if tensor.startswith(TOUCHED)], "what was given was written to"
    return results


@cache
def exact(case: Case) -> dict[str, longdouble.Array]:
    """Return what the long double, float64's own oracle, makes of a case."""
    drawn = [longdouble.forward(draw(case, seed, ROUNDED, torch.device("cpu"))) for seed in range(DRAWS[case.T])]
    return {tensor: np.stack([results[tensor] for results in drawn]) for tensor in OUTPUTS}


def errors(
    name: str, case: Case, dtype: torch.dtype, device: torch.device
) -> Iterator[tuple[str, float, float, float]]:
    """Yield tensors, their errors, the naive form's, and those allowed; in float64 of what a forward pass makes."""
    results, naive = (made(each, case, dtype, device) for each in (name, ORACLE))
    if dtype == torch.float64:
        for tensor in OUTPUTS:
            error, own = (longdouble.relative_error(r[tensor], exact(case)[tensor]) for r in (results, naive))
            # The naive form itself has the eps alone.
            yield tensor, error, own, TIMES * own * (name != ORACLE) + FLOOR[dtype] * torch.finfo(dtype).eps
        return
    oracle = made(ORACLE, case, torch.float64, device)
    for v in judge(results, oracle, naive, dtype):
        yield v.tensor, v.error, relative_error(naive[v.tensor], oracle[v.tensor]), v.allowed


@pytest.mark.thorough("errors up to 1000 steps")
@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("dtype", FLOOR, ids=dtype_name)
def test_errors_stay_within_the_rule_as_sequences_grow(
    name: str, dtype: torch.dtype, device: torch.device, keep: Keep
) -> None:
    reason = skip_reason(name, device, dtype) or (longdouble.why_unavailable() if dtype == torch.float64 else None)
    if reason:
        for T in DRAWS:
            keep("errors", implementation=name, dtype=dtype_name(dtype), T=T, verdict="not run", reason=reason)
        pytest.skip(reason)
    too_large = []
    for case in CASES:
        for tensor, error, naive, allowed in errors(name, case, dtype, device):
            figures = {"error": error, "naive": naive, "allowed": allowed, "multiple": error / naive}
            keep(
                "errors",
                implementation=name,
                dtype=dtype_name(dtype),
                T=case.T,
                layer_norm="on" if case.layer_norm else "off",
                tensor=tensor,
                verdict="pass" if error <= allowed else "FAIL",
                **{column: float(f"{value:.3g}") for column, value in figures.items()},
            )
            too_large += [] if error <= allowed else [f"{case.id}, {tensor}, {figures}"]
    assert not too_large
