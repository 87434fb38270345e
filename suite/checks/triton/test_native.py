"""`batched_cuda` on a GPU: every case of the interpreter at either split, full width, TF32, streams, graphs, refusals.

`nox -s cuda` runs those marked `cuda`, which show what only a GPU can; `nox -s verify` runs all. Without a GPU all are
skipped.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import pytest
import torch

from impls import why_unavailable
from impls.batched_cuda import split
from impls.gradient.chunks import limited
from suite.cases.case import Case
from suite.checks.equality.comparisons import against_naive
from suite.checks.module.runs import by_grad
from suite.checks.recording import Keep, verify_row
from suite.checks.triton import TRITON, interpreted
from suite.checks.triton.interpreted import CASES
from suite.checks.triton.launched import either_split
from suite.checks.triton.native import EITHER, FULL, MODELS, PRECISIONS, TOGETHER, WIDE
from suite.comparison.draws import implementation, model_and_draw
from suite.comparison.tensors import Results
from suite.comparison.tolerance import assert_bitwise_equal, compare, reference
from suite.shared.arithmetic import Arithmetic
from suite.shared.devices import DeviceType

#: Sizes that only a verification compares.
LONG_NARROW_WIDE = (
    Case(T=10_000, B=2, I=4, H=32, S=16, Z=4),
    Case(T=3, B=1, I=50, H=256, S=64, Z=4, layer_norm=True),
    Case(T=3, B=4096, I=4, H=40, S=16, Z=3),
)
#: How often each function of `at_once` is called: a queue of a GPU takes some 1,000 launches before the host waits.
ROUNDS = 10
#: Clocks for which a GPU is held: the host takes some 0.1 s to queue.
HELD = 3_000_000_000


@pytest.fixture
def gpu(device: torch.device) -> torch.device:
    """The GPU; skips the test where the implementation does not run on the device of this run."""
    reason = why_unavailable(TRITON, device)
    if device.type != DeviceType.CUDA or reason is not None:
        pytest.skip(reason or f"Needs --device cuda, this run is on {device.type}.")
    return device


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Multiply float32 in a precision while open; references follow it."""
    Arithmetic(name).use()
    reference.cache_clear()
    try:
        yield
    finally:
        Arithmetic.FLOAT32.use()
        reference.cache_clear()


@pytest.mark.parametrize("alone", [True, False], ids=["one member", "several"])
@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.id, marks=pytest.mark.cuda if case in EITHER else ()) for case in CASES]
)
@pytest.mark.parametrize("name", PRECISIONS)
def test_native_equals_the_oracle(case: Case, name: str, alone: bool, gpu: torch.device, keep: Keep) -> None:
    with precision(name), either_split(alone):
        comparison = against_naive(case, Arithmetic(name).dtype)
        worst = interpreted.judged(comparison, gpu)
    if not alone:
        row = verify_row(TRITON, Arithmetic(name), comparison.id, worst, oracle=comparison.oracle, case=case)
        keep("verify", row)
    assert not worst.wrong, str(worst)


@pytest.mark.parametrize(
    ("case", "name"),
    [pytest.param(case, name, id=f"{case.id}-{name}", marks=pytest.mark.cuda) for case, name in WIDE]
    + [pytest.param(case, "float32", id=case.id) for case in LONG_NARROW_WIDE],
)
def test_it_equals_deferred(case: Case, name: str, gpu: torch.device) -> None:
    dtype = Arithmetic(name).dtype
    with precision(name):
        worst = compare(implementation(TRITON), case, dtype, gpu, "deferred", draws=1)[0]
    assert not worst.wrong, str(worst)


@pytest.mark.cuda
def test_too_many_programs_are_refused(gpu: torch.device) -> None:
    """The driver refuses a cooperative launch that does not fit, and the card is well afterwards."""
    card, case = split.Card.of(gpu), FULL[0]
    model, (_, x, *_) = model_and_draw(TRITON, case, torch.bfloat16, gpu)
    with torch.no_grad():
        expected = model(x)[0]
        sizes = split.Sizes(case.B, case.H, case.S, case.Z, case.layer_norm, "bfloat16")
        crowd = replace(split.forward(sizes, card), members=64 * card.multiprocessors)
        with mock.patch.object(split, "forward", return_value=crowd), pytest.raises(RuntimeError, match="'deferred'"):
            model(x)
        assert torch.equal(model(x)[0], expected)


