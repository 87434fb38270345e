"""Each implementation has a capability, or refuses it with an error of its own."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from impls.registry import IMPLS
from suite.checks.module import capabilities
from suite.checks.module.capabilities import CAPABILITIES
from suite.conftest import skip_unless_checked
from suite.shared.cases import Case
from suite.shared.oracle import Output, State, packed

CELLS = [
    pytest.param(title, impl.name, marks=one.marks(impl), id=f"{title.replace(' ', '-')}-{impl.name}")
    for title, one in CAPABILITIES.items()
    for impl in IMPLS
]


@pytest.mark.parametrize(("capability", "implementation"), CELLS)
def test_capability(capability: str, implementation: str, device: torch.device) -> None:
    skip_unless_checked(implementation, device)
    CAPABILITIES[capability].check(implementation, device)


def test_a_wrong_number_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each check of results sees an output that is off by a hundredth, or other masks when a call is repeated."""

    def wrong(model: nn.Module, case: Case, x: Tensor, state: State | None) -> Output:
        out, last = packed(model, case, x, state)
        return 1.01 * out, last

    monkeypatch.setattr(capabilities, "packed", wrong)
    monkeypatch.setattr(capabilities, "checkpoint", partial(checkpoint, preserve_rng_state=False))
    for capability in ("autocast to bfloat16", "autocast to float16", "gradient checkpointing"):
        with pytest.raises(AssertionError):
            CAPABILITIES[capability].check("batched", torch.device("cpu"))
