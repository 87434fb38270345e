"""Each implementation has a capability, or refuses it with an error of its own."""

import pytest
import torch

from impls.registry import IMPLS, find
from suite.checks.module.capabilities import CAPABILITIES
from suite.conftest import Keep, skip_unless_checked, skipping_undeclared

CELLS = [
    pytest.param(title, impl.name, id=f"{impl.name}-{title.replace(' ', '-')}")
    for title in CAPABILITIES
    for impl in IMPLS
]


@pytest.mark.parametrize(("capability", "implementation"), CELLS)
def test_capability(capability: str, implementation: str, device: torch.device, keep: Keep) -> None:
    """Its row is the cell of a table: pass; no, where it refuses as expected; FAIL; or not run."""
    one, outcome, reason = CAPABILITIES[capability], "pass", ""
    able = one.able(find(implementation))
    try:
        with skipping_undeclared():
            skip_unless_checked(implementation, device)
            one.check(implementation, device)
        assert able, "expected a refusal"
    except (Exception, pytest.skip.Exception) as error:
        outcome = "not run" if isinstance(error, pytest.skip.Exception) else "FAIL"
        reason = "".join(str(error).splitlines()[:1])
        if able or not pytest.RaisesExc((NotImplementedError, RuntimeError), match=one.pattern).matches(error):
            raise
        outcome = "no"
    finally:
        keep("capabilities", capability=capability, implementation=implementation, outcome=outcome, reason=reason)
