"""Checks of models recorded to run without this package, by `torch.onnx.export` and `torch.jit.trace`."""

import copy
import io
import warnings
from typing import cast

import torch
from torch import Tensor

from impls import HyperLSTM
from suite.checks.module.capability_checks import KEPT, TRACED, Given, each_agrees, given, outputs
from suite.shared.compare import DRAWS, OUTPUTS, Results, assert_within_rule, draw

#: Packages to export to ONNX and to run the result; the dependency group `export` has them.
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def onnx(name: str, device: torch.device) -> None:
    """Check a model exported for any batch size under onnxruntime, on another batch size."""
    import onnxruntime

    model, x, _ = given(name, device, KEPT)
    try:
        program = torch.onnx.export(
            model, (x,), dynamo=True, verbose=False, dynamic_shapes=({1: torch.export.Dim("batch", min=2)},)
        )
    except torch.onnx.OnnxExporterError as error:
        raise (error.__cause__ or error) from None  # torch wraps what an implementation says in advice of its own
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    batch = torch.cat([draw(KEPT, seed, torch.float32, torch.device("cpu")).x for seed in range(DRAWS)], dim=1)
    found = session.run(None, {session.get_inputs()[0].name: batch.numpy()})
    oracle, naive = (_naive(model, batch, dtype) for dtype in (torch.float64, torch.float32))
    assert_within_rule(dict(zip(OUTPUTS, map(torch.from_numpy, found), strict=True)), oracle, naive)


def _naive(model: HyperLSTM, x: Tensor, dtype: torch.dtype) -> Results:
    """Outputs of naive for x on the CPU in dtype, with the model's parameters."""
    naive = copy.deepcopy(model).to(x.device, dtype)
    naive.impl = "naive"
    with torch.no_grad():
        return outputs(*naive(x.to(dtype)))


def traced(name: str, device: torch.device) -> None:
    """Check output and gradients of a model that was traced with another batch size, saved and loaded."""
    model, x, _ = given(name, device, TRACED)
    file = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):  # torch lists the sizes that a trace takes for constant
        torch.jit.save(torch.jit.trace(model, (torch.cat([x, x], dim=1),)), file)
        file.seek(0)
        loaded = torch.jit.load(file)

    def results(one: Given) -> Results:
        loaded.load_state_dict(one.model.state_dict())
        return one._replace(model=cast(HyperLSTM, loaded)).results()

    each_agrees(results, model, TRACED, device)
