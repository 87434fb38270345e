"""labml's HyperLSTM, an independent code, equals the definition with layer norm on."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from impls import HyperLSTM
from impls.convert import from_labml, to_labml
from impls.definition import dtype_name
from suite.candidates.labml import build_as_ours
from suite.cases.case import Case, Start
from suite.comparison.draws import draw, implementation
from suite.comparison.tensors import Gradient, parameter
from suite.comparison.tolerance import DTYPES, compare, naive_oracle
from suite.package.documents import CHECKS, table

CASE = Case(T=7, B=3, I=4, H=6, S=5, Z=2, layer_norm=True, state=Start.STACKED)
CPU = torch.device("cpu")


Module = Callable[[int, int, int, int, int], nn.Module]


def params(L: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return draw(replace(CASE, L=L), 0, dtype, CPU).params


@pytest.fixture
def labml() -> Module:
    """Labml's module."""
    from labml_nn.hypernetworks import hyper_lstm

    module: Module = hyper_lstm.HyperLSTM
    return module


@pytest.mark.parametrize("state", [Start.NONE, Start.STACKED])
@pytest.mark.parametrize("L", [1, 2, 3])
def test_same_output_states_and_every_gradient(L: int, state: Start) -> None:
    case = replace(CASE, L=L, state=state)
    judgements = compare(build_as_ours, case, torch.float64, CPU, naive_oracle(torch.float64, draws=1))
    assert {Gradient(parameter(name)) for name in params(L)} <= {judgement.subject for judgement in judgements}
    assert not judgements[0].wrong, judgements[0]


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("L", [1, 11])
def test_a_round_trip_keeps_every_bit(L: int, dtype: torch.dtype, labml: Module) -> None:
    """In new memory, from any layout, and both modules load what is made for them."""
    ours = {name: value.mT.contiguous().mT if value.dim() > 1 else value for name, value in params(L, dtype).items()}
    theirs = to_labml(ours)
    again, module = from_labml(theirs), labml(CASE.I, CASE.H, CASE.S, CASE.Z, L)
    model = implementation("naive")(replace(CASE, L=L), dtype, CPU)
    assert model.load_state_dict(again) == module.load_state_dict(theirs) == ([], [])
    for value in theirs.values():
        value.zero_()
    for name, value in params(L, dtype).items():
        assert (again[name].dtype, again[name].is_contiguous()) == (dtype, True)
        assert torch.equal(value, again[name])
        assert torch.equal(value, ours[name])


@pytest.mark.parametrize("convert", [to_labml, from_labml])
def test_a_model_without_layer_norm_is_refused_with_the_reason(convert: Callable[..., object]) -> None:
    model = implementation("naive")(replace(CASE, layer_norm=False), torch.float32, CPU)
    with pytest.raises(
        ValueError, match=r"^state_dict: expected that of a model with layer norm, .*; got one without .*norm"
    ):
        convert(model.state_dict())


def test_what_is_missing_unexpected_or_misshapen_is_named() -> None:
    ours = params(2)
    ours["layers.1.extra"], ours["layers.0.bias"] = torch.ones(1), ours["layers.0.bias"][:, :1]
    del ours["layers.1.bias"]
    with pytest.raises(ValueError, match=r"^state_dict: ") as raised:
        to_labml(ours)
    assert str(raised.value).removeprefix("state_dict: ").split("; ") == [
        "layers.0.bias: expected [4, 6], got [4, 1]",
        "layers.1.bias: expected [4, 6], got none",
        "layers.1.extra: expected none, got [1]",
    ]


def test_the_page_says_how_labmls_module_and_ours_start(labml: Module) -> None:
    """And labml's eps, and the order of what its hyper LSTM reads."""
    rows = {what: cells for what, *cells in table(CHECKS, "")}
    *_, labmls, here = zip(*rows.values(), strict=True)
    of_labml, of_ours = (dict(zip(rows, column, strict=True)) for column in (labmls, here))
    theirs, ours = labml(CASE.I, CASE.H, CASE.S, CASE.Z, 1), HyperLSTM(CASE.I, CASE.H, CASE.S, CASE.Z, 1)
    norms = [module for module in theirs.modules() if isinstance(module, nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {float(of_labml["its eps"])}
    numbers = params(1)
    read = to_labml(numbers)["cells.0.hyper.input_lin.weight"]
    parts = [numbers[f"layers.0.hyper_weight_{letter}"] for letter in of_labml["hyper LSTM's input"].split(", ")]
    assert read.equal(torch.cat(parts, dim=2).flatten(0, 1))
    of_theirs = [theirs.get_parameter(f"cells.0.w_{letter}.0") for letter in "hx"]
    of_here = [ours.get_parameter(f"layers.0.weight_{letter}")[0] for letter in "hx"]
    for column, weights in ((of_labml, of_theirs), (of_ours, of_here)):
        for start, weight in zip(column["start of W_h, W_x"].split(", "), weights, strict=True):
            product = weight.mT @ weight
            expected = {"0": torch.zeros_like(product), "orthogonal": torch.eye(len(product))}[start]
            torch.testing.assert_close(product, expected, atol=1e-5, rtol=0)
