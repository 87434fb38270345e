"""Uses of a torch module beyond calling it, as a table: a check of each, and who refuses it with which error."""

import copy
import io
import math
import pickle
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.functional import jacobian
from torch.distributed.device_mesh import init_device_mesh
from torch.func import functional_call, grad, jacrev, vmap
from torch.nn import Module
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils._pytree import tree_map, tree_map_only
from torch.utils.checkpoint import checkpoint

from impls import HyperLSTM, registry, why_unavailable
from impls.definition import dtype_name
from impls.gradient.chunks import limited
from impls.registry import ORACLE, Impl, find
from suite.candidates import submission
from suite.cases.case import Case
from suite.checks.equality.leftovers import altered, settings
from suite.checks.module.runs import CASE, DROPPED, F32, KEPT, PACKED, TRACED, agrees, by_grad
from suite.comparison.draws import DRAWS, Draw, draw, implementation, model_and_draw
from suite.comparison.runs import Returned, State, arguments, by_output, outputs, packed, plain
from suite.comparison.tensors import OUTPUTS, Gradient, Results
from suite.comparison.tolerance import assert_bitwise_equal, assert_right, assert_within_rule, judge
from suite.shared.usage import peak_bytes

#: Many rows, so that chunks are short, and few units, so that the weights of a step are small beside the outputs.
WIDE = Case(T=50, B=256, I=4, H=16, S=8, Z=2)
STEPS = 20_000
#: In evaluation mode, with all options.
COPIED = replace(CASE, dropout=0.25, recurrent_dropout=0.5, training=False)
CPU = torch.device("cpu")
#: The parameter that hooks are put on, in every layer.
HOOKED = "weight_h"

Call = Callable[[Tensor], tuple[Tensor, ...]]
Hook = Callable[[Module, str], object]
#: Raises, or skips the test, unless an implementation does it right.
Check = Callable[[str, torch.device], None]


def right(case: Case, name: str, device: torch.device) -> None:
    """Check output, states and every gradient against the oracle."""
    agrees(implementation(name), case, device)


def autocast(dtype: torch.dtype, name: str, device: torch.device) -> None:
    """Check that autocast equals, to the bit, casting parameters and input."""

    def cast(model: Module, case: Case, x: Tensor, state: State | None) -> Returned:
        with torch.autocast(device.type, dtype):
            return packed(model, case, x, state)

    model, sample = model_and_draw(name, CASE, F32, device)
    results = plain(model, CASE, sample, call=cast)
    narrow: Draw = tree_map_only(Tensor, lambda q: q.to(dtype), sample)
    expected = plain(copy.deepcopy(model).to(dtype), CASE, narrow)
    for key, value in expected.items():
        if isinstance(key, Gradient):
            expected[key] = value.to(F32)  # the dtype of its parameter or input
    assert_bitwise_equal(results, expected)


def second_derivative(name: str, device: torch.device) -> None:
    """Check the gradient of the gradient against that of naive, which `test_oracle.py` checks numerically.

    The loss is linear, so the gradient that arrives is constant, and only the leaves are differentiated again.
    """

    def twice(name: str, dtype: torch.dtype) -> Results:
        model, sample = model_and_draw(name, TRACED, dtype, device)
        leaves = arguments(model, sample)
        sums = [y.sum() for y in outputs(model, TRACED, leaves).values()]
        loss = torch.stack(sums).sum()
        first = torch.autograd.grad(loss, list(leaves.values()), create_graph=True)
        squares = [g.square().sum() for g in first]
        second = torch.autograd.grad(torch.stack(squares).sum(), list(leaves.values()))
        return {Gradient(leaf): g for leaf, g in zip(leaves, second, strict=True)}

    dtype = find(name).dtypes[0]
    assert_right(judge(name, twice(name, dtype), twice(ORACLE, torch.float64), twice(ORACLE, dtype), dtype))


def compile_fullgraph(name: str, device: torch.device) -> None:
    """Check forward and backward, with masks, in one graph without a break; aot_eager traces as inductor does."""
    model = implementation(name)(DROPPED, F32, device)
    model.compile(backend="aot_eager", fullgraph=True)
    agrees(lambda *_: model, DROPPED, device)


def export(name: str, device: torch.device) -> None:
    """Check a program exported for any batch size, with another one than it is called with, saved and loaded."""
    model, sample = model_and_draw(name, KEPT, F32, device)
    batch = torch.export.Dim("batch", min=2)
    twice = torch.cat([sample.x, sample.x], 1)
    with torch.no_grad():
        program = torch.export.export(model, (twice,), dynamic_shapes=({1: batch},))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded: Any = torch.export.load(file).module()

    def results(model: HyperLSTM, case: Case, sample: Draw) -> Results:
        with torch.no_grad():
            return by_output(*model(sample.x))

    agrees(lambda *_: loaded, KEPT, device, results)


