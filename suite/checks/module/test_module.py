"""HyperLSTM behaves as a torch module, with every implementation."""

# Attributes of a torch module are "Tensor or Module" to a type checker.
# mypy: disable-error-code="arg-type, index, operator, union-attr"

import copy

import pytest
import torch
from torch import Tensor, nn

from impls import HyperLSTM, registry, why_unavailable
from suite.shared.cases import Case
from suite.shared.compare import Results, judge, model_and_draw

L, T, B, I, H, S, Z = 2, 6, 3, 4, 6, 5, 2
CASE = Case(T=T, B=B, I=I, H=H, S=S, Z=Z, L=L, layer_norm=True, state="stacked")


def model_and_input(name: str, device: torch.device, case: Case = CASE) -> tuple[HyperLSTM, Tensor, tuple[Tensor, ...]]:
    """Draw 0 of a case, without a state an empty one."""
    model, sample = model_and_draw(name, case, torch.float32, device)
    return model, sample.x, sample.state or ()


def assert_same(a: Results, b: Results, dtype: torch.dtype = torch.float32) -> None:
    """By the tolerance rule with b as the oracle, and the floor as the only error allowed."""
    worst = judge(a, b, b, dtype)[0]
    assert worst.ratio <= 1, worst


def test_habits_of_torchs_lstm_work(runnable: str, device: torch.device) -> None:
    """Code written for `torch.nn.LSTM` works, with a packed batch too."""
    model, x, _ = model_and_input(runnable, device)
    model.flatten_parameters()
    packed = nn.utils.rnn.pack_padded_sequence(x, [2, T, 4], enforce_sorted=False)
    out, (h, *_) = model(packed)
    assert type(out) is type(packed)
    for field in ("batch_sizes", "sorted_indices", "unsorted_indices"):
        assert torch.equal(getattr(out, field), getattr(packed, field))
    padded, lengths = nn.utils.rnn.pad_packed_sequence(out)
    assert lengths.tolist() == [2, T, 4]
    assert torch.equal(h[-1], padded[lengths - 1, torch.arange(B)])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_to_changes_what_is_computed_in(runnable: str, device: torch.device, dtype: torch.dtype) -> None:
    model, x, state = model_and_input(runnable, device)
    model = model.to(dtype)
    assert {p.dtype for p in model.parameters()} == {dtype}
    reason = why_unavailable(runnable, device, dtype)
    if reason is not None:
        with pytest.raises(RuntimeError, match=reason):
            model(x.to(dtype))
        pytest.skip(reason)
    out, last = model(x.to(dtype), [part.to(dtype) for part in state])
    assert {value.dtype for value in (out, *last)} == {dtype}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_reset_parameters_restores_the_initial_values(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = HyperLSTM(I, H, S, Z, L, layer_norm=True, dtype=dtype)
    initial = copy.deepcopy(model.state_dict())
    model.layers[0].weight_h = nn.Parameter(model.layers[0].weight_h.detach().mT.contiguous().mT)
    assert {p.dtype for p in initial.values()} == {dtype}
    for p in model.parameters():
        nn.init.constant_(p, torch.nan)
    torch.manual_seed(0)
    model.reset_parameters()
    assert all(torch.equal(initial[key], value) for key, value in model.state_dict().items())  # NaN is not equal


def test_autocast_casts_what_the_lstm_of_torch_casts(device: torch.device) -> None:
    model, x, state = model_and_input(registry.ORACLE, device)
    lstm = nn.LSTM(I, H, device=device)
    # cuDNN's recurrent layers take autocast for float16, whatever dtype it names.
    dtype = torch.float16 if device.type == "cuda" else torch.bfloat16
    with torch.autocast(device.type, dtype):
        out, last = model(x, state)
        try:
            theirs, (h, c) = lstm(x)
        except RuntimeError as error:  # oneDNN has no bfloat16 LSTM for a CPU without AVX-512
            reason = str(error).split(". ")[0]
            pytest.skip(f"torch.nn.LSTM does not run under autocast here: {reason}.")
    assert (out.dtype, last[0].dtype, last[1].dtype) == (theirs.dtype, h.dtype, c.dtype)
