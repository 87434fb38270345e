"""Checks of copies of a model, of what is saved of it, and of models recorded to run without this package."""

import copy
import io
import pickle
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from impls import HyperLSTM
from suite.checks.equality.leftovers import altered, settings
from suite.checks.module.runs import CASE, F32, KEPT, TRACED, agrees, by_grad
from suite.shared.cases import Case
from suite.shared.compare import assert_bitwise_equal, assert_close, draw, implementation, model_and_draw
from suite.shared.oracle import OUTPUTS, Draw, Results, plain

#: In evaluation mode, with all options.
COPIED = replace(CASE, dropout=0.25, recurrent_dropout=0.5, training=False)


def copied(copies: Callable[[HyperLSTM], HyperLSTM], name: str, device: torch.device) -> None:
    """Check that a copy has the same options and results, and that it shares no option or parameter."""
    model, sample = model_and_draw(name, COPIED, F32, device)
    duplicate, before = copies(model), settings(model)
    shared = [name for name, p in model.named_parameters() if p is duplicate.get_parameter(name)]
    if shared or altered(duplicate, before):
        raise AssertionError(
            f"copy: expected its own {shared}, and options as before, got {altered(duplicate, before)}"
        )
    results = []
    for one in (model, duplicate):
        torch.manual_seed(0)
        results.append(plain(one.train(), COPIED, sample))
    assert_bitwise_equal(*results)
    duplicate.dropout, duplicate.recurrent_dropout, duplicate.batch_first = 0.1, 0.1, True
    if changed := altered(model.eval(), before):
        raise AssertionError(f"model: expected no change by its copy, got {changed}")


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
    again = implementation(model.impl)(COPIED, F32, next(model.parameters()).device)
    again.load_state_dict(state_dict)
    return again


def onnx(name: str, device: torch.device) -> None:
    """Check a model exported for any batch size under onnxruntime, on another batch size."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"Not installed: {package}; `nox -s export` has it.")
    import onnxruntime

    model, sample = model_and_draw(name, KEPT, F32, device)
    try:
        program = torch.onnx.export(
            model, (sample.x,), dynamo=True, verbose=False, dynamic_shapes=({1: torch.export.Dim("batch", min=2)},)
        )
    except torch.onnx.OnnxExporterError as error:
        raise (error.__cause__ or error) from None  # torch wraps what an implementation says in advice of its own
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    cpu, wider = torch.device("cpu"), replace(KEPT, B=24)
    x = draw(wider, 0, F32, cpu).x  # of the draw with the same parameters, which do not depend on B
    arrays = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert_close({part: torch.from_numpy(q)[None] for part, q in zip(OUTPUTS, arrays, strict=True)}, wider, cpu, 1)


def traced(name: str, device: torch.device) -> None:
    """Check output and gradients of a model that was traced with another batch size, saved and loaded."""
    model, sample = model_and_draw(name, TRACED, F32, device)
    file, before = io.BytesIO(), settings(model)
    with warnings.catch_warnings(action="ignore"):  # torch lists the sizes that a trace takes for constant
        torch.jit.save(torch.jit.trace(model, (torch.cat([sample.x, sample.x], dim=1),)), file)
        file.seek(0)
        loaded = torch.jit.load(file)
    if changed := altered(model, before):
        raise AssertionError(f"model: expected no change by torch.jit.trace, got {changed}")

    def results(model: HyperLSTM, case: Case, sample: Draw) -> Results:
        loaded.load_state_dict(sample.params)
        return by_grad(loaded, sample)

    agrees(implementation(name), TRACED, device, results)
