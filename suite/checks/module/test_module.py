"""What code written for `torch.nn.LSTM` does works, and the example."""

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

from impls import HyperLSTM
from suite.checks.module.example import Training, words
from suite.checks.module.models import T, model_and_input


def test_habits_of_torchs_lstm_work(device: torch.device) -> None:
    model, x, _ = model_and_input("auto", device)
    model.flatten_parameters()
    packed = pack_padded_sequence(x, [2, T, 4], enforce_sorted=False)
    out, _ = model(packed)
    torch.testing.assert_close(out.sorted_indices, packed.sorted_indices)


@pytest.mark.parametrize("steps", [0, 1])
def test_a_final_state_is_no_memory_of_the_callers(steps: int, device: torch.device) -> None:
    """So it can be changed in place, also after no step."""
    model = HyperLSTM(5, 9, 4, 2, 1, device=device)
    state = tuple(torch.randn(1, 3, size, device=device) for size in (9, 9, 4, 4))
    before = [part.clone() for part in state]
    with torch.no_grad():
        _, last = model(torch.randn(steps, 3, 5, device=device), state)
        for part in last:
            part.fill_(7.0)
    assert all(part.equal(kept) for part, kept in zip(state, before, strict=True))


def test_an_empty_sequence_trains_with_gradients_of_zero(device: torch.device) -> None:
    """So that a step of training over batches of which one has no steps is no error."""
    model, x, _ = model_and_input("auto", device)
    out, _ = model(x[:0])
    out.sum().backward()
    assert [p.grad is not None and not p.grad.any() for p in model.parameters()] == [True] * len([*model.parameters()])


def test_the_example_learns(device: torch.device) -> None:
    training, data = Training(device), words(every=20)
    first = training.epoch(data)
    assert training.epoch(data) < first
