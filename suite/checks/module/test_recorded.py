"""For a recorded model "auto" takes torch's own operators."""

import pytest
import torch

from suite.checks.module import capabilities
from suite.checks.module.runs import KEPT
from suite.shared.compare import model_and_draw


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


def test_auto_is_traced(device: torch.device) -> None:
    capabilities.traced("auto", device)


def test_auto_is_exported_to_onnx(device: torch.device) -> None:
    capabilities.onnx("auto", device)
