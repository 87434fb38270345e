"""Each implementation has a capability or refuses it, and `auto` can be recorded."""

import pytest
import torch

from impls.registry import IMPLS, Impl
from suite.checks.implementations import skip_unless_checked, skipping_undeclared
from suite.checks.module import capabilities
from suite.checks.module.capabilities import CAPABILITIES, Check
from suite.checks.module.runs import KEPT
from suite.checks.recording import Keep
from suite.comparison.draws import model_and_draw
from suite.results.outcomes import Verdict
from suite.shared.marks import impl_param


def cell(impl: Impl, title: str) -> object:
    """An implementation and a capability as parameters of a test."""
    marks, check = [], CAPABILITIES[title].check
    if impl.literal and check in (capabilities.compile_fullgraph, capabilities.export, capabilities.traced):
        marks.append(pytest.mark.thorough("a graph of operators that `batched` has too"))
    return impl_param(impl.name, title, marks=marks, id=f"{impl.name}-{title.replace(' ', '-')}")


CELLS = [cell(impl, title) for title in CAPABILITIES for impl in IMPLS]


@pytest.mark.parametrize(("implementation", "capability"), CELLS)
def test_capability(capability: str, implementation: str, device: torch.device, keep: Keep) -> None:
    """Its row is the cell of a table: pass; no, where it refuses as expected; FAIL; or not run."""
    outcome, reason = Verdict.FAIL, ""
    try:
        with skipping_undeclared():
            skip_unless_checked(implementation, device)
            reason = CAPABILITIES[capability].attempt(implementation, device)
        outcome = Verdict.NO if reason else Verdict.PASS
    except pytest.skip.Exception as error:
        outcome, reason = Verdict.NOT_RUN, str(error)
        raise
    except Exception as error:
        reason = "".join(str(error).splitlines()[:1])
        raise
    finally:
        row = {"capability": capability, "implementation": implementation, "outcome": outcome, "reason": reason}
        keep("capabilities", row)


@pytest.mark.parametrize("strict", [False, True], ids=["traced", "strict"])
def test_auto_takes_torchs_own_operators_for_onnx(
    strict: bool, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where torch.export is called as an export to ONNX calls it, which takes onnx."""
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    model, sample = model_and_draw("auto", KEPT, torch.float32, device)
    graph = torch.export.export(model, (sample.x,), strict=strict).graph
    targets = {node.target for node in graph.nodes if node.op == "call_function"}
    assert {target.namespace for target in targets if isinstance(target, torch._ops.OpOverload)} == {"aten"}


@pytest.mark.parametrize("recorded", [capabilities.traced, capabilities.onnx])
def test_auto_is_recorded(recorded: Check, device: torch.device) -> None:
    recorded("auto", device)
