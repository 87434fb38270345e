"""Checks of copies of a model, and of what is saved of it."""

import copy
import io
import pickle
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from impls import HyperLSTM
from suite.checks.module.capability_checks import CASE, Given, given
from suite.shared.compare import assert_bitwise_equal, implementation


def copied(copies: Callable[[HyperLSTM], HyperLSTM], name: str, device: torch.device) -> None:
    """Check that a copy has the same implementation, parameters of its own, and the same results."""
    original = given(name, device)
    again = copies(original.model)
    if again.impl != name or any(p is q for p, q in zip(original.model.parameters(), again.parameters())):  # noqa: B905
        raise AssertionError(f"copy: expected impl {name} and parameters of its own, got {again!r}")
    assert_bitwise_equal(Given(again, original.x, original.cotangents).results(), original.results())


def deepcopied_and_pickled(model: HyperLSTM) -> HyperLSTM:
    again: HyperLSTM = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    return again


def _reloaded(state_dict: Mapping[str, Tensor], model: HyperLSTM) -> HyperLSTM:
    again = implementation(model.impl)(CASE, torch.float32, next(model.parameters()).device)
    again.load_state_dict(state_dict)
    return again


def saved_weights_only(model: HyperLSTM) -> HyperLSTM:
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    return _reloaded(torch.load(file, weights_only=True), model)


def saved_as_safetensors(model: HyperLSTM) -> HyperLSTM:
    from safetensors.torch import load, save

    return _reloaded(load(save(model.state_dict())), model)
