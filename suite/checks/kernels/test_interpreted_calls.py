"""Calls of `batched_cuda` that every implementation is compared in, interpreted, at the smallest sizes, on one draw."""

import tomllib
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from suite.checks.equality.comparisons import SMALL, Comparison, paired
from suite.checks.faults.faults import Edited, edits
from suite.checks.kernels.interpreted import NAME
from suite.checks.kernels.traced import Trace, traced
from suite.shared.compare import Build, implementation

#: Sizes that are padded, and some that are not, so that kernels read a caller's own tensors.
SMALLEST = replace(SMALL, T=2, B=2, I=3, H=7, S=5, Z=2)
OWN = replace(SMALLEST, H=8, S=8)
#: Options in pairs, each gradient of an output alone among them; layouts in memory, addresses that are not aligned.
USES = {"layouts": OWN, "gradients": SMALLEST, "calls": SMALLEST}
CALLS = [*paired(NAME), *(Comparison(case, torch.float32, use, True) for use, case in USES.items())]
FAULTS = tomllib.loads(Path(__file__).with_name("calls.toml").read_text(encoding="utf-8"))


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


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault: str) -> None:
    kind, word, file, right, new = FAULTS[fault]
    with Edited(fault, kind, edits(f"{NAME}/{file}", right, new), NAME).planted() as build:
        assert any(_finds(call, build) for call in CALLS if word in call.use)


def _finds(call: Comparison, build: Build) -> bool:
    try:
        return bool(wrong(call, build))
    except RuntimeError:  # torch refuses what the fault makes of a tensor
        return True
