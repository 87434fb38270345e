"""`batched_cuda` on a GPU: every case of the interpreter at either split, full width, TF32, streams, graphs, refusals.

`python -m suite.checks.kernels.test_native`, which `nox -s cuda` runs, takes first what only a GPU can show, in some
minutes, with kernels compiled in parallel; `nox -s verify` takes all. Without a GPU all are skipped.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar
from unittest import mock

import pytest
import torch

from impls import proof, why_unavailable
from impls.batched_cuda import split
from suite.checks.equality.comparisons import against_naive
from suite.checks.kernels import ahead, interpreted
from suite.checks.kernels.ahead import (
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
from suite.checks.kernels.compiled import Kernel, precompile
from suite.checks.kernels.interpreted import CASES, NAME
from suite.checks.kernels.launched import either_split
from suite.checks.module.runs import by_grad
from suite.conftest import Record
from suite.shared import arithmetic, machine
from suite.shared.cases import Case
from suite.shared.compare import Oracle, assert_bitwise_equal, compare, implementation, model_and_draw, reference
from suite.shared.files import ResultsError, write_whole
from suite.shared.oracle import Results


@pytest.fixture
def gpu(device: torch.device) -> torch.device:
    """The GPU; skips the test where the implementation does not run on the device of this run."""
    reason = why_unavailable(NAME, device)
    if device.type != "cuda" or reason is not None:
        pytest.skip(reason or f"Needs --device cuda, this run is on {device.type}.")
    return device


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Multiply float32 in a precision while open; references follow it."""
    arithmetic.use(name)
    reference.cache_clear()
    try:
        yield
    finally:
        arithmetic.use("float32")
        reference.cache_clear()