def onnx(name: str, device: torch.device) -> None:
    """Check a model exported for any batch size under onnxruntime, on another batch size."""
    _import_onnx()
    model, sample = model_and_draw(name, KEPT, F32, device)
    any_batch = ({1: torch.export.Dim("batch", min=2)},)
    try:
        program = torch.onnx.export(model, (sample.x,), dynamo=True, verbose=False, dynamic_shapes=any_batch)
    except torch.onnx.OnnxExporterError as error:
        raise (error.__cause__ or error) from None  # torch wraps what an implementation says in advice of its own
    assert program is not None
    _run_by_onnxruntime(program.model_proto.SerializeToString(), replace(KEPT, B=24))


def onnx_by_trace(name: str, device: torch.device) -> None:
    """Check a model exported by the older exporter, for its batch size alone, under onnxruntime."""
    _import_onnx()
    model, sample = model_and_draw(name, KEPT, F32, device)
    file: Any = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):  # of what a trace takes for constant, and of the newer exporter
        torch.onnx.export(model, (sample.x,), file, dynamo=False)
    _run_by_onnxruntime(file.getvalue(), KEPT)


def _import_onnx() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"Not installed: {package}; `nox -s export` has it.")


def _run_by_onnxruntime(file: bytes, case: Case) -> None:
    """Check the results of an exported model; case: with the parameters of draw 0, which do not depend on B."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    x = draw(case, 0, F32, CPU).x
    arrays = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    results: Results = {}
    for output, array in zip(OUTPUTS, arrays, strict=True):
        results[output] = torch.from_numpy(array)[None]
    assert_within_rule(results, case, CPU, 1)


def traced(name: str, device: torch.device) -> None:
    """Check output and gradients of a model that was traced with another batch size, saved and loaded."""
    model, sample = model_and_draw(name, TRACED, F32, device)
    file = io.BytesIO()
    twice = torch.cat([sample.x, sample.x], dim=1)
    with warnings.catch_warnings(action="ignore"):  # torch lists the sizes that a trace takes for constant
        torch.jit.save(torch.jit.trace(model, (twice,)), file)
        file.seek(0)
        loaded = torch.jit.load(file)

    def results(model: HyperLSTM, case: Case, sample: Draw) -> Results:
        loaded.load_state_dict(sample.params)
        return by_grad(loaded, sample)

    agrees(implementation(name), TRACED, device, results)


def ensemble(name: str, device: torch.device) -> None:
    """Check vmap over several models' parameters, of forward and gradient."""
    model = implementation(name)(CASE, F32, device)
    samples = [draw(CASE, seed, F32, device) for seed in range(DRAWS)]
    numbers = [(sample.params, sample.x, sample.cotangents) for sample in samples]
    stacked = tree_map(lambda *q: torch.stack(q), *numbers)
    results = vmap(partial(_gradients, model))(*stacked)
    assert_within_rule(results, CASE, device, DRAWS)


def _gradients(model: HyperLSTM, params: dict[str, Tensor], x: Tensor, cotangents: tuple[Tensor, ...]) -> Results:
    def loss(params: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Results]:
        results = by_output(*functional_call(model, params, (x,)))
        products = [(c * y).sum() for c, y in zip(cotangents, results.values(), strict=True)]
        return torch.stack(products).sum(), results

    (by_params, by_x), results = grad(loss, argnums=(0, 1), has_aux=True)(params, x)
    gradients: Results = {Gradient("x"): by_x}
    for key, by_param in by_params.items():
        gradients[Gradient(key)] = by_param
    return {**results, **gradients}


def jacobian_by_x(compute: Callable[[Call, Tensor], tuple[Tensor, ...]], name: str, device: torch.device) -> None:
    """Check the Jacobian by x, which contains the gradient for any cotangent."""

    def results(model: HyperLSTM, case: Case, sample: Draw) -> Results:
        def call(x: Tensor) -> tuple[Tensor, ...]:
            return tuple(by_output(*model(x)).values())

        jacobians = compute(call, sample.x)
        products = []
        for cotangent, by_x in zip(sample.cotangents, jacobians, strict=True):
            products.append(torch.tensordot(cotangent, by_x, cotangent.dim()))
        return {Gradient("x"): torch.stack(products).sum(0)}

    agrees(implementation(name), TRACED, device, results)


def shapes_on_meta(name: str, device: torch.device) -> None:
    """Check shapes and dtypes of a model on the meta device, and of the gradients, against those on the device."""
    model, sample = model_and_draw(name, TRACED, F32, device)
    on_meta: Draw = tree_map_only(Tensor, lambda q: q.to("meta"), sample)
    shapes = []
    for of_device, numbers in ((copy.deepcopy(model).to("meta"), on_meta), (model, sample)):
        results = plain(of_device, TRACED, numbers)
        shapes.append({key: (value.shape, value.dtype) for key, value in results.items()})
    got, expected = shapes
    if got != expected:
        raise AssertionError(f"meta: expected {expected}, got {got}")


