"""What the tolerance rule cannot show, since it allows twice the error of the naive form.

In bfloat16 that rounds cells and sums at every step, and the layer norm is one that it shares with others.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from impls.definition import norm
from impls.gradient.chunks import limited
from impls.registry import IMPLS
from suite.checks.equality.comparisons import BF16, F32, F64, USED
from suite.checks.equality.conftest import everything, numbers
from suite.checks.equality.uses import changed
from suite.shared.cases import AGAINST, Case
from suite.shared.compare import Results, reference, relative_error
from suite.shared.oracle import Draw

CASE = Case(T=340, B=1, I=5, H=8, S=8, Z=1, state="stacked")
#: Added to 1 in bfloat16 it is lost.
SMALL = 2.0**-9

NAMES = [impl.name for impl in IMPLS if impl.hand_written and BF16 in impl.dtypes]


def both(name: str, case: Case, sample: Draw, limit: int) -> tuple[Results, Results]:
    """Results in bfloat16, and those of the oracle on the same numbers; limit: bytes of a chunk."""
    with limited(sample.x.device.type, forward=limit, backward=limit):
        results = everything(name, case, sample)
    return results, everything(AGAINST, case, tree_map_only(Tensor, Tensor.double, sample))


@pytest.mark.parametrize("name", NAMES)
def test_cells_and_their_gradients_gather_small_numbers(name: str, device: torch.device) -> None:
    """The gates are open, the cells start at 1, as do the gradients of the last cells, and each step adds a little."""
    sample = numbers(name, BF16, CASE, device)
    params = {name: torch.zeros_like(p) for name, p in sample.params.items()}
    for bias in ("bias", "hyper_bias"):
        params[f"layers.0.{bias}"] += torch.tensor([20, 20, SMALL, 20], device=device)[:, None]
    params["layers.0.z_weight"][2, 2], params["layers.0.d_weight"][2, 2] = 1, SMALL / CASE.H
    h, c, h_hat, c_hat = sample.state or ()
    ends = tuple(map(torch.zeros_like, (h, c))), tuple(map(torch.ones_like, (h_hat, c_hat)))
    state = tuple(value for pair in zip(*ends, strict=True) for value in pair)
    out = torch.full_like(sample.cotangents[0], SMALL)
    results, expected = both(name, CASE, Draw(params, sample.x, state, (out, *state)), 2000)  # a few steps
    for part in ("c", "c_hat", "grad state c", "grad state c_hat"):
        assert relative_error(results[part], expected[part]) < 0.02, part
        assert relative_error(torch.ones_like(expected[part]), expected[part]) > 0.05, part  # what is lost


@pytest.mark.parametrize("layer_norm", [False, True], ids=["", "norm"])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_parameters_gather_equal_numbers(name: str, layer_norm: bool, device: torch.device) -> None:
    """Each step, which is a chunk, adds as much: in bfloat16 a sum stays where it is after 256 of them."""
    case = replace(CASE, H=24, S=16, Z=3, layer_norm=layer_norm)
    sample = numbers(name, BF16, case, device)
    x, *cotangents = (value[:1].expand_as(value) for value in (sample.x, *sample.cotangents))
    results, expected = both(name, case, sample._replace(x=x, cotangents=tuple(cotangents)), 1)
    for part, value in expected.items():
        if part.startswith("grad layers"):
            assert relative_error(results[part], value) < 0.05, part


@pytest.mark.parametrize("name", NAMES)
def test_cells_far_from_0_keep_their_digits_before_a_norm(name: str, device: torch.device) -> None:
    """Near 100, numbers of bfloat16 are half a deviation of the cells apart."""
    case = replace(CASE, T=5, H=24, S=16, Z=3, layer_norm=True)

    def far(name: str, value: Tensor) -> Tensor:
        if name.endswith("norm_bias"):
            return value + value.new_tensor([0, 10, 0, 0])[:, None]  # so that the forget gate keeps them
        return value + 100 if name in ("state c", "state c_hat") else value

    results, expected = both(name, case, changed(numbers(name, BF16, case, device), far), 1)
    assert relative_error(results["out"], expected["out"]) < 0.05


@pytest.mark.parametrize("dtype", [BF16, torch.float16], ids=str)
def test_moments_of_a_norm_are_not_in_half_precision(dtype: torch.dtype, device: torch.device) -> None:
    """Of numbers whose mean needs more digits, and of some whose variance overflows in float16."""
    numbers = torch.randn(64, generator=torch.Generator().manual_seed(0))
    y = torch.stack([100 + numbers, 1000 * numbers]).to(device, dtype)
    one, zero = torch.ones(64, device=device), torch.zeros(64, device=device)
    normalised, exact = (norm(one.to(q.dtype), zero.to(q.dtype))(q) for q in (y, y.double()))
    assert relative_error(normalised, exact) < 4 * torch.finfo(dtype).eps


def test_a_norm_of_a_mean_far_from_0_loses_few_digits(device: torch.device) -> None:
    """In row_scaled, which the others are compared with; a variance from the mean square loses twice as many."""
    (use,), (case,) = USED["means far from 0"]
    own, oracle = (reference(AGAINST, case, dtype, device, F32, 1, use.numbers) for dtype in (F32, F64))
    for part, value in oracle.items():
        assert relative_error(own[part], value) < 1e-4, part
