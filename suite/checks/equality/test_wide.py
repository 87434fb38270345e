"""At the sizes that people run, every implementation equals row_scaled in float64, which equals the equation there."""

import pytest
import torch

from impls import names
from impls.definition import dtype_name
from suite.checks.equality.comparisons import LITERAL, Comparison, wide
from suite.checks.equality.conftest import Check
from suite.shared.cases import Case
from suite.shared.compare import draw, implementation
from suite.shared.oracle import without_module
from suite.shared.wide import AGAINST, DRAWN, DRAWN_THOROUGH, SEED

thorough = pytest.mark.thorough("large workloads in half precision, and what compiles for each size")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Draw cases: more in a thorough run, half of them with a seed of that run."""
    if "comparison" not in metafunc.fixturenames:
        return
    config = metafunc.config
    half = DRAWN_THOROUGH // 2
    draws = ((half, SEED), (half, config.getoption("--seed"))) if config.getoption("--thorough") else ((DRAWN, SEED),)
    every = {(name, each) for name in names() for each in wide(name, draws)}
    # Implementations one after the other on each case, so that its references are in memory.
    in_order = sorted(every, key=lambda pair: (pair[1].id, str(pair[1].dtype), pair[0]))
    metafunc.parametrize(
        ("name", "comparison"),
        [
            pytest.param(
                name, each, marks=[thorough] * (not each.default), id=f"{name}-{each.id}-{dtype_name(each.dtype)}"
            )
            for name, each in in_order
        ],
    )


def test_equals_the_oracle(name: str, comparison: Comparison, check: Check) -> None:
    check(name, comparison)


def test_the_oracle_has_the_numerical_derivative(device: torch.device) -> None:
    """Of row_scaled in float64, along random directions, at a wide size; `naive` is compared with it there."""
    check_derivative(LITERAL, device)


def check_derivative(case: Case, device: torch.device) -> None:
    params, x, state, _ = draw(case, 0, torch.float64, device)
    assert state is not None
    model = implementation(AGAINST)(case, torch.float64, device)

    def outputs(x: torch.Tensor, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        model_of = torch.func.functional_call  # parameters as arguments
        named = dict(zip(params, values[4:], strict=True))
        out, last = model_of(Plain(model, case), {f"model.{n}": value for n, value in named.items()}, (x, values[:4]))
        return out, *last

    leaves = [value.clone().requires_grad_() for value in (x, *state, *params.values())]
    assert torch.autograd.gradcheck(outputs, leaves, fast_mode=True)


class Plain(torch.nn.Module):
    """The oracle's call as a module."""

    def __init__(self, model: torch.nn.Module, case: Case) -> None:
        super().__init__()
        self.model, self.case = model, case

    def forward(
        self, x: torch.Tensor, state: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        return without_module(self.model, self.case, x, state)
