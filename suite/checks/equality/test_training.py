"""A character model on real English text trains the same with every implementation."""

from functools import cache
from pydoc_data.topics import topics

import pytest
import torch
from torch import nn

from impls import HyperLSTM, names, why_unavailable
from impls.registry import ORACLE, find
from suite.conftest import Record
from suite.shared.cases import TRAINING
from suite.shared.compare import Verdict

#: In nats per character, float64, over STEPS steps. In float32 rounding changes a curve by tenths.
CURVES_AGREE_TO = 1e-8
I, H, S, Z, T, B, STEPS = 30, 24, 8, 3, 10, 4, 30
#: Classes of characters [STEPS * T + 1, B], each column from its own place in the text.
IDS = torch.tensor([ord(character) % I for character in topics["assignment"]]).unfold(0, STEPS * T + 1, 1000)[:B].t()


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
        ids = IDS[step * T : step * T + T + 1].to(device)
        out, last = model(nn.functional.one_hot(ids[:-1], I).to(dtype), state)
        loss = nn.functional.cross_entropy(softmax(out).flatten(0, 1), ids[1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        state = tuple(part.detach() for part in last)
        curve.append(loss.item())
    return tuple(curve)


@pytest.mark.parametrize("name", names())
def test_trains_on_english_text(name: str, device: torch.device, record: Record) -> None:
    """In its most precise dtype."""
    dtype = find(name).dtypes[0]
    if reason := why_unavailable(name, device, dtype):
        record(name, dtype, TRAINING, "skipped", reason=reason)
        pytest.skip(reason)
    curve, oracle = losses(name, dtype, device), losses(ORACLE, torch.float64, device)
    assert sum(curve[-5:]) < 0.95 * sum(curve[:5]), curve
    worst = None
    if dtype == torch.float64:
        worst = Verdict("loss curve", max(abs(a - b) for a, b in zip(curve, oracle, strict=True)), CURVES_AGREE_TO)
    agrees = worst is None or worst.ratio <= 1
    record(name, dtype, TRAINING, "pass" if agrees else "FAIL", worst)
    assert agrees, worst
