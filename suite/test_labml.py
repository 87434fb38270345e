"""labml's HyperLSTM, which nobody here wrote, is the definition with layer norm on."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from impls.convert import from_labml, to_labml

from .cases import Case
from .compare import draw, judge, reference
from .subjects import LABML, labml_results

CASE = Case(T=7, B=3, I=4, H=6, S=5, Z=2, layer_norm=True, state="stacked")
CPU = torch.device("cpu")


def params(L: int) -> dict[str, Tensor]:
    return draw(replace(CASE, L=L), 0, torch.float32, CPU).params


@pytest.mark.parametrize("L", [1, 2, 3])
def test_same_output_states_and_gradients(L: int) -> None:
    reason = LABML.why_unavailable(CPU, torch.float64)
    if reason is not None:
        pytest.skip(reason)
    case = replace(CASE, L=L)
    oracle = reference("naive", case, torch.float64, CPU, torch.float64, 1)
    worst = judge(labml_results(case, torch.float64, CPU, torch.float64), oracle, oracle, torch.float64)[0]
    assert worst.ratio <= 1, worst


@pytest.mark.parametrize("L", [1, 3])
def test_round_trip_keeps_every_bit(L: int) -> None:
    ours = params(L)
    again = from_labml(to_labml(ours))
    assert ours.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in ours.items())
    theirs = to_labml(ours)
    assert all(torch.equal(value, theirs[name]) for name, value in to_labml(again).items())
