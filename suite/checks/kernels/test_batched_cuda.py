"""`batched_cuda` on a GPU, and its errors and choices without one.

On a GPU: the cases of the interpreter natively, each way that a pass is split, TF32, graphs of the caller, long and
wide runs.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from impls import HyperLSTM, why_unavailable
from impls.batched_cuda import split
from impls.definition import Inputs, LayerParams, LayerState, dtype_name
from impls.gradient.chunks import bounds, limits
from impls.registry import find, resolve, triton_unavailable
from suite.checks.kernels import interpreted
from suite.checks.kernels.interpreted import NAME, PAIRS
from suite.conftest import Keep, Record
from suite.shared import arithmetic
from suite.shared.cases import Case
from suite.shared.compare import compare, implementation, reference
from suite.shared.files import ROOT

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed.")
CPU = torch.device("cpu")


@contextmanager
def either_split(alone: bool) -> Iterator[None]:
    """Split passes into groups of one member, or of several where the card has so many multiprocessors, while open."""

    def fastest(step: split.Step) -> Callable[[split.Sizes, split.Card], split.Split]:
        def cut(sizes: split.Sizes, card: split.Card) -> split.Split:
            found = [step(sizes, card, one) for one in split.candidates(sizes, card, step is split.forward_step)]
            return min([one for one in found if one.alone == alone] or found, key=split.cost)

        return cut

    with (
        mock.patch.object(split, "forward", fastest(split.forward_step)),
        mock.patch.object(split, "backward", fastest(split.backward_step)),
    ):
        yield


@pytest.fixture
def gpu(device: torch.device) -> torch.device:
    """The GPU; skips the test where the implementation does not run on the device of this run."""
    reason = why_unavailable(NAME, device)
    if device.type != "cuda" or reason is not None:
        pytest.skip(reason or f"Needs --device cuda, this run is on {device.type}.")
    return device


splits = pytest.mark.parametrize("alone", [True, False], ids=["one member", "several"])


@splits
@pytest.mark.parametrize(("case", "dtype"), PAIRS, ids=[f"{case.id}-{dtype_name(dtype)}" for case, dtype in PAIRS])
def test_native_equals_the_oracle(
    case: Case, dtype: torch.dtype, alone: bool, gpu: torch.device, record: Record
) -> None:
    with either_split(alone):
        worst = interpreted.judged(case, dtype, gpu)
    if not alone:
        record(NAME, dtype, case.id, "pass" if worst.ratio <= 1 else "FAIL", worst)
    assert worst.ratio <= 1, str(worst)


@splits
@pytest.mark.parametrize("case", list(dict.fromkeys(case for case, _ in PAIRS)), ids=lambda case: case.id)
def test_native_equals_the_oracle_in_tf32(case: Case, alone: bool, gpu: torch.device, keep: Keep) -> None:
    arithmetic.use("tf32")
    reference.cache_clear()  # whose float32 is this arithmetic now
    try:
        with either_split(alone):
            worst = interpreted.judged(case, torch.float32, gpu)
    finally:
        arithmetic.use("float32")
        reference.cache_clear()
    verdict = {"verdict": "pass" if worst.ratio <= 1 else "FAIL", "ratio": worst.ratio, **vars(worst), "reason": ""}
    if not alone:
        keep("verify", implementation=NAME, dtype="tf32", case=case.id, **verdict)
    assert worst.ratio <= 1, str(worst)


@pytest.mark.parametrize(
    "case",
    [
        Case(T=10_000, B=2, I=4, H=32, S=16, Z=4),
        Case(T=3, B=1, I=50, H=256, S=64, Z=4, layer_norm=True),
        Case(T=3, B=4096, I=4, H=40, S=16, Z=3),
    ],
    ids=lambda case: case.id,
)
def test_long_narrow_and_wide(case: Case, gpu: torch.device) -> None:
    worst = compare(implementation(NAME), case, torch.float32, gpu, against="deferred", draws=1)[0]
    assert worst.ratio <= 1, str(worst)


#: What a GPU is asked for bits of.
MODELS = [
    Case(T=12, B=24, I=10, H=96, S=32, Z=4, L=2, layer_norm=layer_norm, state="stacked") for layer_norm in (False, True)
]
bits = pytest.mark.parametrize(
    ("case", "dtype"),
    [(case, dtype) for case in MODELS for dtype in find(NAME).dtypes],
    ids=[f"{case.id}-{dtype_name(dtype)}" for case in MODELS for dtype in find(NAME).dtypes],
)


def _model(case: Case, dtype: torch.dtype, device: torch.device) -> tuple[HyperLSTM, Tensor]:
    torch.manual_seed(0)
    model = implementation(NAME)(case, dtype, device)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model, torch.randn(case.T, case.B, case.I, device=device, dtype=dtype)


def _everything(model: HyperLSTM, x: Tensor) -> list[Tensor]:
    """Out and every gradient of one training step."""
    model.zero_grad(set_to_none=True)
    x = x.detach().requires_grad_()
    out, _ = model(x)
    out.square().sum().backward()
    return [out.detach(), *(leaf.grad.clone() for leaf in (x, *model.parameters()) if leaf.grad is not None)]


@bits
def test_a_graph_of_the_caller_gives_the_same_bits(case: Case, dtype: torch.dtype, gpu: torch.device) -> None:
    model, x = _model(case, dtype, gpu)
    expected = model(x)[0].detach()
    captured: Any = torch.cuda.make_graphed_callables(model, (torch.randn_like(x),))
    assert torch.equal(captured(x)[0], expected)


@bits
def test_a_side_stream_gives_the_same_bits(case: Case, dtype: torch.dtype, gpu: torch.device) -> None:
    model, x = _model(case, dtype, gpu)
    expected, stream = _everything(model, x), torch.cuda.Stream(gpu)
    stream.wait_stream(torch.cuda.current_stream(gpu))
    with torch.cuda.stream(stream):
        found = _everything(model, x)
    stream.synchronize()
    assert all(map(torch.equal, found, expected))


@bits
def test_two_runs_give_the_same_bits(case: Case, dtype: torch.dtype, gpu: torch.device) -> None:
    model, x = _model(case, dtype, gpu)
    assert all(map(torch.equal, _everything(model, x), _everything(model, x)))


@bits
def test_a_row_does_not_depend_on_the_rows_beside_it(case: Case, dtype: torch.dtype, gpu: torch.device) -> None:
    model, x = _model(case, dtype, gpu)
    other = torch.randn_like(x) * 10
    other[:, 5] = x[:, 5]
    other[:, 6] = torch.nan
    with torch.no_grad():
        assert torch.equal(model(x)[0][:, 5], model(other)[0][:, 5])


def test_no_host_sync(gpu: torch.device) -> None:
    model, x = _model(MODELS[1], torch.float32, gpu)
    _everything(model, x)  # which loads the kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        _everything(model, x)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_what_a_chunk_takes_follows_the_memory_of_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(T=400, B=128, I=50, H=1000, S=128, Z=4)
    p = LayerParams(*(torch.empty(4, case.H, device="meta") for _ in LayerParams._fields))
    x = torch.empty(case.T, case.B, case.I, device="meta")
    inputs, lengths = Inputs(x, LayerState(x, x, x, x), None), []
    for total in (24 << 30, 80 << 30):
        properties = SimpleNamespace(total_memory=total)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device, found=properties: found)
        most = limits(torch.device("cuda")).backward
        assert most < total / 100
        lengths.append(len(bounds(most, 40, p, inputs)))
    assert lengths[0] > 2 * lengths[1]


#: What a kernel that is none is given.
GIVEN = (torch.empty(1),)


def test_a_kernel_starts_on_the_device_of_its_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    launching = pytest.importorskip("impls.batched_cuda.launching")
    current, kernel = mock.MagicMock(), mock.MagicMock(__name__="forward_steps")
    monkeypatch.setattr(torch.cuda, "device", current)
    second = SimpleNamespace(device=torch.device("cuda", 1), dtype=torch.float32)
    kernel.__getitem__.return_value.side_effect = lambda *_, **__: current.return_value.__exit__.assert_not_called()
    launching.start(kernel, 1, (second,), {})
    current.assert_called_once_with(second.device)
    current.return_value.__exit__.assert_called_once()


def test_a_refused_cooperative_launch_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    launching = pytest.importorskip("impls.batched_cuda.launching")
    refused = mock.MagicMock(__name__="forward_steps")
    refused.__getitem__.return_value.side_effect = RuntimeError("[CUDA]: too many blocks in cooperative launch")
    with pytest.raises(
        RuntimeError, match=r"expected 132 programs of forward_steps to run at a time.* impl='deferred'"
    ):
        launching.start(refused, 132, GIVEN, {}, cooperative=True)
    refused.__getitem__.return_value.side_effect = RuntimeError("misaligned address")
    with pytest.raises(RuntimeError, match=r"^misaligned address$"):
        launching.start(refused, 132, GIVEN, {}, cooperative=True)


def test_a_call_that_compiles_long_says_so_once(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    launching = pytest.importorskip("impls.batched_cuda.launching")
    monkeypatch.setattr(launching, "PATIENCE", 0.01)
    launching._told.clear()
    slow = mock.MagicMock(__name__="forward_steps")
    slow.__getitem__.return_value.side_effect = lambda *_, **__: time.sleep(0.2)
    for units in (-3, -4):
        launching.start(slow, 1, GIVEN, {"UNITS": units})
    said = "batched_cuda: compiling forward_steps for these sizes, once; Triton keeps it for later runs.\n"
    assert capsys.readouterr().err == said


def test_a_kernel_that_was_started_before_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    launching = pytest.importorskip("impls.batched_cuda.launching")
    kernel, timer = mock.MagicMock(__name__="forward_steps"), mock.MagicMock()
    monkeypatch.setattr(launching.threading, "Timer", timer)
    launching._told.clear()
    for constants in ({"UNITS": -1}, {"UNITS": -2}, {"UNITS": -1}, {"UNITS": -2}):
        launching.start(kernel, 1, GIVEN, constants)
    assert timer.call_count == 2


@needs_triton
def test_a_layer_too_wide_for_offsets_of_32_bits_is_refused() -> None:
    from impls.batched_cuda.layout import Dims

    model = HyperLSTM(1, 23_169, 1, 1, 1, device="meta")
    p = LayerParams._make(getattr(model.layers[0], name) for name in LayerParams._fields)
    with pytest.raises(ValueError, match="expected at most 23168 hidden and hyper units, got 23169 and 1"):
        Dims.of(p)
    assert 4 * 23_168**2 < 2**31 < 4 * (23_168 + 8) ** 2


def test_importing_the_package_imports_no_triton() -> None:
    code = "import sys, impls; impls.names(); sys.exit('triton' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_interpreter_has_to_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert why_unavailable(NAME, CPU) == f"{NAME} runs on cuda, not on cpu."


def test_auto_never_takes_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert find(NAME).interpreted(CPU)
    assert resolve("auto", CPU, torch.float32).name != NAME


class Driver:
    """What Triton starts kernels by."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    @property
    def active(self) -> Any:
        """The driver, built at first use."""
        if self.error is not None:
            raise self.error
        return SimpleNamespace(utils=None)


