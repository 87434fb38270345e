"""What calls leave behind, beyond what is checked around every comparison: the first, one that fails, and many."""

import gc
import weakref
from functools import partial

import pytest
import torch

from impls import HyperLSTM
from impls.gradient.chunks import limited
from impls.registry import Impl, find
from suite.checks.equality.catalogue import DROPPED
from suite.checks.equality.comparisons import F32
from suite.checks.equality.held import held
from suite.checks.equality.leftovers import settings
from suite.comparison.draws import Draw, model_and_draw
from suite.comparison.runs import plain
from suite.comparison.tolerance import assert_bitwise_equal
from suite.shared import process


def model_of(name: str, device: torch.device) -> tuple[HyperLSTM, Draw]:
    """A model in evaluation mode, with dropout, and numbers for it."""
    model, sample = model_and_draw(name, DROPPED, F32, device)
    return model.eval(), sample


def _fails(*_: object) -> None:
    raise ZeroDivisionError


def test_first_calls_change_no_setting(device: torch.device) -> None:
    """What a first call changes for good is no change around later ones."""
    process.run("suite.checks.equality.leftovers", str(device))


def test_an_exception_changes_no_setting(runnable: str, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    model, sample = model_of(runnable, device)
    before, expected = settings(model), plain(model, DROPPED, sample)
    able = torch.bfloat16 in find(runnable).dtypes  # that of a file need not be
    narrow = partial(torch.autocast, device.type, torch.bfloat16, enabled=able)
    with pytest.raises(ZeroDivisionError), limited(device.type, forward=8):
        _fails()
    with monkeypatch.context() as changed, narrow():
        changed.setattr(Impl, "run", property(lambda impl: _fails))
        with pytest.raises(ZeroDivisionError):
            model(sample.x, sample.state)
    if find(runnable).hand_written:
        with limited(device.type, backward=None):
            out, _ = model(sample.x, sample.state)
        with narrow(), pytest.raises(TypeError):
            out.sum().backward()  # None is no number of bytes
    assert settings(model) == before
    assert_bitwise_equal(plain(model, DROPPED, sample), expected)


def test_many_steps_hold_no_memory(runnable: str, device: torch.device) -> None:
    assert held(runnable, DROPPED, device) == 0


def test_nothing_holds_a_model_after_its_calls(runnable: str, device: torch.device) -> None:
    model, sample = model_of(runnable, device)
    plain(model, DROPPED, sample)
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None
