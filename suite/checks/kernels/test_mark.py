"""`impl="auto"` takes `batched_cuda` on a GPU that has verified it, and nowhere else; a driver is told what to say."""

import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from impls import proof, registry
from suite.checks.kernels import test_native


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A GPU that batched_cuda runs on, by what the driver tells of it, and an empty cache of the user."""
    properties = SimpleNamespace(name="NVIDIA H100 80GB/HBM3", major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch._C, "_cuda_getDriverVersion", lambda: 13000, raising=False)
    monkeypatch.setattr(registry, "_probed", lambda *_: None)
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace(__version__="3.9.0"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    registry.why_unproven.cache_clear()
    yield
    registry.why_unproven.cache_clear()


CUDA = torch.device("cuda")
UNVERIFIED = "batched_cuda has not been verified on this NVIDIA H100 80GB/HBM3: run `nox -s cuda` in a checkout."


def on_card(dtype: torch.dtype = torch.float32) -> tuple[str, list[str]]:
    """What "auto" takes in a new process on a GPU, and the warnings of two calls."""
    registry.why_unproven.cache_clear()
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        taken = {registry.resolve("auto", CUDA, dtype).name for _ in range(2)}
    return taken.pop(), [str(each.message) for each in raised]


@pytest.mark.usefixtures("card")
def test_auto_takes_what_this_card_has_verified() -> None:
    assert on_card() == ("deferred", [f"{UNVERIFIED} Until then impl='auto' takes a slower implementation."])
    test_native.mark(CUDA)
    assert on_card() == ("batched_cuda", [])
    assert on_card(torch.bfloat16) == on_card(torch.float16) == ("batched_cuda", [])
    assert on_card(torch.float64) == ("deferred", [])


CHANGED: dict[str, Callable[[pytest.MonkeyPatch], object]] = {
    "driver": lambda patch: patch.setattr(torch._C, "_cuda_getDriverVersion", lambda: 13010),
    "torch": lambda patch: patch.setattr(torch, "__version__", "9.9"),
    "Triton": lambda patch: patch.setattr("triton.__version__", "9.9"),
    "sources": lambda patch: patch.setattr(proof, "__file__", str(Path(__file__).parent / "none")),
}


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize("what", CHANGED)
def test_a_mark_of_other_software_is_none(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    test_native.mark(CUDA)
    CHANGED[what](monkeypatch)
    taken, (warning,) = on_card()
    assert taken == "deferred"
    assert warning.startswith(f"batched_cuda has not been verified with this {what}: run `nox -s cuda`")


@pytest.mark.parametrize("text", ["{", "[]", '{"card": 1}', "\0\xff"])
@pytest.mark.usefixtures("card")
def test_a_damaged_mark_warns(text: str) -> None:
    test_native.mark(CUDA)
    proof.path("batched_cuda", CUDA).write_bytes(text.encode("latin-1"))
    taken, (warning,) = on_card()
    assert taken == "deferred"
    assert "un `nox -s cuda` in a checkout. Until then" in warning


#: A test for each word of those that `nox -s cuda` runs.
TESTS = {f"test_{word}": "passed" for word in test_native.FIRST_TESTS}
#: Outcomes of the tests, the arguments, and the status of pytest; only the first marks the GPU.
RUNS: dict[str, tuple[dict[str, str], list[str], int]] = {
    "all pass": (TESTS, [], 0),
    "a failure": (TESTS | {"test_at_once": "failed"}, [], 1),
    "a skipped test": (TESTS | {"test_more": "skipped"}, [], 0),
    "no side stream": ({test: outcome for test, outcome in TESTS.items() if "side_stream" not in test}, [], 0),
    "chosen tests": (TESTS, ["-k", "host_sync"], 0),
    "an error at the end": (TESTS, [], 3),
}


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize("how", RUNS)
def test_only_a_run_whose_tests_all_pass_marks_the_card(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tests, arguments, status = RUNS[how]

    def run(options: list[str], plugins: list[test_native.Outcomes]) -> int:
        reports = [SimpleNamespace(nodeid=test, outcome=outcome) for test, outcome in tests.items()]
        reporter: Any = SimpleNamespace(getreports=lambda name: [one for one in reports if one.outcome == name])
        plugins[0].pytest_terminal_summary(reporter)
        return status

    monkeypatch.setattr(pytest, "main", run)
    monkeypatch.setattr(test_native, "why_unavailable", lambda *_: None)
    monkeypatch.setattr("suite.shared.machine.default_device", lambda: CUDA)
    monkeypatch.setattr(test_native, "precompile", lambda ways, device: None)
    assert test_native.main(arguments) == status
    assert proof.path("batched_cuda", CUDA).exists() == (how == "all pass")
