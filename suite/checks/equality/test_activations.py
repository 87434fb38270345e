"""Sigmoid and tanh as implementations compute them, and their derivatives, over all arguments that matter."""

import pytest
import torch

from impls import names
from impls.definition import dtype_name
from impls.registry import ORACLE
from suite.checks.equality.activations import activations
from suite.checks.implementations import skip_unless_checked
from suite.comparison.tensors import Gate
from suite.comparison.tolerance import DTYPES, judge
from suite.shared.marks import impl_params


def id_of(gate: Gate) -> str:
    function = "tanh" if gate is Gate.G else "sigmoid"
    return f"{function}-of-{gate.name.lower()}"


@pytest.mark.parametrize("name", impl_params(names()))
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("gate", Gate, ids=id_of)
def test_activations_and_derivatives_at_any_argument(
    name: str, dtype: torch.dtype, gate: Gate, device: torch.device
) -> None:
    skip_unless_checked(name, device, dtype)
    exact = activations(ORACLE, gate, torch.float64, device, dtype)
    naive = activations(ORACLE, gate, dtype, device, dtype)
    worst = judge(name, activations(name, gate, dtype, device, dtype), exact, naive, dtype)[0]
    assert not worst.wrong, str(worst)
