"""Dropout: where it applies, its masks, which all implementations share, and evaluation mode."""

import math
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import pytest
import torch
from torch.func import functional_call, vmap

from impls import HyperLSTM, calls
from impls.registry import ORACLE
from suite.cases.case import Case
from suite.checks.module.runs import F32, model_and_input
from suite.comparison.runs import Returned, by_output
from suite.comparison.tensors import Results
from suite.comparison.tolerance import judge

#: The probabilities of `DROPPED`.
P = 0.25
DROPPED = Case(T=4, B=3, I=4, H=16, S=6, Z=2, L=2, layer_norm=True, state="stacked", dropout=P, recurrent_dropout=P)
ONE_STEP = replace(DROPPED, T=1, L=1, dropout=0.0, state="none")


def seeded(model: Callable[..., Returned], *args: object) -> Results:
    torch.manual_seed(0)
    return by_output(*model(*args))


def assert_same(a: Results, b: Results) -> None:
    """By the tolerance rule in float32 with b as the oracle, and the floor as the only error allowed."""
    worst = judge(ORACLE, a, b, b, F32)[0]
    assert not worst.wrong, worst


def test_g_is_dropped_by_the_mask(runnable: str, device: torch.device) -> None:
    """From a zero state c is i m g: nothing else reaches it."""
    model, x, _ = model_and_input(runnable, device, case=ONE_STEP)
    c = seeded(model, x)["c"]
    torch.manual_seed(0)
    mask = calls.draw(P, (1, ONE_STEP.B, ONE_STEP.H), device)
    assert mask is not None
    assert torch.equal(c != 0, mask.kept)
    plain = seeded(model.eval(), x)
    assert_same({"c": c}, {"c": plain["c"] * mask.kept / (1 - P)})
    # The hyper LSTM reads h of the step before, so it does not change.
    assert_same({"c_hat": seeded(model.train(), x)["c_hat"]}, {"c_hat": plain["c_hat"]})


def test_what_is_not_a_number_is_not_dropped(runnable: str, device: torch.device) -> None:
    """As by `torch.nn.functional.dropout`, so that a fault shows."""
    model, x, _ = model_and_input(runnable, device, case=ONE_STEP)
    model.get_parameter("layers.0.weight_x").data[2] = torch.nan  # of g
    assert bool(seeded(model, x)["c"].isnan().all())


def test_a_probability_of_1_drops_everything(runnable: str, device: torch.device) -> None:
    model, x, _ = model_and_input(runnable, device, case=replace(ONE_STEP, T=3, recurrent_dropout=1.0))
    assert not bool(seeded(model, x)["c"].any())


@pytest.mark.parametrize("without_gradients", [torch.no_grad, torch.inference_mode])
def test_training_mode_drops_without_gradients_too(
    without_gradients: Callable[[], AbstractContextManager[None]], runnable: str, device: torch.device
) -> None:
    """As in `torch.nn.LSTM`: a checkpoint that recomputes, and sampling with dropout, need the same masks."""
    model, x, _ = model_and_input(runnable, device, case=DROPPED)
    trained = seeded(model, x)
    with without_gradients():
        sampled = seeded(model, x)
    assert_same(sampled, trained)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_of_zeros_is_p(p: float, device: torch.device) -> None:
    torch.manual_seed(0)
    mask = calls.draw(p, (100, 50, 201), device)
    assert mask is not None
    assert (mask.kept.dtype, mask.kept.element_size(), mask.kept.shape) == (torch.bool, 1, (100, 50, 201))
    n = mask.kept.numel()
    # Each axis by itself, within five standard deviations of the share in n draws; and neighbours are independent.
    for axis in range(3):
        share = mask.kept.double().movedim(axis, 0).flatten(1).mean(1)
        assert float((share - (1 - p)).abs().max()) < 5 * math.sqrt(p * (1 - p) * len(share) / n)
        both = (mask.kept & mask.kept.roll(1, axis)).double().mean()
        assert abs(float(both) - (1 - p) ** 2) < 5 * math.sqrt(p * (1 - p) / n) * 2
    assert not torch.equal(calls.draw(p, mask.kept.shape, device).kept, mask.kept)  # type: ignore[union-attr]
    assert calls.draw(0.0, (2, 3), device) is None
    assert not calls.draw(1.0, (1 << 20,), device).kept.any()  # type: ignore[union-attr]


def test_vmap_draws_by_its_own_randomness(device: torch.device) -> None:
    model, x, _ = model_and_input("batched", device, case=ONE_STEP)
    params = {key: p.detach().expand(2, *p.shape) for key, p in model.named_parameters()}
    torch.manual_seed(0)
    c = vmap(lambda q: functional_call(model, q, (x,))[1][1], randomness="same")(params)
    for one in c:
        assert_same({"c": one}, {"c": seeded(model, x)["c"]})


def test_dropout_in_one_layer_warns() -> None:
    """Where the model is made; recurrent dropout has an effect there."""
    with pytest.warns(UserWarning, match="dropout=0.5 .*n_layers=1") as raised:
        HyperLSTM(4, 6, 5, 2, 1, dropout=0.5)
    assert [warning.filename for warning in raised] == [__file__]
    with warnings.catch_warnings(action="error"):
        HyperLSTM(4, 6, 5, 2, 1, recurrent_dropout=0.5)
        HyperLSTM(4, 6, 5, 2, 2, dropout=0.5)
    assert "dropout=0.5, recurrent_dropout=0.1" in repr(HyperLSTM(4, 6, 5, 2, 2, dropout=0.5, recurrent_dropout=0.1))
