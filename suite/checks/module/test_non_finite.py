"""A number that is not finite, or whose square is not, stays in its row, as in the naive form."""

import pytest
import torch

from impls import names
from impls.registry import ORACLE
from suite.checks.equality.test_properties import everything, of_row
from suite.checks.module.test_bad_input import CASE
from suite.conftest import skip_reason
from suite.shared.compare import STATE_NAMES, Results, assert_bitwise_equal, draw


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1e30], ids=["nan", "inf", "minus-inf", "1e30"])
@pytest.mark.parametrize("place", ["x", *STATE_NAMES])
@pytest.mark.parametrize("name", names())
def test_non_finite_numbers_stay_in_their_row(name: str, place: str, value: float, device: torch.device) -> None:
    if reason := skip_reason(name, device):
        pytest.skip(reason)

    def results(impl: str, number: float) -> Results:
        numbers = draw(CASE, 0, torch.float32, device)
        dict(zip(["x", *STATE_NAMES], [numbers.x, *(numbers.state or ())], strict=True))[place][0, 1, 2] = number
        return everything(impl, CASE, numbers)

    changed, clean = results(name, value), results(name, 0.0)
    for row in (0, 2):
        assert_bitwise_equal(of_row(changed, row), of_row(clean, row))
    for key, expected in of_row(results(ORACLE, value), 1).items():
        assert torch.equal(of_row(changed, 1)[key].isfinite(), expected.isfinite()), key
    if value != value:
        assert not bool(changed["out"][:, 1].isfinite().any()), "row 1 forgot a NaN"
