"""What code written for `torch.nn.LSTM` does works, and the example."""

import torch
from torch.nn.utils.rnn import pack_padded_sequence

from suite.checks.module.example import Training, words
from suite.checks.module.models import T, model_and_input


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