def checkpointing(name: str, device: torch.device) -> None:
    """Check a call that the backward pass repeats with the same masks.

    A reentrant checkpoint has no graph at first, where `torch.matmul` may choose another product: bits may differ.
    """
    for reentrant in (False, True):
        call = partial(_checkpointed, reentrant)
        agrees(implementation(name), DROPPED, device, partial(plain, call=call))


def _checkpointed(reentrant: bool, model: Module, case: Case, x: Tensor, state: State | None) -> Returned:
    def flat(x: Tensor) -> tuple[Tensor, ...]:  # tensors of a tuple in a tuple would have no gradient
        return tuple(by_output(*model(x, state)).values())

    out, *last = checkpoint(flat, x, use_reentrant=reentrant)
    return out, tuple(last)


def hooked(put_on: Hook, take_off: Hook, name: str, device: torch.device) -> None:
    """Check a model under a hook after a training step, and without the hook against one that had none."""
    dtype = find(name).dtypes[0]
    model, sample = model_and_draw(name, CASE, dtype, device)
    for layer in model.layers:
        put_on(layer, HOOKED)
    plain(model, CASE, sample)
    torch.optim.SGD(model.parameters(), lr=0.01).step()
    under = plain(model, CASE, sample)

    def of_oracle(dtype: torch.dtype) -> Results:
        oracle = implementation(ORACLE)(CASE, dtype, device)
        for layer in oracle.layers:
            put_on(layer, HOOKED)
        oracle.load_state_dict(model.state_dict())
        return plain(oracle, CASE, tree_map_only(Tensor, lambda value: value.to(dtype), sample))

    assert_right(judge(name, under, of_oracle(torch.float64), of_oracle(dtype), dtype))
    for layer in model.layers:
        take_off(layer, HOOKED)
    without = implementation(name)(CASE, dtype, device)
    without.load_state_dict(model.state_dict())
    expected = plain(without, CASE, sample)
    assert_bitwise_equal(plain(model, CASE, sample), expected)
    assert_bitwise_equal({key: under[key] for key in OUTPUTS}, {key: expected[key] for key in OUTPUTS})


def copied(name: str, device: torch.device) -> None:
    """Check that a pickled copy has the same options and results."""
    model, sample = model_and_draw(name, COPIED, F32, device)
    pickled = pickle.dumps(copy.deepcopy(model))
    duplicate = pickle.loads(pickled)
    changed = altered(duplicate, settings(model))
    if changed:
        raise AssertionError(f"copy: expected the options of the model, got {changed}")
    results = []
    for trained in (model, duplicate):
        torch.manual_seed(0)
        results.append(plain(trained.train(), COPIED, sample))
    assert_bitwise_equal(*results)


class GrowsError(RuntimeError):
    """Peak memory grows with each step by more than the output."""


def long_sequence(name: str, device: torch.device) -> None:
    """Check that memory of the forward pass grows only by the output, and that it runs 20,000 steps."""
    model, _ = model_and_draw(name, WIDE, F32, device)
    with torch.no_grad():
        model(_noise(2, device))
        # With short chunks, memory per step shows over a few.
        with limited(device.type, forward=1 << 20):
            peaks = []
            for T in (WIDE.T, 3 * WIDE.T):
                call = partial(model, _noise(T, device))
                peaks.append(peak_bytes(call, device))
        output = 4 * WIDE.B * WIDE.H * 2 * WIDE.T
        share = (peaks[1] - peaks[0]) / output
        if share > 1.1:
            raise GrowsError(f"Per step, the peak holds {share:.1f} times the output, so T of {STEPS:,} was not tried.")
        out, last = model(_noise(STEPS, device, B=1))
    if not bool(out.isfinite().all()):
        raise AssertionError(f"out: expected finite numbers over {STEPS:,} steps")
    assert_bitwise_equal({"h": last[0][-1]}, {"h": out[-1]})


def _noise(T: int, device: torch.device, B: int = WIDE.B) -> Tensor:
    return torch.randn(T, B, WIDE.I, generator=torch.Generator().manual_seed(0)).to(device)


def threads(name: str, device: torch.device) -> None:
    """Check that threads which train on one module at once get the same bits as one thread alone."""
    model, sample = model_and_draw(name, CASE, F32, device)
    samples = [sample._replace(x=sample.x * math.cos(n)) for n in range(8)]
    expected = [by_grad(model, sample) for sample in samples]
    # Else a new thread would have torch's default number of threads for products, on which bits depend.
    with ThreadPoolExecutor(4, initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),)) as pool:
        for _ in range(3):
            results = pool.map(partial(by_grad, model), samples)
            for result, reference in zip(results, expected, strict=True):
                assert_bitwise_equal(result, reference)


