"""Checks of uses of a torch module; each raises unless an implementation does it right."""

import copy
import io
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.utils._pytree import tree_map
from torch.utils.checkpoint import checkpoint

from impls import HyperLSTM
from impls.gradient.chunks import limited
from impls.registry import find
from suite.shared.cases import TWO_LAYERS, Case
from suite.shared.compare import (
    DRAWS,
    STATE_NAMES,
    Results,
    assert_bitwise_equal,
    assert_close,
    draw,
    evaluate,
    implementation,
)
from suite.shared.usage import peak_bytes

CASE = replace(TWO_LAYERS, T=3, layer_norm=True, state="none", strided=False)
#: For graphs, which contain every step of a loop in Python.
TRACED = replace(CASE, T=2, L=1)
#: A packed batch that is not sorted by length, and masks, which a seed makes the same everywhere.
PACKED, DROPPED = replace(TRACED, lengths=(1, 2, 1)), replace(TRACED, recurrent_dropout=0.5)
#: In evaluation mode, without dropout.
KEPT = replace(DROPPED, training=False)
#: So many rows that chunks are short, so few units that the weights of one step are small compared with all outputs.
WIDE = Case(T=50, B=256, I=4, H=16, S=8, Z=2)
STEPS = 100_000

Call = Callable[[Tensor], tuple[Tensor, ...]]
#: Raises if the implementation fails.
Check = Callable[[str, torch.device], None]


class Example(NamedTuple):
    """A model with random parameters, its input and cotangents."""

    model: HyperLSTM
    x: Tensor
    cotangents: tuple[Tensor, ...]  # of out and of the four final states

    def results(self, call: Callable[[Tensor], Any] | None = None) -> Results:
        """out, final states and every gradient; call: what to call in place of the model."""
        x = self.x.detach().requires_grad_()
        out, last = (call or self.model)(x)
        leaves = {"x": x, **dict(self.model.named_parameters())}
        cotangents = [c.to(out.dtype) for c in self.cotangents]
        grads = torch.autograd.grad((out, *last), list(leaves.values()), cotangents)
        return outputs(out, last) | {f"grad {key}": g for key, g in zip(leaves, grads, strict=True)}


def outputs(out: Tensor, last: tuple[Tensor, ...]) -> Results:
    return {"out": out, **dict(zip(STATE_NAMES, last, strict=True))}


def example(name: str, device: torch.device, case: Case = CASE, dtype: torch.dtype = torch.float32) -> Example:
    """Draw 0 of a case."""
    return drawn(implementation(name)(case, dtype, device), case, dtype, device)


def drawn(model: HyperLSTM, case: Case, dtype: torch.dtype, device: torch.device, seed: int = 0) -> Example:
    params, x, _, cotangents = draw(case, seed, dtype, device)
    model.load_state_dict(params)
    return Example(model, x, cotangents)


def each_agrees(results: Callable[[Example], Results], model: HyperLSTM, case: Case, device: torch.device) -> None:
    """Compare the results of all draws, stacked, with the oracle by the tolerance rule."""
    runs = []
    for seed in range(DRAWS):
        one = drawn(model, case, torch.float32, device, seed)
        torch.manual_seed(seed)  # of masks
        runs.append(results(one))
    assert_close(tree_map(lambda *q: torch.stack(q), *runs), case, device, DRAWS)


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


def jacobian(compute: Callable[[Call, Tensor], tuple[Tensor, ...]], name: str, device: torch.device) -> None:
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


def right(case: Case, name: str, device: torch.device) -> None:
    results = evaluate(implementation(name), case, torch.float32, device, rounded=torch.float32)
    assert_close(results, case, device, DRAWS)


def checkpointing(name: str, device: torch.device) -> None:
    """Check that recomputing in the backward pass, with the same masks, changes no bit."""
    model, x, _ = example(name, device, DROPPED)
    leaves = {"x": x.requires_grad_(), **dict(model.named_parameters())}

    def gradients(call: Callable[[Tensor], Any]) -> Results:
        torch.manual_seed(0)
        for leaf in leaves.values():
            leaf.grad = None
        call(x)[0].square().sum().backward()  # with a reentrant checkpoint nothing else is supported
        return {key: leaf.grad for key, leaf in leaves.items() if leaf.grad is not None}

    for reentrant in (False, True):
        assert_bitwise_equal(gradients(partial(checkpoint, model, use_reentrant=reentrant)), gradients(model))


def cuda_graph(name: str, device: torch.device) -> None:
    """Check a training step captured once and replayed on another input."""
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
