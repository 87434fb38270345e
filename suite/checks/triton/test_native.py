"""`batched_cuda` on a GPU: every case of the interpreter at either split, full width, TF32, streams, graphs, refusals.

`nox -s cuda` takes first what only a GPU can show, see `native.py`; `nox -s verify` takes all. Without a GPU all are
skipped.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import pytest
import torch

from impls import why_unavailable
from impls.batched_cuda import split
from suite.cases.case import Case
from suite.checks.equality.tasks import against_naive
from suite.checks.module.runs import by_grad
from suite.checks.recording import Record
from suite.checks.triton import TRITON, interpreted
from suite.checks.triton.ahead import (
    FIRST,
    FULL,
    FULL_PACKED,
    FULL_PAIRS,
    LONG_NARROW_WIDE,
    MODELS,
    PRECISIONS,
    ROWS,
    STEPS,
)
from suite.checks.triton.interpreted import CASES
from suite.checks.triton.launched import either_split
from suite.checks.triton.native import First, at_once
from suite.comparison.draws import implementation, model_and_draw
from suite.comparison.tensors import Results
from suite.comparison.tolerance import Oracle, assert_bitwise_equal, compare, reference
from suite.shared.arithmetic import Arithmetic
from suite.shared.devices import DeviceType


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


#: What the sizes of `FIRST` show; packed sequences and masks of g are kernels of their own.
SHOWN_AT = dict(zip(FIRST, (First.EITHER_SPLIT, First.EITHER_SPLIT, First.PACKED, First.MASKED), strict=True))


def first(case: Case) -> list[pytest.MarkDecorator]:
    """The mark of a case of `FIRST`."""
    return [pytest.mark.first(SHOWN_AT[case])] if case in SHOWN_AT else []


@pytest.mark.parametrize("alone", [True, False], ids=["one member", "several"])
@pytest.mark.parametrize("case", [pytest.param(case, id=case.id, marks=first(case)) for case in CASES])
@pytest.mark.parametrize("name", PRECISIONS)
def test_native_equals_the_oracle(case: Case, name: str, alone: bool, gpu: torch.device, record: Record) -> None:
    with precision(name), either_split(alone):
        comparison = against_naive(case, Arithmetic(name).dtype)
        worst = interpreted.judged(comparison, gpu)
    if not alone:
        record(TRITON, Arithmetic(name), comparison.id, worst, oracle=comparison.oracle.name, case=case)
    assert not worst.wrong, str(worst)


@pytest.mark.parametrize(
    ("case", "name"),
    [
        pytest.param(case, name, id=f"full_width-{case.id}-{name}", marks=pytest.mark.first(First.FULL_WIDTH))
        for case, name in FULL_PAIRS
    ]
    + [
        pytest.param(FULL_PACKED, name, id=f"packed_with_a_mask-{name}", marks=pytest.mark.first(First.FULL_AND_PACKED))
        for name in PRECISIONS
    ]
    + [pytest.param(case, "float32", id=case.id) for case in LONG_NARROW_WIDE],
)
def test_it_equals_deferred(case: Case, name: str, gpu: torch.device) -> None:
    dtype = Arithmetic(name).dtype
    with precision(name):
        worst = compare(implementation(TRITON), case, dtype, gpu, Oracle("deferred", dtype, draws=1))[0]
    assert not worst.wrong, str(worst)


@pytest.mark.first(First.REFUSED)
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


@pytest.mark.first(First.GRAPH)
@models
def test_a_graph_gives_the_same_bits(case: Case, gpu: torch.device) -> None:
    model, (_, x, *_) = model_and_draw(TRITON, case, torch.bfloat16, gpu)
    expected = model(x)[0].detach()
    captured: Any = torch.cuda.make_graphed_callables(model, (torch.randn_like(x),))
    assert torch.equal(captured(x)[0], expected)


@pytest.mark.first(First.SIDE_STREAM)
@models
def test_a_side_stream_gives_the_same_bits(case: Case, gpu: torch.device) -> None:
    one, stream = model_and_draw(TRITON, case, torch.bfloat16, gpu), torch.cuda.Stream(gpu)
    expected = by_grad(*one)
    stream.wait_stream(torch.cuda.current_stream(gpu))
    with torch.cuda.stream(stream):
        results = by_grad(*one)
    stream.synchronize()
    assert_bitwise_equal(results, expected)


@pytest.mark.first(First.NO_SYNC)
def test_no_host_sync(gpu: torch.device) -> None:
    one = model_and_draw(TRITON, MODELS[1], torch.bfloat16, gpu)
    by_grad(*one)  # which loads the kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        by_grad(*one)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.first(First.AT_ONCE)
@pytest.mark.parametrize("layer_norm", [False, True], ids=["off", "on"])
def test_two_passes_at_once(layer_norm: bool, gpu: torch.device) -> None:
    """Each takes most of the card: a launch waits until all of its programs fit, or none runs."""
    sizes = [replace(FULL[layer_norm], T=STEPS, B=B) for B in (128, ROWS)]
    passes = [partial(by_grad, *model_and_draw(TRITON, case, torch.bfloat16, gpu)) for case in sizes]
    expected = [one() for one in passes]
    for results, right in zip(at_once(passes, gpu), expected, strict=True):
        for result in results:
            assert_bitwise_equal(result, right)


@pytest.mark.first(First.BESIDE)
def test_a_pass_beside_a_full_card(gpu: torch.device) -> None:
    """Large products of another stream leave no multiprocessor free for as long as the passes take."""
    one = partial(by_grad, *model_and_draw(TRITON, replace(FULL[0], T=STEPS), torch.bfloat16, gpu))
    large = torch.ones(8192, 8192, dtype=torch.bfloat16, device=gpu)
    product, expected = torch.empty_like(large), one()

    def products() -> Results:
        for _ in range(2):
            torch.mm(large, large, out=product)
        return {}

    functions: list[Callable[[], Results]] = [one, products]
    for result in at_once(functions, gpu)[0]:
        assert_bitwise_equal(result, expected)