def in_a_group(wrap: Callable[[HyperLSTM], Module], name: str, device: torch.device) -> None:
    """Check a training step in a process group of one, on the CPU even if the rest runs on a GPU."""
    from torch.distributed.tensor import DTensor

    reason = why_unavailable(name, CPU)
    if reason:
        pytest.skip(reason)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    try:
        model, sample = model_and_draw(name, CASE, F32, CPU)
        wrapped = wrap(model)  # to live until the backward pass, whose gradients it reduces
        results = plain(model, CASE, sample, call=lambda model, *arguments: packed(wrapped, *arguments))
        whole: Results = tree_map_only(DTensor, DTensor.full_tensor, results)
        stacked: Results = {key: value[None] for key, value in whole.items()}
        assert_within_rule(stacked, CASE, CPU, 1)
    finally:
        dist.destroy_process_group()


def sharded(model: HyperLSTM) -> Module:
    from torch.distributed.fsdp import fully_shard  # takes a second to import

    mesh = init_device_mesh("cpu", (1,))  # by default torch shards over CUDA devices wherever there is one
    for layer in model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


class Capability(NamedTuple):
    """A check, who passes it, and the error of the others, which names those who pass."""

    check: Check
    able: Callable[[Impl], bool] = lambda impl: True
    refusal: type[RuntimeError] = NotImplementedError

    def attempt(self, name: str, device: torch.device) -> str:
        """Run the check: "" if it passes, the error's first line if the implementation refuses as expected.

        Where a file of --impl breaks the graph of torch.compile, it lacks that. Raises what the check raises otherwise,
        and AssertionError if the implementation should have refused.
        """
        able = self.able(find(name))
        try:
            self.check(name, device)
        except RuntimeError as error:
            lacks = name in submission.files() and isinstance(error, torch._dynamo.exc.Unsupported)
            others = ", ".join(impl.name for impl in registry.IMPLS if self.able(impl) and impl.runs_on(device))
            refused = type(error) is self.refusal and (others in str(error) or self.refusal is GrowsError)
            if not lacks and (able or not refused):
                raise
            return str(error).splitlines()[0]
        if not able:
            raise AssertionError("expected a refusal")
        return ""


def _by_autograd(impl: Impl) -> bool:
    return not impl.hand_written


CAPABILITIES = {
    "packed sequences": Capability(partial(right, PACKED)),
    "recurrent dropout": Capability(partial(right, DROPPED)),
    **{
        f"autocast to {dtype_name(dtype)}": Capability(
            partial(autocast, dtype),
            lambda impl, dtype=dtype: dtype in impl.dtypes,  # type: ignore[misc]
            RuntimeError,
        )
        for dtype in (torch.bfloat16, torch.float16)
    },
    "second derivative": Capability(second_derivative, _by_autograd),
    "torch.compile, fullgraph": Capability(compile_fullgraph),
    "torch.export and a reload, any batch": Capability(export),
    "torch.onnx.export, any batch": Capability(onnx, _by_autograd, RuntimeError),
    "torch.onnx.export, dynamo=False": Capability(onnx_by_trace, _by_autograd, RuntimeError),
    "torch.jit.trace and a reload, any batch": Capability(traced, _by_autograd, RuntimeError),
    "torch.func.vmap over an ensemble": Capability(ensemble, _by_autograd),
    "torch.func.jacrev": Capability(partial(jacobian_by_x, lambda call, x: jacrev(call)(x)), _by_autograd),
    "jacobian, vectorize=True": Capability(partial(jacobian_by_x, partial(jacobian, vectorize=True)), _by_autograd),
    "shapes on the meta device": Capability(shapes_on_meta, lambda impl: not impl.experimental, RuntimeError),
    "gradient checkpointing": Capability(checkpointing),
    "torch.nn.utils.prune": Capability(partial(hooked, partial(prune.l1_unstructured, amount=0.5), prune.remove)),
    "torch.nn.utils.parametrizations.weight_norm": Capability(
        partial(hooked, parametrizations.weight_norm, parametrize.remove_parametrizations)
    ),
    "deepcopy and pickle": Capability(copied),
    # For one launch of all steps, what runs on a GPU alone makes the products with x of all of them at once.
    f"T of {STEPS:,}, memory for the output alone": Capability(
        long_sequence,
        lambda impl: impl.hand_written and "cpu" in impl.devices,
        GrowsError,
    ),
    "threads": Capability(threads),
    "DistributedDataParallel": Capability(partial(in_a_group, DistributedDataParallel)),
    "fully_shard": Capability(partial(in_a_group, sharded)),
}
