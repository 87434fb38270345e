"""labml's HyperLSTM, an independent code, equals the definition with layer norm on."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from impls.convert import from_labml, to_labml
from impls.definition import dtype_name
from suite.candidates.labml import build_as_ours
from suite.cases.case import Case, Start
from suite.comparison.draws import draw, implementation
from suite.comparison.tensors import Gradient
from suite.comparison.tolerance import DTYPES, compare

CASE = Case(T=7, B=3, I=4, H=6, S=5, Z=2, layer_norm=True, state="stacked")
CPU = torch.device("cpu")


def params(L: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return draw(replace(CASE, L=L), 0, dtype, CPU).params


@pytest.mark.parametrize("state", ["none", "stacked"])
@pytest.mark.parametrize("L", [1, 2, 3])
def test_same_output_states_and_every_gradient(L: int, state: Start) -> None:
    case = replace(CASE, L=L, state=state)
    judgements = compare(build_as_ours, case, torch.float64, CPU, draws=1)
    assert {str(Gradient(name)) for name in params(L)} <= {judgement.tensor for judgement in judgements}
    assert not judgements[0].wrong, judgements[0]


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("L", [1, 11])
def test_a_round_trip_keeps_every_bit(L: int, dtype: torch.dtype) -> None:
    """In new memory, from any layout, and each module loads its own."""
    from labml_nn.hypernetworks import hyper_lstm

    ours = {name: value.mT.contiguous().mT if value.dim() > 1 else value for name, value in params(L, dtype).items()}
    theirs = to_labml(ours)
    again, module = from_labml(theirs), hyper_lstm.HyperLSTM(CASE.I, CASE.H, CASE.S, CASE.Z, L)
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
    with pytest.raises(ValueError, match=r"^state_dict: expected .*; got .*norm"):
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
