"""`batched_cuda` on a GPU: every case of the interpreter at either split, full width, TF32, streams, graphs, refusals.

`python -m suite.checks.kernels.test_native`, which `nox -s cuda` runs, takes first what only a GPU can show, in some
minutes, with kernels compiled in parallel; `nox -s verify` takes all. Without a GPU all are skipped.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
import torch

from impls import proof, why_unavailable
from impls.batched_cuda import split
from suite.checks.equality.comparisons import Comparison
from suite.checks.kernels import ahead, interpreted
from suite.checks.kernels.ahead import FIRST, FULL, FULL_PAIRS, LONG_NARROW_WIDE, MODELS, PRECISIONS, ROWS
from suite.checks.kernels.compiled import precompile
from suite.checks.kernels.interpreted import CASES, NAME
from suite.checks.kernels.launched import either_split
from suite.checks.module.runs import by_grad
from suite.conftest import Keep
from suite.shared import arithmetic, machine
from suite.shared.cases import Case
from suite.shared.compare import assert_bitwise_equal, compare, implementation, model_and_draw, reference
from suite.shared.files import write_whole


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
def test_native_equals_the_oracle(case: Case, name: str, alone: bool, gpu: torch.device, keep: Keep) -> None:
    with precision(name), either_split(alone):
        worst = interpreted.judged(Comparison(case, arithmetic.dtype_of(name)), gpu)
    verdict = {"verdict": "pass" if worst.ratio <= 1 else "FAIL", "ratio": worst.ratio, **vars(worst), "reason": ""}
    if not alone:
        keep("verify", implementation=NAME, dtype=name, case=case.id, **verdict)
    assert worst.ratio <= 1, str(worst)


@pytest.mark.parametrize(
    ("case", "name"),
    [pytest.param(*one, id=f"full_width-{one[0].id}-{one[1]}") for one in FULL_PAIRS]
    + [pytest.param(case, "float32", id=case.id) for case in LONG_NARROW_WIDE],
)
def test_it_equals_deferred(case: Case, name: str, gpu: torch.device) -> None:
    with precision(name):
        worst = compare(implementation(NAME), case, arithmetic.dtype_of(name), gpu, against="deferred", draws=1)[0]
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
    """On two streams, each takes most of the card: a launch waits until all of its programs fit, or none runs."""
    passes = [model_and_draw(NAME, replace(FULL[layer_norm], B=B), torch.bfloat16, gpu) for B in (128, ROWS)]
    expected, results = [by_grad(*one) for one in passes], list[Any]()
    streams = [torch.cuda.Stream(gpu) for _ in passes]
    torch.cuda.synchronize(gpu)
    for _ in range(10):
        for one, stream in zip(passes, streams, strict=True):
            with torch.cuda.stream(stream):
                results.append(by_grad(*one))
    torch.cuda.synchronize(gpu)
    for n, result in enumerate(results):
        assert_bitwise_equal(result, expected[n % 2])


def test_a_pass_beside_another_kernel(gpu: torch.device) -> None:
    """A kernel of another stream that takes a part of the card for half a second."""
    one, other = model_and_draw(NAME, FULL[0], torch.bfloat16, gpu), torch.cuda.Stream(gpu)
    expected = by_grad(*one)
    torch.cuda.synchronize(gpu)
    with torch.cuda.stream(other):
        torch.cuda._sleep(1_000_000_000)  # clocks
    results = by_grad(*one)
    torch.cuda.synchronize(gpu)
    assert_bitwise_equal(results, expected)


#: What `nox -s cuda` runs: words of the names of tests, and what these show.
FIRST_TESTS = {
    "full_width": "kernels as large as users run them, in each dtype and TF32",
    FIRST[0].id: "both ways to split a pass",
    "side_stream": "a stream of the caller's",
    "a_graph": "a CUDA graph",
    "host_sync": "no wait for the GPU",
    "refused": "a refused launch",
    "at_once": "two passes at once",
    "beside": "a pass beside another kernel",
}
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
    return f"torch {torch.__version__}, made for {made_for}, does not see the {name} with driver {driver}."


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


def mark(device: torch.device) -> None:
    """Note that the GPU passed all checks, after which `impl="auto"` takes the implementation there."""
    write_whole(proof.path(NAME, device), json.dumps(proof.conditions(device), indent=1) + "\n")


def main(arguments: list[str]) -> int:
    """Run `FIRST_TESTS`, with their kernels compiled first, and mark the GPU if all pass; without one say what it is.

    The status is 0 where there is no GPU, and 1 where there is one that was not checked. arguments: of pytest; with any
    the GPU is not marked, since they may leave tests out.
    """
    device, unseen = machine.default_device(), unseen_card()
    if (reason := unseen or why_unavailable(NAME, device)) is not None:
        print(f"{reason} Not run: {', '.join(FIRST_TESTS.values())}.")
        return int(unseen is not None or device.type == "cuda")
    precompile(ahead.of_cuda(), device)
    words, outcomes = ["-k", " or ".join(FIRST_TESTS)], Outcomes()
    options = ["-p", "no:benchmark", *limited(LIMIT), *words, *arguments]
    status = int(pytest.main([__file__, *options], plugins=[outcomes]))
    if status == 0 and not arguments and outcomes.complete:
        mark(device)
        print(
            f"From now on impl='auto' takes {NAME} on this GPU, as long as its driver, torch and Triton do not change."
        )
    else:
        print(f"The GPU is not marked as one that runs {NAME} right: not all of its tests passed, or not all ran.")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
