"""Uses of a torch module beyond calling it, as a table: a check of each, and who refuses it with which error."""

import copy
import io
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import jacobian
from torch.func import functional_call, grad, jacrev, vmap
from torch.nn import Module
from torch.nn.utils import prune, remove_spectral_norm, remove_weight_norm, spectral_norm, weight_norm
from torch.utils._pytree import tree_map
from torch.utils.checkpoint import checkpoint

from impls import HyperLSTM, registry
from impls.gradient.chunks import limited
from impls.registry import Impl, find
from suite.checks.module import ranks, saved
from suite.checks.module.runs import CASE, DROPPED, KEPT, PACKED, TRACED, Example, drawn, each_agrees, example, outputs
from suite.shared.cases import Case
from suite.shared.compare import (
    DRAWS,
    OUTPUTS,
    Results,
    assert_bitwise_equal,
    assert_close,
    assert_within_rule,
    draw,
    evaluate,
    implementation,
)
from suite.shared.oracle import Output, State, plain
from suite.shared.usage import peak_bytes

#: So many rows that chunks are short, so few units that the weights of one step are small compared with all outputs.
WIDE = Case(T=50, B=256, I=4, H=16, S=8, Z=2)
STEPS = 100_000
#: The parameter that hooks are put on, in every layer.
HOOKED = "weight_h"

Call = Callable[[Tensor], tuple[Tensor, ...]]
Hook = Callable[[Module, str], object]
#: Raises, or skips the test, unless an implementation does it right.
Check = Callable[[str, torch.device], None]


def right(case: Case, name: str, device: torch.device) -> None:
    """Check output, states and every gradient against the oracle."""
    results = evaluate(implementation(name), case, torch.float32, device, rounded=torch.float32)
    assert_close(results, case, device, DRAWS)


def autocast(dtype: torch.dtype, name: str, device: torch.device) -> None:
    """Check that autocast equals, to the bit, casting parameters and input."""
    wide = example(name, device)

    def cast(x: Tensor) -> Any:
        with torch.autocast(device.type, dtype):
            return wide.model(x)

    results = wide.results(cast)
    if results["out"].dtype != dtype:
        raise AssertionError(f"out: expected {dtype}, got {results['out'].dtype}")
    expected = Example(copy.deepcopy(wide.model).to(dtype), wide.x.to(dtype), wide.cotangents).results()
    # A gradient has the dtype of its parameter or input.
    assert_bitwise_equal(
        results, {key: q.to(torch.float32) if key.startswith("grad") else q for key, q in expected.items()}
    )


def second_derivative(name: str, device: torch.device) -> None:
    """Check the gradient of the gradient against that of naive, which `test_oracle.py` checks numerically."""
    dtype = torch.float64 if torch.float64 in find(name).dtypes else torch.float32

    def twice(name: str) -> tuple[Tensor, ...]:
        model, x, _ = example(name, device, TRACED, dtype)
        leaves = [x.requires_grad_(), *model.parameters()]
        out, last = model(x)
        loss = torch.stack([y.square().sum() for y in (out, *last)]).sum()
        first = torch.autograd.grad(loss, leaves, create_graph=True)
        return torch.autograd.grad(torch.stack([g.square().sum() for g in first]).sum(), leaves)

    torch.testing.assert_close(twice(name), twice("naive"))


def compile_fullgraph(name: str, device: torch.device) -> None:
    """Check forward and backward, with masks, in one graph without a break; aot_eager traces as inductor does."""
    traced = example(name, device, DROPPED)
    traced.model.compile(backend="aot_eager", fullgraph=True)
    each_agrees(Example.results, traced.model, DROPPED, device)


