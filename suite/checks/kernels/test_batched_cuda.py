"""What `batched_cuda` can be held to without a GPU, and on one: the same cases natively, graphs, long and wide runs."""

import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from impls.batched_cuda.graphs import LATE
from torch import Tensor

from impls import HyperLSTM, triton_driver, why_unavailable
from impls.chunks import bounds, limits
from impls.definition import LayerParams
from impls.registry import dtype_name, find, resolve
from suite.checks.kernels import interpreted
from suite.checks.kernels.interpreted import NAME, PAIRS
from suite.conftest import Record
from suite.shared.cases import Case
from suite.shared.compare import compare, implementation
from suite.shared.files import ROOT
from suite.shared.stopwatch import DeviceEvents

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed.")
CPU = torch.device("cpu")
#: Training steps in which both passes are captured: the backward pass after the first replay of the forward pass.
SETTLED = LATE + 1


@pytest.fixture
def gpu(device: torch.device) -> torch.device:
    """Return the GPU, or skip with the reason why the implementation does not run on the device of this run."""
    reason = why_unavailable(NAME, device)
    if device.type != "cuda" or reason is not None:
        pytest.skip(reason or f"Needs --device cuda, this run is on {device.type}.")
    return device


def test_what_is_timed_is_captured_and_replayed_twice_before() -> None:
    assert DeviceEvents.least >= LATE + 2


@pytest.mark.parametrize(("case", "dtype"), PAIRS, ids=[f"{case.id}-{dtype_name(dtype)}" for case, dtype in PAIRS])
def test_native_equals_the_oracle(case: Case, dtype: torch.dtype, gpu: torch.device, record: Record) -> None:
    worst = interpreted.judged(case, dtype, gpu)
    record(NAME, dtype, case.id, "pass" if worst.ratio <= 1 else "FAIL", worst)
    assert worst.ratio <= 1, f"{worst.tensor}: relative error {worst.error:.2e}, allowed {worst.allowed:.2e}"


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
    assert worst.ratio <= 1, f"{worst.tensor}: relative error {worst.error:.2e}, allowed {worst.allowed:.2e}"


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
    """Return out and every gradient of one training step."""
    model.zero_grad(set_to_none=True)
    x = x.detach().requires_grad_()
    out, _ = model(x)
    out.square().sum().backward()
    return [out.detach(), *(leaf.grad.clone() for leaf in (x, *model.parameters()) if leaf.grad is not None)]


@bits
def test_a_graph_gives_the_bits_of_plain_launches(case: Case, dtype: torch.dtype, gpu: torch.device) -> None:
    from impls import batched_cuda

    model, x = _model(case, dtype, gpu)
    with batched_cuda.plain_launches():
        plain = _everything(model, x)
        assert {started.mode for started in batched_cuda.launches().values()} == {"plain"}
    for _ in range(SETTLED + 1):
        again = _everything(model, x)
    assert {started.mode for started in batched_cuda.launches().values()} == {"graph"}
    assert all(map(torch.equal, plain, again))


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
    for _ in range(SETTLED):
        _everything(model, x)
    torch.cuda.set_sync_debug_mode("error")
    try:
        _everything(model, x)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@needs_triton
def test_inductor_leaves_the_operators_out_of_its_graphs() -> None:
    import_module("impls.batched_cuda.sweeps")  # registers them
    for operator in (torch.ops.impls.batched_cuda, torch.ops.impls.batched_cuda_backward):
        assert torch.Tag.cudagraph_unsafe in operator.default.tags


def test_what_a_chunk_takes_follows_the_memory_of_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(T=400, B=128, I=50, H=1000, S=128, Z=4)
    p = LayerParams(*(torch.empty(4, case.H, device="meta") for _ in LayerParams._fields))
    lengths = []
    for total in (24 << 30, 80 << 30):
        properties = SimpleNamespace(total_memory=total)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device, found=properties: found)
        most = limits(torch.device("cuda")).backward
        assert most < total / 100
        lengths.append(len(bounds(most, 40, p, case.T, case.B)))
    assert lengths[0] > 2 * lengths[1]


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
    triton_driver.why_unavailable.cache_clear()
    try:
        return why_unavailable(name, "cuda")
    finally:
        triton_driver.why_unavailable.cache_clear()


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
