"""Sigmoid and tanh as implementations compute them, and their derivatives, over all arguments that matter."""

from operator import attrgetter

import pytest
import torch

from impls import names
from impls.definition import dtype_name
from impls.registry import ORACLE
from suite.checks.equality.activations import Gate, activations
from suite.checks.implementations import skip_unless_checked
from suite.comparison.tolerance import FLOOR, judge
from suite.shared.marks import impl_params


@pytest.mark.parametrize("name", impl_params(names()))
@pytest.mark.parametrize("dtype", FLOOR, ids=dtype_name)
@pytest.mark.parametrize("gate", Gate, ids=attrgetter("id"))
def test_activations_and_derivatives_at_any_argument(
    name: str, dtype: torch.dtype, gate: Gate, device: torch.device
) -> None:
    skip_unless_checked(name, device, dtype)
    exact = activations(ORACLE, gate, torch.float64, device, dtype)
    naive = activations(ORACLE, gate, dtype, device, dtype)
    worst = judge(activations(name, gate, dtype, device, dtype), exact, naive, dtype)[0]
    assert not worst.wrong, str(worst)
