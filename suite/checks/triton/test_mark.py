"""`impl="auto"` takes `batched_cuda` on a GPU that has verified it, and nowhere else; what the driver says is told."""

import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from impls import HyperLSTM, batched_cuda, proof, registry
from impls.batched_cuda.split import H100
from suite.cases.case import Case
from suite.checks.triton import ahead, native
from suite.checks.triton.ahead import PRECISIONS
from suite.checks.triton.compiled import Kernel
from suite.checks.triton.native import First
from suite.checks.triton.told_card import CUDA, NAME, tell

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed.")


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A GPU that batched_cuda runs on, and an empty cache of the user."""
    tell(monkeypatch, tmp_path)
    yield
    registry.why_unproven.cache_clear()
    batched_cuda.why_no_driver.cache_clear()


UNVERIFIED = f"batched_cuda has not been verified on this {NAME} with this driver, torch, Triton and these sources: run"
HOW = "run `python -m suite.checks.triton.native` in a checkout with this Python"


def on_card(dtype: torch.dtype = torch.float32) -> tuple[str, list[str]]:
    """What "auto" takes in a new process on a GPU, and the warnings of two calls."""
    registry.why_unproven.cache_clear()
    registry._warn_of_fallback.cache_clear()
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        taken = {registry.resolve("auto", CUDA, dtype).name for _ in range(2)}
    return taken.pop(), [str(each.message) for each in raised]


@pytest.mark.usefixtures("card")
def test_auto_takes_what_this_card_has_verified() -> None:
    taken, (warning,) = on_card()
    assert taken == "deferred"
    assert warning.startswith(UNVERIFIED)
    assert warning.endswith("Until then impl='auto' takes a slower implementation.")
    assert HOW in warning, "the way in an environment that is not nox's"
    native.mark(CUDA, [])
    assert on_card() == ("batched_cuda", [])
    assert on_card(torch.bfloat16) == on_card(torch.float16) == ("batched_cuda", [])
    assert on_card(torch.float64) == ("deferred", [])


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize("marked", [False, True], ids=["unmarked", "marked"])
def test_repr_says_what_a_card_has_verified(marked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a model whose parameters have no memory."""
    if marked:
        native.mark(CUDA, [])
    monkeypatch.setattr("impls.hyperlstm.Layer.reset_parameters", lambda self: None)
    # By which a fake tensor starts CUDA in older versions of torch.
    monkeypatch.setattr("torch._subclasses.fake_tensor.init_gpu_context", lambda device: None, raising=False)
    with FakeTensorMode():
        model = HyperLSTM(5, 8, 4, 2, 1, device=CUDA)
    with nullcontext() if marked else pytest.warns(RuntimeWarning, match="has not been verified on this NVIDIA H100"):
        shown = repr(model)
    assert ("impl=auto (batched_cuda)" if marked else f"impl=auto (deferred; {UNVERIFIED}") in shown


def properties(**changes: object) -> Callable[[pytest.MonkeyPatch], object]:
    """Change what a GPU says of itself."""

    def change(patch: pytest.MonkeyPatch) -> None:
        now = SimpleNamespace(**vars(torch.cuda.get_device_properties(CUDA)) | changes)
        patch.setattr(torch.cuda, "get_device_properties", lambda device: now)

    return change


CHANGED: dict[str, Callable[[pytest.MonkeyPatch], object]] = {
    "card": properties(name="NVIDIA H200"),
    "capability": properties(minor=1),
    "multiprocessors": properties(multi_processor_count=114),
    "driver": lambda patch: patch.setattr(proof, "driver", lambda: "580.82"),
    "torch": lambda patch: patch.setattr(torch, "__version__", "9.9"),
    "Triton": lambda patch: patch.setattr("triton.__version__", "9.9"),
    "sources": lambda patch: patch.setattr(proof, "__file__", str(Path(__file__).parent / "none")),
}


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize("what", CHANGED)
def test_each_environment_has_a_mark_of_its_own(what: str) -> None:
    """One of a changed card or environment is none here, and stands beside this one's."""
    assert CHANGED.keys() == proof.conditions(CUDA).keys()
    native.mark(CUDA, [])
    with pytest.MonkeyPatch.context() as patch:
        CHANGED[what](patch)
        assert on_card()[0] == "deferred"
        native.mark(CUDA, [])
        assert on_card() == ("batched_cuda", [])
    assert on_card() == ("batched_cuda", [])


@pytest.mark.usefixtures("card")
def test_the_driver_is_asked_where_its_file_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._C, "_cuda_getDriverVersion", lambda: 13010, raising=False)
    assert proof.driver() == "580.65.06"
    proof.DRIVER.write_text("NVRM version: none\n")
    assert proof.driver() == "CUDA 13.1"
    proof.DRIVER.unlink()
    assert proof.driver() == "CUDA 13.1"


