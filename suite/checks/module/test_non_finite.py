"""A number that is not finite, or whose square is not, stays in its row, as in the naive form."""

from functools import cache

import pytest
import torch
from torch import Tensor

from impls import names
from impls.registry import ORACLE
from suite.checks.module.test_bad_input import CASE
from suite.conftest import skip_reason
from suite.shared.compare import STATE_NAMES, draw, implementation


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1e30], ids=["nan", "inf", "minus-inf", "1e30"])
@pytest.mark.parametrize("place", ["x", *STATE_NAMES])
@pytest.mark.parametrize("name", names())
def test_non_finite_numbers_stay_in_their_row(name: str, place: str, value: float, device: torch.device) -> None:
    reason = skip_reason(name, device)
    if reason:
        pytest.skip(reason)
    found, oracle = (_with_value(impl, place, value, device) for impl in (name, ORACLE))
    clean = _with_value(name, place, 0.0, device)
    for key, tensor in found.items():
        rows = torch.arange(CASE.B, device=device) != 1
        assert torch.equal(tensor[..., rows, :], clean[key][..., rows, :]), key
        assert torch.equal(tensor.isfinite(), oracle[key].isfinite()), key
    if value != value:
        assert not bool(found["out"][:, 1].isfinite().any()), "row 1 forgot a NaN"


@cache
def _with_value(name: str, place: str, value: float, device: torch.device) -> dict[str, Tensor]:
    """Outputs, states and the gradients by x and state, with one number of row 1 replaced."""
    params, x, state, cotangents = draw(CASE, 0, torch.float32, device)
    assert state is not None
    model = implementation(name)(CASE, torch.float32, device)
    model.load_state_dict(params)
    leaves = {"x": x, **dict(zip(STATE_NAMES, state, strict=True))}
    leaves[place][0, 1, 2] = value
    for leaf in leaves.values():
        leaf.requires_grad_()
    x, *start = leaves.values()
    out, last = model(x, start)
    grads = torch.autograd.grad((out, *last), [x, *start], cotangents)
    return {"out": out, **dict(zip(STATE_NAMES, last, strict=True))} | {
        f"grad {key}": g for key, g in zip(leaves, grads, strict=True)
    }
