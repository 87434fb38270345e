"""Memory of a pass is counted."""

from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from impls import HyperLSTM
from suite.shared import usage
from suite.shared.examples import CPU, TINY


def test_peak_memory_counts_what_is_held_at_once() -> None:
    def work() -> None:
        a = torch.ones(1_000_000)
        b = a + a
        del a
        b.add_(1)

    assert 8_000_000 <= usage.peak_bytes(work, CPU) < 8_100_000


def test_a_later_profile_records_operators() -> None:
    usage.peak_bytes(lambda: None, CPU)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        torch.ones(1)
    assert profiler.events()


def test_saved_memory_counts_what_the_result_holds() -> None:
    x = torch.ones(1_000_000, requires_grad=True)
    assert 4_000_000 <= usage.saved_bytes(lambda: x.exp(), CPU) < 4_100_000


def test_memory_that_calls_hold_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, forward = list[Any](), HyperLSTM.forward

    def keeping(*given: Any) -> Any:
        kept.append(forward(*given))
        return kept[-1]

    monkeypatch.setattr(HyperLSTM, "forward", keeping)
    assert usage.held("batched", TINY, CPU) > 0
