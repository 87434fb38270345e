"""Each implementation has a capability, or refuses it with an error of its own."""

from typing import Any

import pytest
import torch

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
    monkeypatch.setattr(capabilities, "checkpoint", lambda model, x, **_: (1.001 * model(x)[0],))
    for capability in ("autocast to bfloat16", "autocast to float16", "gradient checkpointing"):
        with pytest.raises(AssertionError):
            CAPABILITIES[capability].check("batched", torch.device("cpu"))
