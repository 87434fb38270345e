"""The error of every implementation stays within the rule as sequences grow, and is written down."""

import pytest
import torch

from impls import names
from impls.registry import dtype_name
from suite.checks.equality import longdouble
from suite.checks.equality.errors import CASES, DRAWS, errors
from suite.conftest import Keep, skip_reason
from suite.shared.compare import FLOOR


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
        for found in errors(name, case, dtype, device):
            right = found.error <= found.allowed
            keep(
                "errors",
                implementation=name,
                dtype=dtype_name(dtype),
                T=case.T,
                layer_norm="on" if case.layer_norm else "off",
                tensor=found.tensor,
                verdict="pass" if right else "FAIL",
                **{
                    column: float(f"{value:.3g}")
                    for column, value in vars(found).items() | {("multiple", found.multiple)}
                    if column != "tensor"
                },
            )
            too_large += [] if right else [f"{case.id}, {found}"]
    assert not too_large
