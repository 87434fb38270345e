"""A file that replaces the clock, or sets what the baseline has too, is found."""

import time

import pytest
import torch

from suite.measure.guard import guard
from suite.measure.job import RefusedError


def test_a_clock_that_is_replaced_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check = guard()
    check()
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)
    with pytest.raises(RefusedError, match=r"^the file replaced time\.perf_counter, with which it is measured$"):
        check()


def test_a_setting_that_changes_is_named() -> None:
    check = guard()
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    with pytest.raises(RefusedError, match=rf"torch\.get_num_threads\(\) from {threads} to {threads + 1}, for the"):
        check()
    torch.set_num_threads(threads)
    check()
