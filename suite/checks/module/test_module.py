"""What code written for `torch.nn.LSTM` does works, and the example; a model and numbers for checks of the module."""

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

from impls import HyperLSTM
from suite.checks.module.example import Training, words
from suite.shared.cases import Case
from suite.shared.compare import Results, judge, model_and_draw

L, T, B, I, H, S, Z = 2, 6, 3, 4, 6, 5, 2
CASE = Case(T=T, B=B, I=I, H=H, S=S, Z=Z, L=L, layer_norm=True, state="stacked")


def model_and_input(name: str, device: torch.device, case: Case = CASE) -> tuple[HyperLSTM, Tensor, tuple[Tensor, ...]]:
    """Draw 0 of a case, without a state an empty one."""
    model, sample = model_and_draw(name, case, torch.float32, device)
    return model, sample.x, sample.state or ()


def assert_same(a: Results, b: Results) -> None:
    """By the tolerance rule in float32 with b as the oracle, and the floor as the only error allowed."""
    worst = judge(a, b, b, torch.float32)[0]
    assert worst.ratio <= 1, worst


def test_habits_of_torchs_lstm_work(device: torch.device) -> None:
    model, x, _ = model_and_input("auto", device)
    model.flatten_parameters()
    packed = pack_padded_sequence(x, [2, T, 4], enforce_sorted=False)
    out, _ = model(packed)
    torch.testing.assert_close(out.sorted_indices, packed.sorted_indices)


def test_the_example_learns(device: torch.device) -> None:
    training, data = Training(device), words(every=20)
    first = training.epoch(data)
    assert training.epoch(data) < first