def _reason(
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int] = (8, 0),
    error: Exception | None = None,
    name: str = NAME,
) -> str | None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    if find_spec("triton") is not None:
        monkeypatch.setattr("triton.runtime.driver", Driver(error))
    triton_unavailable.cache_clear()
    try:
        return why_unavailable(name, "cuda")
    finally:
        triton_unavailable.cache_clear()


def test_says_that_triton_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("impls.batched_cuda.find_spec", lambda name: None)
    assert _reason(monkeypatch) == "batched_cuda needs Triton 3.6 or newer, which is not installed."


@needs_triton
def test_says_that_triton_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triton.__version__", "3.5.1")
    assert _reason(monkeypatch) == "batched_cuda needs Triton 3.6 or newer; 3.5.1 is installed."


@needs_triton
def test_says_that_the_card_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _reason(monkeypatch, (7, 5)) == "batched_cuda needs compute capability 8.0 or higher; this card has 7.5."
    assert _reason(monkeypatch, (8, 0)) is None


@needs_triton
@pytest.mark.parametrize("name", [NAME, "compiled"])
def test_says_that_triton_cannot_build_its_driver(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    error = RuntimeError("Failed to find C compiler.")
    expected = "Triton cannot build its driver, which takes a C compiler and Python.h: Failed to find C compiler."
    assert _reason(monkeypatch, error=error, name=name) == expected
    assert _reason(monkeypatch, name=name) is None
