"""Sigmoid and tanh as implementations compute them, and their derivatives, over all arguments that matter."""

import pytest
import torch

from impls import names
from impls.definition import dtype_name
from suite.checks.equality.activations import GATES, activations
from suite.checks.implementations import skip_unless_checked
from suite.comparison.tolerance import FLOOR, judge
from suite.shared.marks import impl_params


@pytest.mark.parametrize("name", impl_params(names()))
@pytest.mark.parametrize("dtype", FLOOR, ids=dtype_name)
@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.replace(" ", "-"))
def test_activations_and_derivatives_at_any_argument(
    name: str, dtype: torch.dtype, gate: str, device: torch.device
) -> None:
    skip_unless_checked(name, device, dtype)
    oracle, own = (activations("naive", GATES[gate], each, device, dtype) for each in (torch.float64, dtype))
    worst = judge(activations(name, GATES[gate], dtype, device, dtype), oracle, own, dtype)[0]
    assert worst.ratio <= 1, str(worst)
