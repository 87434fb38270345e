"""The oracle and every implementation against numerical derivatives and torch.nn.LSTM."""

# Attributes of a torch module are "Tensor or Module" to a type checker.
# mypy: disable-error-code="arg-type, index, operator, union-attr"

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from impls import HyperLSTM, names
from impls.definition import LayerParams
from impls.registry import IMPLS, ORACLE
from suite.checks.equality.comparisons import LITERAL
from suite.conftest import skip_unless_checked
from suite.shared.cases import AGAINST, Case
from suite.shared.compare import draw, implementation, judge
from suite.shared.oracle import Call, arguments, outputs, packed, without_module

CHECKED = Case(T=2, B=1, I=2, H=3, S=3, Z=2, state="stacked")
#: By layer norm, which takes three units: a second derivative entry by entry takes time with the square of the
#: parameters.
CHECKED_TWICE = {False: replace(CHECKED, I=1, Z=1, H=2, S=2), True: replace(CHECKED, I=1, Z=1)}
TWICE = [impl.name for impl in IMPLS if not impl.hand_written]


class Function:
    """Outputs in float64 as a function of `inputs`, which are changed in place: x, states and parameters."""

    def __init__(self, name: str, case: Case, device: torch.device, call: Call = packed) -> None:
        sample = draw(case, 0, torch.float64, device)
        self.model, self.case, self.call = implementation(name)(case, torch.float64, device), case, call
        self.model.load_state_dict(sample.params)
        self.leaves = arguments(self.model, sample)
        self.inputs = tuple(self.leaves.values())

    def __call__(self, *_: Tensor) -> tuple[Tensor, ...]:
        return tuple(outputs(self.model, self.case, self.leaves, self.call).values())


norms = pytest.mark.parametrize("layer_norm", [False, True], ids=["plain", "norm"])


@norms
@pytest.mark.parametrize("name", names())
def test_gradient_is_the_numerical_one(name: str, layer_norm: bool, device: torch.device) -> None:
    skip_unless_checked(name, device, torch.float64)
    function = Function(name, replace(CHECKED, layer_norm=layer_norm), device)
    assert torch.autograd.gradcheck(function, function.inputs)


def test_the_wide_oracle_has_the_numerical_derivative(device: torch.device) -> None:
    """Of row_scaled, along random directions, at a wide size; `naive` is compared with it there."""
    function = Function(AGAINST, LITERAL, device, without_module)
    assert torch.autograd.gradcheck(function, function.inputs, fast_mode=True)


@pytest.mark.thorough("second derivatives, numerically")
@norms
@pytest.mark.parametrize("name", TWICE)
def test_second_derivative_is_the_numerical_one(name: str, layer_norm: bool, device: torch.device) -> None:
    skip_unless_checked(name, device, torch.float64)
    entry_by_entry = name == ORACLE  # the others, which must equal it anyway, along random directions
    case = CHECKED_TWICE[layer_norm] if entry_by_entry else CHECKED
    function = Function(name, replace(case, layer_norm=layer_norm), device)
    assert torch.autograd.gradgradcheck(function, function.inputs, fast_mode=not entry_by_entry)


@pytest.mark.parametrize("name", [name for name in names() if name not in TWICE])
def test_missing_second_derivative_is_said(name: str, device: torch.device) -> None:
    skip_unless_checked(name, device, torch.float64)
    function = Function(name, CHECKED, device)
    (d_x,) = torch.autograd.grad(function()[0].sum(), function.inputs[0], create_graph=True)
    with pytest.raises(NotImplementedError, match=f"{name} has no second derivative; these have: {', '.join(TWICE)}"):
        d_x.sum().backward()


