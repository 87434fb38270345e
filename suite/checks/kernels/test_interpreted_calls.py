"""Calls of `batched_cuda` that every implementation is compared in, interpreted, at the smallest sizes, on one draw."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from suite.checks.equality.comparisons import SMALL, Comparison, paired
from suite.checks.kernels.interpreted import NAME
from suite.checks.kernels.traced import Trace, traced
from suite.shared.compare import Build, implementation

#: Padded units, rows of each state in a layout of its own.
SMALLEST = replace(SMALL, T=2, B=2, I=3, H=7, S=5, Z=2)
#: Options in pairs, each gradient of an output alone among them; layouts in memory, addresses that are not aligned.
CALLS = [*paired(NAME), *(Comparison(SMALLEST, torch.float32, use, True) for use in ("layouts", "gradients", "calls"))]


@pytest.fixture(autouse=True)
def _one_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Comparison, "_draws", lambda _: 1)


def wrong(call: Comparison, build: Build) -> str:
    """What is wrong in a call: its results, or addresses, which are traced where layouts differ; "" if nothing is."""
    with traced() if call.use == "layouts" else nullcontext(Trace()) as trace:
        worst = call.worst(build, torch.device("cpu"))
    return f"{worst} {dict(trace.wrong)}" if worst.ratio > 1 or trace.wrong else ""


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.id)
def test_calls_equal_the_oracle(call: Comparison) -> None:
    assert not wrong(call, implementation(NAME))