models = pytest.mark.parametrize("case", MODELS, ids=["off", "on"])


@pytest.mark.cuda
@models
def test_a_graph_gives_the_same_bits(case: Case, gpu: torch.device) -> None:
    model, (_, x, *_) = model_and_draw(TRITON, case, torch.bfloat16, gpu)
    expected = model(x)[0].detach()
    captured: Any = torch.cuda.make_graphed_callables(model, (torch.randn_like(x),))
    assert torch.equal(captured(x)[0], expected)


@pytest.mark.cuda
@models
def test_a_side_stream_gives_the_same_bits(case: Case, gpu: torch.device) -> None:
    one, stream = model_and_draw(TRITON, case, torch.bfloat16, gpu), torch.cuda.Stream(gpu)
    expected = by_grad(*one)
    stream.wait_stream(torch.cuda.current_stream(gpu))
    with torch.cuda.stream(stream):
        results = by_grad(*one)
    stream.synchronize()
    assert_bitwise_equal(results, expected)


@pytest.mark.cuda
def test_no_host_sync(gpu: torch.device) -> None:
    one = model_and_draw(TRITON, MODELS[1], torch.bfloat16, gpu)
    by_grad(*one)  # which loads the kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        by_grad(*one)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def at_once(functions: Sequence[Callable[[], Results]], device: torch.device) -> list[list[Results]]:
    """Results of functions, each called `ROUNDS` times on a stream of its own, which the GPU runs at the same time.

    It starts when all is queued: the host takes longer to queue a pass than the GPU to run it, so that passes that are
    run as they come never meet. AssertionError if it started before.
    """
    holding, *streams = (torch.cuda.Stream(device) for _ in range(1 + len(functions)))
    torch.cuda.synchronize(device)
    _queue(functions, streams)  # which finds memory for each stream, for which the host may wait
    torch.cuda.synchronize(device)
    released = torch.cuda.Event()
    with torch.cuda.stream(holding):
        torch.cuda._sleep(HELD)
        released.record()
    for stream in streams:
        stream.wait_event(released)
    results = _queue(functions, streams)
    started_early = released.query()
    torch.cuda.synchronize(device)
    assert not started_early, f"the GPU was held for {HELD} clocks, and the host queued for longer"
    return results


def _queue(functions: Sequence[Callable[[], Results]], streams: Sequence[torch.cuda.Stream]) -> list[list[Results]]:
    results: list[list[Results]] = [[] for _ in functions]
    for _ in range(ROUNDS):
        for function, stream, of_function in zip(functions, streams, results, strict=True):
            with torch.cuda.stream(stream):
                of_function.append(function())
    return results


def in_one_chunk(case: Case, gpu: torch.device) -> Callable[[], Results]:
    """A training step at a size, whose launches all fit into a queue, however little memory the GPU has."""
    step = partial(by_grad, *model_and_draw(TRITON, case, torch.bfloat16, gpu))

    def call() -> Results:
        with limited(gpu.type, backward=1 << 62):
            return step()

    return call


@pytest.mark.cuda
@pytest.mark.parametrize("cases", [TOGETHER[:2], TOGETHER[2:]], ids=["off", "on"])
def test_two_steps_at_once(cases: Sequence[Case], gpu: torch.device) -> None:
    """Each takes most of the card: a launch waits until all of its programs fit, or none runs."""
    steps = [in_one_chunk(case, gpu) for case in cases]
    expected = [step() for step in steps]
    for results, right in zip(at_once(steps, gpu), expected, strict=True):
        for result in results:
            assert_bitwise_equal(result, right)


@pytest.mark.cuda
def test_a_step_beside_a_full_card(gpu: torch.device) -> None:
    """Large products of another stream leave no multiprocessor free for as long as the steps take."""
    step = in_one_chunk(TOGETHER[0], gpu)
    large = torch.ones(8192, 8192, dtype=torch.bfloat16, device=gpu)
    product, expected = torch.empty_like(large), step()

    def products() -> Results:
        for _ in range(2):
            torch.mm(large, large, out=product)
        return {}

    for result in at_once([step, products], gpu)[0]:
        assert_bitwise_equal(result, expected)
