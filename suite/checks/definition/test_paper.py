"""The module has the paper's parameter counts, except for the two that are listed, and its initial values."""

# Attributes of a torch module are "Tensor or Module" to a type checker.
# mypy: disable-error-code="arg-type, index, operator, union-attr"

import math

import pytest
import torch
from torch import Tensor, nn

from impls import HyperLSTM
from impls.definition import LayerParams, shapes
from suite.checks.definition.paper import MODELS, OURS
from suite.package.documents import CHECKS, evaluated, said, table


@pytest.mark.parametrize("name", MODELS)
def test_parameter_counts_are_the_papers(name: str) -> None:
    """In millions, as the paper prints them, with an output layer."""
    I, H, S, Z, L, layer_norm, outputs, published = MODELS[name]
    model = HyperLSTM(I, H, S, Z, L, layer_norm=layer_norm, device="meta")
    n = sum(p.numel() for p in model.parameters()) + (H + 1) * outputs
    assert round(n / 1e6, 2) == OURS.get(name, published)


def test_the_page_lists_the_counts_that_differ() -> None:
    rows = {model: [float(cell) for cell in cells] for model, *cells in table(CHECKS, "model")}
    expected = dict[str, list[float]]()
    for name, ours in OURS.items():
        I, H, S, Z, _, _, outputs, published = MODELS[name]
        expected[name] = [I, H, S, Z, outputs, published, ours]
    assert rows == expected
    right, every = said(CHECKS, r"has the parameters of (\d) of the (\d) HyperLSTMs")
    assert (int(every), int(right)) == (len(MODELS), len(MODELS) - len(OURS))


def count(I: int, H: int, S: int, Z: int, *, layer_norm: bool) -> int:
    return sum(map(math.prod, shapes(I, H, S, Z, layer_norm=layer_norm).values()))


def test_the_page_says_what_embeddings_and_norms_add() -> None:
    """And that this is more, or less, than what separates the paper's rows."""
    smaller, larger = "char-PTB Layer Norm HyperLSTM", "char-PTB Layer Norm HyperLSTM, large embedding"
    few, many, more = said(CHECKS, r"going from Z (\d+) to Z (\d+) adds (.*?) parameters, more than separate")
    I, H, S, *_ = MODELS[larger]
    added = evaluated(more, {"H": H, "S": S})
    assert count(I, H, S, int(many), layer_norm=True) - count(I, H, S, int(few), layer_norm=True) == added
    assert added > 1e6 * (MODELS[larger][-1] - MODELS[smaller][-1])
    plain, normed = "enwik8 HyperLSTM", "enwik8 Layer Norm HyperLSTM"
    (more,) = said(CHECKS, r"layer norm adds (.*?) parameters, less than a third of what separates")
    I, H, S, Z, *_ = MODELS[normed]
    added = evaluated(more, {"H": H, "S": S})
    assert count(I, H, S, Z, layer_norm=True) - count(I, H, S, Z, layer_norm=False) == added
    assert added < 1e6 * (MODELS[normed][-1] - MODELS[plain][-1]) / 3


def assert_orthogonal(gate: Tensor) -> None:
    short = gate if gate.shape[0] <= gate.shape[1] else gate.T
    torch.testing.assert_close(short @ short.T, torch.eye(len(short), dtype=gate.dtype))


def assert_normal(values: Tensor, std: float) -> None:
    """Assert mean, deviation and fourth moment of a normal distribution, each within 5 standard errors."""
    n = values.numel()
    assert abs(values.mean().item()) < 5 * std / math.sqrt(n)
    assert abs(values.std().item() / std - 1) < 5 / math.sqrt(2 * n)
    assert abs((values / std).pow(4).mean().item() - 3) < 5 * math.sqrt(96 / n)


@pytest.mark.parametrize("reset", [False, True], ids=["new", "reset"])
@pytest.mark.parametrize("layer_norm", [False, True], ids=["plain", "norm"])
def test_initial_values_are_the_papers(layer_norm: bool, reset: bool) -> None:
    """A.2.3, of every parameter of every layer."""
    torch.manual_seed(0)
    Z = 6  # not the number of gates
    model = HyperLSTM(6, 24, 16, Z, 3, layer_norm=layer_norm, dtype=torch.float64)
    if reset:
        for value in model.parameters():
            nn.init.constant_(value, math.nan)
        model.reset_parameters()
    orthogonal = ("weight_x", "weight_h", "hyper_weight_x", "hyper_weight_h", "hyper_weight_s")
    constant = {
        "bias": 0.0, "hyper_bias": 0.0, "z_bias": 1.0,
        "norm_weight": 1.0, "norm_bias": 0.0, "norm_c_weight": 1.0, "norm_c_bias": 0.0,
        "hyper_norm_weight": 1.0, "hyper_norm_bias": 0.0, "hyper_norm_c_weight": 1.0, "hyper_norm_c_bias": 0.0,
    }  # fmt: skip
    assert {*orthogonal, *constant, "z_weight", "d_weight"} == set(LayerParams._fields)
    for layer in model.layers:
        p = {name: value.detach() for name, value in layer.named_parameters()}
        for name in orthogonal:
            for gate in p[name]:
                assert_orthogonal(gate)
            assert not any(torch.equal(p[name][0], gate) for gate in p[name][1:]), name
        for name in p.keys() & constant.keys():
            assert bool((p[name] == constant[name]).all()), name
        assert bool((p["z_weight"][:2] == 0).all())
        assert_normal(p["z_weight"][2], 0.01)
        assert bool((p["d_weight"][:2] == 0.1 / Z).all())
        assert bool((p["d_weight"][2] == 0).all())
    second, third = (dict(layer.named_parameters()) for layer in model.layers[1:])
    assert not torch.equal(second["weight_h"], third["weight_h"])
