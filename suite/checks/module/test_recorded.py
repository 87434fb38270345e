"""For a recorded model "auto" takes torch's own operators; an implementation that cannot be recorded raises."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from impls import HyperLSTM, names, why_unavailable
from impls.registry import find
from suite.checks.module import capabilities
from suite.checks.module.runs import KEPT
from suite.shared.compare import model_and_draw


@pytest.fixture
def exporting_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have torch say that it exports to ONNX, for which it calls torch.export, as it does without onnx installed."""
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)


def operators(name: str, device: torch.device, *, strict: bool) -> set[str]:
    """Namespaces of the operators in an exported model."""
    model, sample = model_and_draw(name, KEPT, torch.float32, device)
    graph = torch.export.export(model, (sample.x,), strict=strict).graph
    targets = {node.target for node in graph.nodes if node.op == "call_function"}
    return {target.namespace for target in targets if isinstance(target, torch._ops.OpOverload)}


@pytest.mark.parametrize("strict", [False, True], ids=["traced", "strict"])
@pytest.mark.usefixtures("exporting_onnx")
def test_auto_takes_torchs_own_operators_for_onnx(strict: bool, device: torch.device) -> None:
    assert operators("auto", device, strict=strict) == {"aten"}


@pytest.mark.parametrize("strict", [False, True], ids=["traced", "strict"])
def test_other_exports_keep_the_operator_that_auto_takes(strict: bool, device: torch.device) -> None:
    (last, *_) = [name for name in reversed(names()) if why_unavailable(name, device) is None]
    assert operators("auto", device, strict=strict) == operators(last, device, strict=strict)
    if find(last).hand_written:
        assert operators("auto", device, strict=strict) == {"aten", "hyperlstm"}


@pytest.mark.parametrize("tool", [torch.jit.script, torch.fx.symbolic_trace], ids=["script", "fx"])
def test_script_and_fx_refuse_in_a_sentence(tool: Callable[[nn.Module], Any]) -> None:
    for model in (HyperLSTM(5, 16, 8, 4, 1), nn.Sequential(HyperLSTM(5, 16, 8, 4, 1))):
        with (
            warnings.catch_warnings(action="ignore"),  # torch.jit.script is deprecated
            pytest.raises((NotImplementedError, TypeError), match="does not support HyperLSTM: use torch"),
        ):
            tool(model)


def test_auto_is_traced(device: torch.device) -> None:
    capabilities.traced("auto", device)


def test_auto_is_exported_to_onnx(device: torch.device) -> None:
    capabilities.onnx("auto", device)
