"""What code written for `torch.nn.LSTM` does works, and the example."""

from fractions import Fraction
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence

from impls import HyperLSTM
from suite.checks.module.example import batches, bits, lines, predictors, train
from suite.checks.module.runs import model_and_input


def test_habits_of_torchs_lstm_work(device: torch.device) -> None:
    model, x, _ = model_and_input("auto", device)
    model.flatten_parameters()
    packed = pack_padded_sequence(x, [2, 6, 4], enforce_sorted=False)
    out, _ = model(packed)
    torch.testing.assert_close(out.sorted_indices, packed.sorted_indices)


def test_numbers_of_any_type_are_kept_as_those_of_python() -> None:
    """As NumPy's, of a search over sizes, or an int for a probability."""
    sizes: list[Any] = [np.int64(4), np.int32(6), np.uint8(5), np.int64(2), np.int16(3)]
    rates: list[Any] = [0, 1, np.float32(0.25), Fraction(1, 4)]
    for rate in rates:
        model = HyperLSTM(*sizes, dropout=rate, recurrent_dropout=rate, impl="naive")
        values = [getattr(model, name) for name in ("input_size", "hidden_size", "hyper_size", "n_z", "n_layers")]
        assert [(type(value), value) for value in values] == [(int, size) for size in (4, 6, 5, 2, 3)]
        assert [type(model.dropout), type(model.recurrent_dropout)] == [float, float]
        assert model.dropout == model.recurrent_dropout == float(rate)


def test_autocast_takes_parameters_of_several_dtypes() -> None:
    """As it casts all of them to one."""
    model = HyperLSTM(4, 6, 5, 2, 2, layer_norm=True, impl="batched")
    model.layers[1].bfloat16()
    x = torch.randn(3, 2, 4)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        out, _ = model(x)
    assert out.equal(model.bfloat16()(x.bfloat16())[0])


def test_a_model_shows_its_options_and_the_sizes_of_its_layers() -> None:
    """The sizes of a layer are those of its input and of its output."""
    plain = repr(HyperLSTM(4, 6, 5, 2, 2, impl="naive"))
    assert "  4, 6, 5, 2, 2, layer_norm=False, impl=naive\n" in plain
    assert "(0): Layer(4 -> 6)\n" in plain
    assert "(1): Layer(6 -> 6)\n" in plain
    other = repr(HyperLSTM(4, 6, 5, 2, 1, batch_first=True, layer_norm=True, recurrent_dropout=0.5, impl="batched"))
    assert "1, layer_norm=True, batch_first=True, recurrent_dropout=0.5, impl=batched\n" in other


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
    assert all(map(torch.equal, state, before))


def test_an_empty_sequence_trains_with_gradients_of_zero(device: torch.device) -> None:
    """So that a step of training over batches of which one has no steps is no error."""
    model, x, _ = model_and_input("auto", device)
    out, _ = model(x[:0])
    out.sum().backward()
    assert [p.grad is not None and not p.grad.any() for p in model.parameters()] == [True] * len([*model.parameters()])


@pytest.mark.parametrize("name", predictors())
def test_the_example_learns(name: str, device: torch.device) -> None:
    data = lines()[::20]
    model = predictors()[name].to(device)
    first = bits(model, data[:50])
    train(model, torch.optim.Adam(model.parameters(), lr=1e-2), islice(batches(data), 5))
    assert bits(model, data[:50]) < first