@pytest.mark.parametrize("alone", [True, False], ids=["one member", "several"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
@pytest.mark.parametrize("name", PRECISIONS)
def test_native_equals_the_oracle(case: Case, name: str, alone: bool, gpu: torch.device, record: Record) -> None:
    with precision(name), either_split(alone):
        worst = interpreted.judged(against_naive(case, arithmetic.dtype_of(name)), gpu)
    if not alone:
        record(NAME, name, case.id, "pass" if worst.ratio <= 1 else "FAIL", worst)
    assert worst.ratio <= 1, str(worst)


@pytest.mark.parametrize(
    ("case", "name"),
    [pytest.param(*one, id=f"full_width-{one[0].id}-{one[1]}") for one in FULL_PAIRS]
    + [pytest.param(FULL_PACKED, name, id=f"packed_with_a_mask-{name}") for name in PRECISIONS]
    + [pytest.param(case, "float32", id=case.id) for case in LONG_NARROW_WIDE],
)
def test_it_equals_deferred(case: Case, name: str, gpu: torch.device) -> None:
    dtype = arithmetic.dtype_of(name)
    with precision(name):
        worst = compare(implementation(NAME), case, dtype, gpu, Oracle("deferred", dtype, draws=1))[0]
    assert worst.ratio <= 1, str(worst)


def test_too_many_programs_are_refused(gpu: torch.device) -> None:
    """The driver refuses a cooperative launch that does not fit, and the card is well afterwards."""
    card, case = split.Card.of(gpu), FULL[0]
    model, (_, x, *_) = model_and_draw(NAME, case, torch.bfloat16, gpu)
    with torch.no_grad():
        expected = model(x)[0]
        sizes = split.Sizes(case.B, case.H, case.S, case.Z, case.layer_norm, "bfloat16")
        crowd = replace(split.forward(sizes, card), members=64 * card.multiprocessors)
        with mock.patch.object(split, "forward", return_value=crowd), pytest.raises(RuntimeError, match="'deferred'"):
            model(x)
        assert torch.equal(model(x)[0], expected)


models = pytest.mark.parametrize("case", MODELS, ids=["off", "on"])


@models
def test_a_graph_gives_the_same_bits(case: Case, gpu: torch.device) -> None:
    model, (_, x, *_) = model_and_draw(NAME, case, torch.bfloat16, gpu)
    expected = model(x)[0].detach()
    captured: Any = torch.cuda.make_graphed_callables(model, (torch.randn_like(x),))
    assert torch.equal(captured(x)[0], expected)


@models
def test_a_side_stream_gives_the_same_bits(case: Case, gpu: torch.device) -> None:
    one, stream = model_and_draw(NAME, case, torch.bfloat16, gpu), torch.cuda.Stream(gpu)
    expected = by_grad(*one)
    stream.wait_stream(torch.cuda.current_stream(gpu))
    with torch.cuda.stream(stream):
        results = by_grad(*one)
    stream.synchronize()
    assert_bitwise_equal(results, expected)


def test_no_host_sync(gpu: torch.device) -> None:
    one = model_and_draw(NAME, MODELS[1], torch.bfloat16, gpu)
    by_grad(*one)  # which loads the kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        by_grad(*one)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("layer_norm", [False, True], ids=["off", "on"])
def test_two_passes_at_once(layer_norm: bool, gpu: torch.device) -> None:
    """Each takes most of the card: a launch waits until all of its programs fit, or none runs."""
    sizes = [replace(FULL[layer_norm], T=STEPS, B=B) for B in (128, ROWS)]
    passes = [partial(by_grad, *model_and_draw(NAME, case, torch.bfloat16, gpu)) for case in sizes]
    expected = [one() for one in passes]
    for results, right in zip(at_once(passes, gpu), expected, strict=True):
        for result in results:
            assert_bitwise_equal(result, right)


def test_a_pass_beside_a_full_card(gpu: torch.device) -> None:
    """Large products of another stream leave no multiprocessor free for as long as the passes take."""
    one = partial(by_grad, *model_and_draw(NAME, replace(FULL[0], T=STEPS), torch.bfloat16, gpu))
    large = torch.ones(8192, 8192, dtype=torch.bfloat16, device=gpu)
    product, expected = torch.empty_like(large), one()

    def products() -> Results:
        for _ in range(2):
            torch.mm(large, large, out=product)
        return {}

    functions: list[Callable[[], Results]] = [one, products]
    for result in at_once(functions, gpu)[0]:
        assert_bitwise_equal(result, expected)


#: How often each function of `at_once` is called: a queue of a GPU takes some 1,000 launches before the host waits.
ROUNDS = 10
#: Clocks for which a GPU is held: the host queues for some 0.1 s meanwhile.
HELD = 3_000_000_000

R = TypeVar("R")


def at_once(functions: Sequence[Callable[[], R]], device: torch.device) -> list[list[R]]:
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


def _queue(functions: Sequence[Callable[[], R]], streams: Sequence[torch.cuda.Stream]) -> list[list[R]]:
    results: list[list[R]] = [[] for _ in functions]
    for _ in range(ROUNDS):
        for function, stream, own in zip(functions, streams, results, strict=True):
            with torch.cuda.stream(stream):
                own.append(function())
    return results


#: What `nox -s cuda` runs: words of the names of tests, and what these show.
FIRST_TESTS = {
    "full_width": "kernels as large as users run them, in each dtype and TF32",
    "packed_with_a_mask": "the same, packed and with a mask of g",
    FIRST[0].id: "both ways to split a pass",
    FIRST[2].id: "packed sequences",
    FIRST[3].id: "masks of g",
    "side_stream": "a stream of the caller's",
    "a_graph": "a CUDA graph",
    "host_sync": "no wait for the GPU",
    "refused": "a refused launch",
    "at_once": "two passes at once",
    "beside": "a pass beside a full card",
}
#: Variable that hides GPUs from CUDA.
VISIBLE = "CUDA_VISIBLE_DEVICES"
#: Seconds after which a test is taken to hang.
LIMIT = 120.0


def unseen_card() -> str | None:
    """A sentence with versions if nvidia-smi lists a GPU and torch sees none, else None."""
    if torch.cuda.is_available() or shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    listed = subprocess.run(query, capture_output=True, text=True, timeout=LIMIT)
    if listed.returncode or not listed.stdout.strip():
        return None
    name, driver = listed.stdout.splitlines()[0].rsplit(", ", 1)
    made_for = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU alone"
    reasons = [f"{VISIBLE} is {os.environ[VISIBLE]!r}."] if VISIBLE in os.environ else []
    try:
        torch.cuda.init()
    except Exception as error:  # of a torch for the CPU, of a driver, of permissions: each another type
        reasons.append(f"torch says: {' '.join(str(error).split())}")
    return " ".join(
        [f"torch {torch.__version__}, made for {made_for}, does not see the {name} with driver {driver}.", *reasons]
    )


def limited(seconds: float) -> list[str]:
    """Options of pytest: print where a test is that takes longer, and end the process, which frees the GPU."""
    return ["-v", "-o", f"faulthandler_timeout={seconds}", "-o", "faulthandler_exit_on_timeout=true"]


class Outcomes:
    """Plugin that says whether a run shows all that it should."""

    complete = False

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Note whether no test was skipped or failed, and some passed of each word of `FIRST_TESTS`."""
        passed = [report.nodeid for report in terminalreporter.getreports("passed")]
        others = any(terminalreporter.getreports(outcome) for outcome in ("skipped", "failed", "error"))
        self.complete = not others and all(any(word in test for test in passed) for word in FIRST_TESTS)


def mark(device: torch.device, kernels: Iterable[Kernel]) -> str | None:
    """Note that the GPU passed all checks, after which `impl="auto"` takes the implementation there.

    The mark holds because it exists; what is in it, the conditions and the kernels that were compared, is for people.
    None, or a sentence if it cannot be written.
    """
    about = proof.conditions(device) | {"kernels": sorted({kernel.id for kernel in kernels})}
    try:
        write_whole(proof.path(NAME, device), json.dumps(about, indent=1) + "\n")
    except (ResultsError, RuntimeError) as error:  # RuntimeError without a home
        return (
            f"All tests passed, and the mark that says so cannot be written ({error}): "
            "set XDG_CACHE_HOME to a folder that can be, here and wherever the model runs."
        )
    return None


def main(arguments: list[str]) -> int:
    """Run `FIRST_TESTS`, with their kernels compiled first, and mark the GPU if all pass; without one say what it is.

    The status is 0 where there is no GPU, and 1 where there is one that was not checked or marked. arguments: of
    pytest; with any the GPU is not marked, since they may leave tests out.
    """
    device, unseen = machine.default_device(), unseen_card()
    if (reason := unseen or why_unavailable(NAME, device)) is not None:
        print(f"{reason} Not run: {', '.join(FIRST_TESTS.values())}.")
        return int(unseen is not None or device.type == "cuda")
    kernels = precompile(ahead.of_cuda(), device)
    words, outcomes = ["-k", " or ".join(FIRST_TESTS)], Outcomes()
    options = ["-p", "no:benchmark", *limited(LIMIT), *words, *arguments]
    status = int(pytest.main([__file__, *options], plugins=[outcomes]))
    if status != 0 or arguments or not outcomes.complete:
        print(f"The GPU is not marked as one that runs {NAME} right: not all of its tests passed, or not all ran.")
        return status
    if (unwritten := mark(device, kernels)) is not None:
        print(unwritten)
        return 1
    print(
        f"From now on impl='auto' takes {NAME} on this GPU, with this driver, torch and Triton and these sources: "
        f"{proof.path(NAME, device)}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