def export(name: str, device: torch.device) -> None:
    """Check a program exported for any batch size, saved and loaded, on another batch size."""
    model, x, _ = example(name, device, KEPT)
    batch, B = torch.export.Dim("batch", min=2), TRACED.B
    with torch.no_grad():
        program = torch.export.export(model, (x,), dynamic_shapes=({1: batch},))
        file = io.BytesIO()
        torch.export.save(program, file)
        file.seek(0)
        loaded = torch.export.load(file).module()

    def results(one: Example, second: bool) -> Results:
        loaded.load_state_dict(one.model.state_dict())
        with torch.no_grad():
            whole = outputs(*loaded(torch.cat([one.x, one.x.flip(1)], dim=1)))
        return {key: value[:, B:].flip(1) if second else value[:, :B] for key, value in whole.items()}

    for second in (False, True):
        each_agrees(partial(results, second=second), model, KEPT, device)


def functional(name: str, device: torch.device) -> None:
    """Check grad of a functional_call with parameters that are not the module's own."""

    def results(one: Example) -> Results:
        model, x, cotangents = one
        params = {key: p.detach().clone() for key, p in model.named_parameters()}
        model.reset_parameters()
        before = copy.deepcopy(model.state_dict())
        gradients = _gradients(model, params, x, cotangents)
        assert_bitwise_equal(model.state_dict(), before)
        return gradients

    each_agrees(results, implementation(name)(CASE, torch.float32, device), CASE, device)


def ensemble(name: str, device: torch.device) -> None:
    """Check vmap over several models' parameters, of forward and gradient."""
    model = implementation(name)(CASE, torch.float32, device)
    draws = [draw(CASE, seed, torch.float32, device) for seed in range(DRAWS)]
    stacked = tree_map(lambda *q: torch.stack(q), *((one.params, one.x, one.cotangents) for one in draws))
    assert_close(vmap(lambda *q: _gradients(model, *q))(*stacked), CASE, device, DRAWS)


def _gradients(model: HyperLSTM, params: dict[str, Tensor], x: Tensor, cotangents: tuple[Tensor, ...]) -> Results:
    def loss(params: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Results]:
        out, last = functional_call(model, params, (x,))
        products = [(c * y).sum() for c, y in zip(cotangents, (out, *last), strict=True)]
        return torch.stack(products).sum(), outputs(out, last)

    (by_params, by_x), results = grad(loss, argnums=(0, 1), has_aux=True)(params, x)
    return {**results, "grad x": by_x, **{f"grad {key}": g for key, g in by_params.items()}}


def jacobian_by_x(compute: Callable[[Call, Tensor], tuple[Tensor, ...]], name: str, device: torch.device) -> None:
    """Check the Jacobian by x, which contains the gradient for any cotangent."""

    def results(one: Example) -> Results:
        def call(x: Tensor) -> tuple[Tensor, ...]:
            out, last = one.model(x)
            return (out, *last)

        parts = [torch.tensordot(c, J, c.dim()) for c, J in zip(one.cotangents, compute(call, one.x), strict=True)]
        return {"grad x": torch.stack(parts).sum(0)}

    each_agrees(results, implementation(name)(TRACED, torch.float32, device), TRACED, device)


def shapes_on_meta(name: str, device: torch.device) -> None:
    """Check shapes and dtypes of a model on the meta device, and of the gradients, against those on the device."""
    real = example(name, device, TRACED)
    meta = Example(*tree_map(lambda q: q.to("meta"), (copy.deepcopy(real.model), real.x, real.cotangents)))
    shapes, expected = ({key: (q.shape, q.dtype) for key, q in one.results().items()} for one in (meta, real))
    if shapes != expected:
        raise AssertionError(f"meta: expected {expected}, got {shapes}")


def checkpointing(name: str, device: torch.device) -> None:
    """Check a call that the backward pass repeats with the same masks.

    A reentrant checkpoint has no graph at first, where `torch.matmul` may choose another product: bits may differ.
    """
    for reentrant in (False, True):
        results = evaluate(
            implementation(name),
            DROPPED,
            torch.float32,
            device,
            rounded=torch.float32,
            run=partial(plain, call=partial(_checkpointed, reentrant)),
        )
        assert_close(results, DROPPED, device, DRAWS)