@pytest.mark.parametrize("L", [1, 3])
@pytest.mark.parametrize("name", names())
def test_with_scales_of_one_it_is_an_lstm(name: str, L: int, device: torch.device) -> None:
    """With z = 1 and the rows of d_weight summing to 1, every scale is 1 and the main LSTM is an LSTM."""
    skip_unless_checked(name, device, torch.float64)
    T, B, I, H, S, Z = 7, 3, 5, 6, 4, 2
    torch.manual_seed(0)
    lstm = nn.LSTM(I, H, L, dtype=torch.float64, device=device)
    model = HyperLSTM(I, H, S, Z, L, impl=name, dtype=torch.float64, device=device)
    weights = dict(lstm.named_parameters())
    assert len(weights) == 4 * L
    with torch.no_grad():
        for l, layer in enumerate(model.layers):
            layer.weight_x.copy_(weights[f"weight_ih_l{l}"].view_as(layer.weight_x))
            layer.weight_h.copy_(weights[f"weight_hh_l{l}"].view_as(layer.weight_h))
            layer.bias.copy_((weights[f"bias_ih_l{l}"] + weights[f"bias_hh_l{l}"]).view_as(layer.bias))
            layer.z_weight.zero_()
            layer.z_bias.fill_(1.0)
            layer.d_weight.copy_(torch.tensor([1 / Z, 1 / Z, 0.0]).view(3, 1, 1, 1).expand_as(layer.d_weight))
    x, h, c = (torch.randn(n, B, F, dtype=torch.float64, device=device) for n, F in ((T, I), (L, H), (L, H)))
    cotangents = [torch.randn(n, B, H, dtype=torch.float64, device=device) for n in (T, L, L)]

    def results(run: nn.Module, *more: Tensor) -> dict[str, Tensor]:
        leaves = [value.clone().requires_grad_() for value in (x, h, c)]
        out, (last_h, last_c, *_) = run(leaves[0], (*leaves[1:], *more))
        torch.autograd.backward((out, last_h, last_c), cotangents)
        grads = {
            f"grad {n}": leaf.grad for n, leaf in zip(("x", "h", "c"), leaves, strict=True) if leaf.grad is not None
        }
        return {"out": out.detach(), "h": last_h.detach(), "c": last_c.detach()} | grads

    theirs = results(lstm)
    ours = results(model, *(torch.zeros(L, B, S, dtype=torch.float64, device=device) for _ in range(2)))
    for l, layer in enumerate(model.layers):
        for mine, his in (("weight_x", "weight_ih"), ("weight_h", "weight_hh"), ("bias", "bias_ih")):
            ours[f"grad {mine} {l}"] = getattr(layer, mine).grad
            theirs[f"grad {mine} {l}"] = weights[f"{his}_l{l}"].grad.view_as(getattr(layer, mine))
    worst = judge(ours, theirs, theirs, torch.float64)[0]
    assert worst.ratio <= 1, worst


def test_parameters_are_those_of_the_definition() -> None:
    I, H, S, Z = 2, 3, 5, 7
    expected = {
        "weight_x": (4, H, I), "weight_h": (4, H, H), "bias": (4, H),
        "hyper_weight_x": (4, S, I), "hyper_weight_h": (4, S, H), "hyper_weight_s": (4, S, S), "hyper_bias": (4, S),
        "z_weight": (3, 4, Z, S), "z_bias": (2, 4, Z), "d_weight": (3, 4, H, Z),
    }  # fmt: skip
    norms = {
        "norm_weight": (4, H), "norm_bias": (4, H), "norm_c_weight": (H,), "norm_c_bias": (H,),
        "hyper_norm_weight": (4, S), "hyper_norm_bias": (4, S), "hyper_norm_c_weight": (S,), "hyper_norm_c_bias": (S,),
    }  # fmt: skip
    for layer_norm, shapes in ((False, expected), (True, expected | norms)):
        state = HyperLSTM(I, H, S, Z, 2, layer_norm=layer_norm).state_dict()
        assert {name: tuple(value.shape) for name, value in state.items() if name.startswith("layers.0.")} == {
            f"layers.0.{name}": shape for name, shape in shapes.items()
        }
        assert state["layers.1.weight_x"].shape == (4, H, H)
        assert state["layers.1.hyper_weight_x"].shape == (4, S, H)
    assert list(expected | norms) == list(LayerParams._fields)
