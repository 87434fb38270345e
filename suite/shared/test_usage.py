"""Memory of a pass is counted."""

import torch
from torch.profiler import ProfilerActivity, profile

from suite.shared import usage

CPU = torch.device("cpu")


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
