"""Checks of copies of a model, of what is saved of it, and of models recorded to run without this package."""

import copy
import io
import pickle
import warnings
from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor

from impls import HyperLSTM
from suite.checks.module.runs import CASE, KEPT, TRACED, Example, each_agrees, example, outputs, skip_without
from suite.shared.compare import (
    DRAWS,
    OUTPUTS,
    Results,
    assert_bitwise_equal,
    assert_within_rule,
    draw,
    implementation,
)


def copied(copies: Callable[[HyperLSTM], HyperLSTM], name: str, device: torch.device) -> None:
    """Check that a copy has the same implementation, parameters of its own, and the same results."""
    original = example(name, device)
    duplicate = copies(original.model)
    if duplicate.impl != name or any(p is q for p, q in zip(original.model.parameters(), duplicate.parameters())):  # noqa: B905
        raise AssertionError(f"copy: expected impl {name} and parameters of its own, got {duplicate!r}")
    assert_bitwise_equal(Example(duplicate, original.x, original.cotangents).results(), original.results())


def pickled(model: HyperLSTM) -> HyperLSTM:
    again: HyperLSTM = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    return again


def weights_only(model: HyperLSTM) -> HyperLSTM:
    torch.save(model.state_dict(), file := io.BytesIO())
    file.seek(0)
    return _reloaded(torch.load(file, weights_only=True), model)


def safetensors(model: HyperLSTM) -> HyperLSTM:
    from safetensors.torch import load, save

    return _reloaded(load(save(model.state_dict())), model)


def _reloaded(state_dict: Mapping[str, Tensor], model: HyperLSTM) -> HyperLSTM:
    again = implementation(model.impl)(CASE, torch.float32, next(model.parameters()).device)
    again.load_state_dict(state_dict)
    return again


def onnx(name: str, device: torch.device) -> None:
    """Check a model exported for any batch size under onnxruntime, on another batch size."""
    skip_without("onnx", "onnxscript", "onnxruntime")
    import onnxruntime

    model, x, _ = example(name, device, KEPT)
    try:
        program = torch.onnx.export(
            model, (x,), dynamo=True, verbose=False, dynamic_shapes=({1: torch.export.Dim("batch", min=2)},)
        )
    except torch.onnx.OnnxExporterError as error:
        raise (error.__cause__ or error) from None  # torch wraps what an implementation says in advice of its own
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    batch = torch.cat([draw(KEPT, seed, torch.float32, torch.device("cpu")).x for seed in range(DRAWS)], dim=1)
    arrays = session.run(None, {session.get_inputs()[0].name: batch.numpy()})
    oracle, naive = (_naive(model, batch, dtype) for dtype in (torch.float64, torch.float32))
    assert_within_rule(dict(zip(OUTPUTS, map(torch.from_numpy, arrays), strict=True)), oracle, naive)


def _naive(model: HyperLSTM, x: Tensor, dtype: torch.dtype) -> Results:
    """Outputs of naive for x on the CPU in dtype, with the model's parameters."""
    naive = copy.deepcopy(model).to(x.device, dtype)
    naive.impl = "naive"
    with torch.no_grad():
        return outputs(*naive(x.to(dtype)))


def traced(name: str, device: torch.device) -> None:
    """Check output and gradients of a model that was traced with another batch size, saved and loaded."""
    model, x, _ = example(name, device, TRACED)
    file = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):  # torch lists the sizes that a trace takes for constant
        torch.jit.save(torch.jit.trace(model, (torch.cat([x, x], dim=1),)), file)
        file.seek(0)
        loaded = torch.jit.load(file)

    def results(one: Example) -> Results:
        loaded.load_state_dict(one.model.state_dict())
        return one._replace(model=cast(HyperLSTM, loaded)).results()

    each_agrees(results, model, TRACED, device)
