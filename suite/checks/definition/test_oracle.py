"""The oracle, with which all implementations are compared, against numerical derivatives and torch.nn.LSTM."""

# Attributes of a torch module are "Tensor or Module" to a type checker.
# mypy: disable-error-code="arg-type, index, operator, union-attr"

import pytest
import torch
from torch import Tensor, nn

from impls import HyperLSTM
from impls.registry import ORACLE
from suite.cases.case import Case
from suite.comparison.draws import model_and_draw
from suite.comparison.runs import arguments, outputs


@pytest.mark.parametrize("layer_norm", [False, True], ids=["plain", "norm"])
def test_gradient_is_the_numerical_one(layer_norm: bool, device: torch.device) -> None:
    """Of x, states and parameters, which are changed in place: products with random vectors, which no error passes."""
    case = Case(T=3, B=2, I=4, H=5, S=6, Z=2, layer_norm=layer_norm, state="stacked")
    model, sample = model_and_draw(ORACLE, case, torch.float64, device)
    leaves = arguments(model, sample)

    def results(*_: Tensor) -> tuple[Tensor, ...]:
        return tuple(outputs(model, case, leaves).values())

    assert torch.autograd.gradcheck(results, tuple(leaves.values()), fast_mode=True)


@pytest.mark.parametrize("L", [1, 3])
def test_with_scales_of_one_it_is_an_lstm(L: int, device: torch.device) -> None:
    """With z = 1 and the rows of d_weight summing to 1, every scale is 1 and the main LSTM is an LSTM."""
    T, B, I, H, S, Z = 7, 3, 5, 6, 4, 2
    torch.manual_seed(0)
    lstm = nn.LSTM(I, H, L, dtype=torch.float64, device=device)
    model = HyperLSTM(I, H, S, Z, L, impl=ORACLE, dtype=torch.float64, device=device)
    with torch.no_grad():
        for l, layer in enumerate(model.layers):
            w_x, w_h, b_x, b_h = lstm.all_weights[l]
            for own, value in ((layer.weight_x, w_x), (layer.weight_h, w_h), (layer.bias, b_x + b_h)):
                own.copy_(value.view_as(own))
            layer.z_weight.zero_()
            layer.z_bias.fill_(1.0)
            layer.d_weight.copy_(torch.tensor([1 / Z, 1 / Z, 0.0]).view(3, 1, 1, 1).expand_as(layer.d_weight))
    shapes = ((T, B, I), (L, B, H), (L, B, H))  # of x, h and c
    numbers = [torch.randn(shape, dtype=torch.float64, device=device) for shape in shapes]
    hyper = [torch.zeros(L, B, S, dtype=torch.float64, device=device)] * 2

    def results(run: nn.Module, *more: Tensor) -> list[Tensor]:
        x, *state = leaves = [value.clone().requires_grad_() for value in numbers]
        out, (h, c, *_) = run(x, (*state, *more))
        torch.stack([out.sin().sum(), h.cos().sum(), c.exp().sum()]).sum().backward()
        return [out, h, c, *(leaf.grad for leaf in leaves if leaf.grad is not None)]

    torch.testing.assert_close(results(model, *hyper), results(lstm))
    for layer, (w_x, w_h, b_x, _) in zip(model.layers, lstm.all_weights, strict=True):
        for own, other in ((layer.weight_x, w_x), (layer.weight_h, w_h), (layer.bias, b_x)):
            torch.testing.assert_close(own.grad, other.grad.view_as(own))