def _checkpointed(reentrant: bool, model: Module, case: Case, x: Tensor, state: State | None) -> Output:
    def flat(x: Tensor) -> tuple[Tensor, ...]:  # tensors of a tuple in a tuple would have no gradient
        out, last = model(x, state)
        return (out, *last)

    out, *last = checkpoint(flat, x, use_reentrant=reentrant)
    return out, tuple(last)


def hooked(put_on: Hook, take_off: Hook, name: str, device: torch.device) -> None:
    """Check a model after a training step under a hook against naive, and without it against one without hooks."""
    draws = []
    for seed in range(DRAWS):
        one = drawn(implementation(name)(CASE, torch.float32, device), CASE, torch.float32, device, seed)
        model = one.model
        for layer in model.layers:
            put_on(layer, HOOKED)
        out, last = model(one.x)
        torch.autograd.backward((out, *last), one.cotangents)
        torch.optim.SGD(model.parameters(), lr=0.01).step()
        model.eval()  # or each call would change the weight of spectral_norm
        under = one.results()
        model.impl = "naive"
        oracle = Example(model.double(), one.x.double(), one.cotangents).results()
        model.float()
        draws.append((under, oracle, one.results()))
        model.impl = name
        for layer in model.layers:
            take_off(layer, HOOKED)
        without = implementation(name)(CASE, torch.float32, device)
        without.load_state_dict(model.state_dict())
        expected = one._replace(model=without).results()
        assert_bitwise_equal(one.results(), expected)
        assert_bitwise_equal({key: under[key] for key in OUTPUTS}, {key: expected[key] for key in OUTPUTS})
    assert_within_rule(*tree_map(lambda *q: torch.stack(q), *draws))


def cuda_graph(name: str, device: torch.device) -> None:
    """Check a training step captured once and replayed on another input."""
    if device.type != "cuda":
        pytest.skip("No CUDA device here.")
    case = replace(CASE, T=8)
    model, x, cotangents = example(name, device, case)
    replayed = Example(model, x.clone(), cotangents)
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(3):  # compiles and allocates
            replayed.results()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = replayed.results()
    for sign in (1, -1):
        replayed.x.copy_(sign * x)
        graph.replay()
        assert_bitwise_equal(
            {key: value.clone() for key, value in results.items()}, Example(model, sign * x, cotangents).results()
        )


def long_sequence(name: str, device: torch.device) -> None:
    """Check that memory of the forward pass grows only by the output, and that it runs 100,000 steps."""
    model, _, _ = example(name, device, WIDE)
    with torch.no_grad():
        model(_noise(2, device))
        # With short chunks, memory per step shows over a few.
        with limited(device.type, forward=1 << 20):
            peaks = [peak_bytes(partial(model, _noise(T, device)), device) for T in (WIDE.T, 3 * WIDE.T)]
        share = (peaks[1] - peaks[0]) / (4 * WIDE.B * WIDE.H * 2 * WIDE.T)
        if share > 1.1:
            raise RuntimeError(
                f"Per step, the peak holds {share:.1f} times the output, so T of {STEPS:,} was not tried."
            )
        out, last = model(_noise(STEPS, device, B=1))
    if not bool(out.isfinite().all()):
        raise AssertionError(f"out: expected finite numbers over {STEPS:,} steps")
    assert_bitwise_equal({"h": last[0][-1]}, {"h": out[-1]})


def _noise(T: int, device: torch.device, B: int = WIDE.B) -> Tensor:
    return torch.randn(T, B, WIDE.I, generator=torch.Generator().manual_seed(0)).to(device)


def threads(name: str, device: torch.device) -> None:
    """Check that threads which train on one module at once get the same bits as one thread alone."""
    alone = example(name, device)
    inputs = [alone._replace(x=alone.x * math.cos(n)) for n in range(8)]
    expected = [one.results() for one in inputs]
    # A new thread has the default number of threads for products, whatever was set; bits depend on it.
    with ThreadPoolExecutor(4, initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),)) as pool:
        for _ in range(3):
            for results, reference in zip(pool.map(Example.results, inputs), expected, strict=True):
                assert_bitwise_equal(results, reference)


