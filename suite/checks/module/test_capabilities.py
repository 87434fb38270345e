"""Each implementation has a capability, or refuses it with an error of its own."""

from functools import partial
from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from impls.registry import IMPLS
from suite.checks.module import capabilities
from suite.checks.module.capabilities import CAPABILITIES
from suite.checks.module.runs import Example
from suite.conftest import skip_unless_checked
from suite.shared.compare import Results

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
    """Each check of results sees a gradient that is off by a thousandth."""
    right = Example.results

    def wrong(self: Example, call: Any = None) -> Results:
        results = right(self, call)
        return results if call is None else {**results, "grad x": 1.001 * results["grad x"]}

    monkeypatch.setattr(Example, "results", wrong)
    # Other masks when the call is repeated.
    monkeypatch.setattr(capabilities, "checkpoint", partial(checkpoint, preserve_rng_state=False))
    for capability in ("autocast to bfloat16", "autocast to float16", "gradient checkpointing"):
        with pytest.raises(AssertionError):
            CAPABILITIES[capability].check("batched", torch.device("cpu"))
