"""A character model on real English text trains the same with every implementation."""

from functools import cache

import pytest
import torch
from torch import nn

from impls import HyperLSTM, names
from impls.registry import ORACLE
from suite.conftest import Record, skip_reason
from suite.shared.cases import TRAINING
from suite.shared.compare import Verdict
from suite.shared.corpus import streams, text

#: In nats per character, float64, after STEPS steps.
CURVES_AGREE_TO = 1e-8
I, H, S, Z, T, B, STEPS = 30, 24, 8, 3, 10, 4, 30


@cache
def losses(name: str, dtype: torch.dtype, device: torch.device) -> tuple[float, ...]:
    """Loss in nats per character at each of STEPS Adam steps, from the paper's initial values."""
    torch.manual_seed(0)
    model = HyperLSTM(I, H, S, Z, 1, layer_norm=True, impl=name, dtype=dtype)
    softmax = nn.Linear(H, I, dtype=dtype)
    model, softmax = model.to(device), softmax.to(device)
    optimiser = torch.optim.Adam([*model.parameters(), *softmax.parameters()], lr=1e-2)
    curve, state = [], None
    for step in range(STEPS):
        ids = streams(I, T + 1, B, start=step * T)
        out, last = model(nn.functional.one_hot(ids[:-1], I).to(device, dtype), state)
        loss = nn.functional.cross_entropy(softmax(out).flatten(0, 1), ids[1:].flatten().to(device))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        state = tuple(part.detach() for part in last)
        curve.append(loss.item())
    return tuple(curve)


@pytest.mark.parametrize(
    "dtype",
    [torch.float64, pytest.param(torch.float32, marks=pytest.mark.thorough("training in float32"))],
    ids=["float64", "float32"],
)
@pytest.mark.parametrize("name", names())
def test_trains_on_english_text(name: str, dtype: torch.dtype, device: torch.device, record: Record) -> None:
    if reason := skip_reason(name, device, dtype):
        record(name, dtype, TRAINING, "skipped", reason=reason)
        pytest.skip(reason)
    curve = losses(name, dtype, device)
    falls = sum(curve[-5:]) < 0.95 * sum(curve[:5])
    worst = None
    if dtype == torch.float64:
        oracle = losses(ORACLE, dtype, device)
        worst = Verdict("loss curve", max(abs(a - b) for a, b in zip(curve, oracle, strict=True)), CURVES_AGREE_TO)
    agrees = worst is None or worst.ratio <= 1
    record(name, dtype, TRAINING, "pass" if falls and agrees else "FAIL", worst, reason=f"text {text(I).sha256}")
    assert falls, curve
    assert agrees, worst


def test_streams_are_text_of_the_commonest_characters() -> None:
    counts = text(30).classes.bincount(minlength=30)
    assert counts.sum() > 400_000
    assert bool((counts[:28] >= counts[1:29]).all())
    assert torch.equal(streams(30, 20, 4), torch.cat([streams(30, 8, 4), streams(30, 12, 4, start=8)]))