class Capability(NamedTuple):
    """A check, who passes it, and a pattern of the error of the others, in which {able} names those who pass."""

    check: Check
    able: Callable[[Impl], bool] = lambda impl: True
    refusal: str = ""

    def marks(self, impl: Impl) -> list[pytest.MarkDecorator]:
        """What pytest expects of an implementation."""
        if self.able(impl):
            return []
        return [pytest.mark.xfail(raises=pytest.RaisesExc((NotImplementedError, RuntimeError), match=self.pattern))]

    @property
    def pattern(self) -> str:
        """Pattern of the error of those who do not pass it."""
        return self.refusal.format(able=", ".join(each.name for each in registry.IMPLS if self.able(each)))


def _by_autograd(impl: Impl) -> bool:
    return not impl.hand_written


_IN_FUNC = "inside a transform of torch.func nor under forward-mode AD; these do: {able}, and 'auto'"
_RECORDED = "cannot record; these can be recorded: {able}, and 'auto'"
CAPABILITIES = {
    "packed sequences": Capability(partial(right, PACKED)),
    "recurrent dropout": Capability(partial(right, DROPPED)),
    "autocast to bfloat16": Capability(partial(autocast, torch.bfloat16)),
    "autocast to float16": Capability(
        partial(autocast, torch.float16), lambda impl: torch.float16 in impl.dtypes, r"computes in .*, not in float16\."
    ),
    "second derivative": Capability(second_derivative, _by_autograd, "no second derivative; these have: {able}$"),
    "torch.compile, fullgraph": Capability(compile_fullgraph),
    "torch.export and a reload, any batch": Capability(export),
    "torch.onnx.export, any batch": Capability(saved.onnx, _by_autograd, _RECORDED),
    "torch.jit.trace and a reload, any batch": Capability(saved.traced, _by_autograd, _RECORDED),
    "torch.func.functional_call, grad": Capability(functional, _by_autograd, _IN_FUNC),
    "torch.func.vmap over an ensemble": Capability(ensemble, _by_autograd, _IN_FUNC),
    "torch.func.jacrev": Capability(partial(jacobian_by_x, lambda call, x: jacrev(call)(x)), _by_autograd, _IN_FUNC),
    "jacobian, vectorize=True": Capability(
        partial(jacobian_by_x, partial(jacobian, vectorize=True)),
        _by_autograd,
        "takes no batch of gradients .*; these do: {able}$",
    ),
    "shapes on the meta device": Capability(
        shapes_on_meta, lambda impl: not impl.experimental, "not on meta.*: {able}"
    ),
    "gradient checkpointing": Capability(checkpointing),
    "torch.nn.utils.prune": Capability(partial(hooked, partial(prune.l1_unstructured, amount=0.5), prune.remove)),
    "torch.nn.utils.weight_norm": Capability(partial(hooked, weight_norm, remove_weight_norm)),
    "torch.nn.utils.spectral_norm": Capability(partial(hooked, spectral_norm, remove_spectral_norm)),
    "CUDA graph capture": Capability(cuda_graph),
    "deepcopy and pickle": Capability(partial(saved.copied, saved.pickled)),
    "torch.load, weights_only": Capability(partial(saved.copied, saved.weights_only)),
    "safetensors": Capability(partial(saved.copied, saved.safetensors)),
    # For one launch of all steps, what runs on a GPU alone makes the products with x of all of them at once.
    f"T of {STEPS:,}, memory for the output alone": Capability(
        long_sequence,
        lambda impl: impl.hand_written and "cpu" in impl.devices,
        r"Per step, the peak holds \d+\.\d times the output",
    ),
    "threads": Capability(threads),
    "DistributedDataParallel": Capability(partial(ranks.halves, "data_parallel")),
    "fully_shard": Capability(partial(ranks.halves, "sharded")),
}