@pytest.mark.usefixtures("card")
def test_a_cache_that_cannot_be_read_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(*_: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    taken, (warning,) = on_card()
    assert taken == "deferred"
    assert warning.startswith("The mark of batched_cuda cannot be read (RuntimeError: Could not determine home")
    assert HOW in warning


@pytest.mark.usefixtures("card")
def test_auto_says_that_triton_cannot_build_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a marked card of a machine without a C compiler, and not on one that an installation would not help."""
    native.mark(CUDA, [])
    monkeypatch.setattr(registry, "_probed", lambda *_: "Triton cannot build its driver.")
    reason = "Triton cannot build its driver. Until then impl='auto' runs 'deferred', which is slower."
    assert on_card() == ("deferred", [reason])
    assert on_card(torch.float64) == ("deferred", [])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert on_card() == ("deferred", [])


#: Outcomes of a test for each of `First`, and of others that show none of them.
Tests = Mapping[First | None, str]
TESTS: Tests = dict.fromkeys(First, "passed")
#: Outcomes of the tests, the arguments, and the status of pytest; only the first marks the GPU.
RUNS: dict[str, tuple[Tests, list[str], int]] = {
    "all pass": (TESTS, [], 0),
    "a failure": ({**TESTS, First.AT_ONCE: "failed"}, [], 1),
    "a skipped test": ({**TESTS, None: "skipped"}, [], 0),
    "no side stream": ({first: "passed" for first in First if first is not First.SIDE_STREAM}, [], 0),
    "chosen tests": (TESTS, ["-k", "host_sync"], 0),
    "an error at the end": (TESTS, [], 3),
}


def told_run(how: str, patch: pytest.MonkeyPatch) -> int:
    """The status of `nox -s cuda` after a run of tests."""
    tests, arguments, status = RUNS[how]

    def run(options: list[str], plugins: list[native.Outcomes]) -> int:
        items, reports = [], []
        for first, outcome in tests.items():
            markers = [] if first is None else [pytest.mark.first(first).mark]
            items.append(SimpleNamespace(nodeid=str(first), iter_markers=lambda name, markers=markers: markers))
            reports.append(SimpleNamespace(nodeid=str(first), outcome=outcome))
        session: Any = SimpleNamespace(items=items)
        plugins[0].pytest_collection_finish(session)
        reporter: Any = SimpleNamespace(getreports=lambda name: [each for each in reports if each.outcome == name])
        plugins[0].pytest_terminal_summary(reporter)
        return status

    patch.setattr(pytest, "main", run)
    patch.setattr(native, "precompile", lambda ways, device: kernels())
    return native.main(arguments)


def kernels_of(cases: Iterable[tuple[Case, str]]) -> list[Kernel]:
    """Kernels of cases, each with its arithmetic, on an H100."""
    return [k for case, name in cases for k in ahead.Way(case, name).kernels(90, H100)]


@cache
def kernels() -> list[Kernel]:
    """Some that a run on a GPU prepares."""
    return kernels_of([(ahead.FULL_PACKED, "bfloat16")])


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize("how", RUNS)
def test_only_a_run_whose_tests_all_pass_marks_the_card(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told_run(how, monkeypatch) == RUNS[how][2]
    path = proof.path("batched_cuda", CUDA)
    assert path.exists() == (how == "all pass")
    if path.exists():
        noted = json.loads(path.read_text())
        assert "forward_steps-bfloat16-H1000-S128-Z4-packed-masked-norm" in noted.pop("kernels")
        assert noted == proof.conditions(CUDA)


@pytest.mark.usefixtures("card")
@pytest.mark.skipif(os.name == "nt", reason="Paths are those of POSIX.")
@pytest.mark.parametrize("cache", ["/proc", "/dev/null", None])
def test_a_mark_that_cannot_be_written_is_a_sentence(
    cache: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a file system that is only read, below a file, and without a home."""
    monkeypatch.setenv("XDG_CACHE_HOME", cache or "")
    monkeypatch.setenv("HOME", "/proc")
    assert told_run("all pass", monkeypatch) == 1
    assert "set XDG_CACHE_HOME to a folder that can be" in capsys.readouterr().out.splitlines()[-1]


def test_the_mark_shows_packed_and_masked_passes_at_two_sizes() -> None:
    """In each arithmetic, among the kernels that are compiled for it, small and as large as users run them."""
    ways = [way for way in ahead.of_cuda() if way.case.lengths or way.case.recurrent_dropout]
    compiled = [k for way in ways for k in way.kernels(90, H100)]
    for H in (8, 1000):
        for arithmetic in PRECISIONS:
            sweeps = [
                k for k in compiled
                if k.arithmetic == arithmetic and dict(k.constants)["H"] == H and k.name == "backward_steps"
            ]  # fmt: skip
            assert any(k.packed for k in sweeps), (H, arithmetic)
            assert any(k.masked for k in sweeps), (H, arithmetic)
