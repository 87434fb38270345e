"""What the library of batched_cpu refuses, and its products of weight gradients."""

import ctypes
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from impls import HyperLSTM, batched_cpu
from impls.batched_cpu import build, loading
from impls.batched_cpu.arguments import Array
from impls.definition import dtype_name
from suite.cases.verification import VERIFY
from suite.comparison.draws import model_and_draw

pytestmark = pytest.mark.impl(name="batched_cpu")
F32 = torch.float32


def test_a_named_implementation_that_is_unavailable_is_not_its_own_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "batched_cpu could not be built: no compiler. A compiler helps."
    monkeypatch.setattr(batched_cpu, "why_unavailable", lambda device, dtype: reason)
    with pytest.raises(RuntimeError) as raised:
        HyperLSTM(3, 4, 2, 1, 1, impl="batched_cpu")(torch.zeros(2, 1, 3))
    said = str(raised.value)
    assert reason in said
    assert said.endswith("In float32 on cpu: naive, row_scaled, batched, deferred.")


#: What GCC and clang say where a number of 64 bits becomes one of fewer, with the file and the line.
NARROWED = re.compile(
    r"(\S+):(\d+):\d+: warning: .*conversion.*'(?:const )?(?:u?int64_t|size_t|(?:unsigned )?long[a-z ]*)'"
    r"(?: [{(]aka '[^']*'[)}])? to '(?:const )?(?:unsigned )?(?:int|short|char|u?int(?:8|16|32)_t)\b"
)
#: The one that may: the number of a gate.
OF_A_GATE = "at.norms[r](k, "


@pytest.mark.skipif(shutil.which(build.compiler()[0]) is None, reason="There is no C++ compiler.")
@pytest.mark.parametrize("source", ["forward", "backward"])
def test_no_count_of_numbers_is_narrowed(source: str) -> None:
    """Arrays may have more numbers than 32 bits count, which takes more memory than a test has."""
    constants = ["-DHYPERLSTM_EPS=1e-5", "-DHYPERLSTM_SET=baseline", "-DHYPERLSTM_DTYPE=float32"]
    file = str(build.FOLDER / f"{source}.cpp")
    command = [*build.compiler(), "-std=c++20", "-fsyntax-only", "-Wconversion", *constants, file]
    env = {**os.environ, "LC_ALL": "C"}  # for plain quotation marks
    said = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stderr
    lines = set[str]()
    for path, number in NARROWED.findall(said):
        lines.add(Path(path).read_text().splitlines()[int(number) - 1])
    assert [line for line in lines if OF_A_GATE not in line] == []


def outcome_of_product(total: torch.Tensor, d: torch.Tensor, values: torch.Tensor) -> int:
    """How a call ends that adds d^T values to total, by the product of the weight gradients."""
    sizes = *d.shape, values.shape[1], d.stride(0)
    arrays = [Array(q.data_ptr(), q.nbytes) for q in (total, d, values)]
    types = [ctypes.c_int64] * len(sizes) + [ctypes.POINTER(Array)] * len(arrays)
    return int(loading.library(d.dtype).function("add_product", *types)(*sizes, *arrays))


def add_product(total: torch.Tensor, d: torch.Tensor, values: torch.Tensor) -> None:
    """Add d^T values to total; RuntimeError if that fails."""
    loading.library(d.dtype).check(outcome_of_product(total, d, values))


@pytest.mark.usefixtures("built")
def test_an_interrupt_while_gradients_are_allocated_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sample = model_and_draw("batched_cpu", VERIFY[0], F32, torch.device("cpu"))
    out, _ = model(sample.x)
    monkeypatch.setattr(torch, "empty_like", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        out.sum().backward()


@pytest.mark.usefixtures("built")
def test_an_array_of_another_size_is_refused_in_the_thread_that_called() -> None:
    library = loading.library(F32)
    outcome = outcome_of_product(torch.zeros(3, 5), torch.zeros(2, 3), torch.zeros(2, 4))
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(outcome_of_product, torch.zeros(3, 6), torch.zeros(2, 3), torch.zeros(2, 4))
        assert other.result() == loading.Outcome.FAILED
        with pytest.raises(RuntimeError, match=r"^batched_cpu: total: expected 48 bytes, got 60$"):
            library.check(outcome)
        with pytest.raises(RuntimeError, match=r"^batched_cpu: total: expected 48 bytes, got 72$"):
            pool.submit(library.check, other.result()).result()


@pytest.mark.usefixtures("built")
def test_a_parameter_without_memory_is_refused() -> None:
    """As between the calls of a sharded model, whose parameters keep their sizes."""
    model, sample = model_and_draw("batched_cpu", VERIFY[0], F32, torch.device("cpu"))
    dict(model.named_parameters())["layers.0.weight_h"].untyped_storage().resize_(0)
    refused = r"^batched_cpu: weight_h: expected \d+ bytes, got no memory$"
    with torch.no_grad(), pytest.raises(RuntimeError, match=refused):
        model(sample.x)


@pytest.mark.usefixtures("built")
@pytest.mark.address_sanitizer
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=dtype_name)
@pytest.mark.parametrize(("N", "F", "G"), [(1, 1, 1), (0, 5, 3), (7, 37, 64), (129, 150, 65), (700, 3, 131)])
def test_weight_gradients_of_whole_numbers_are_exact(N: int, F: int, G: int, dtype: torch.dtype) -> None:
    whole = [torch.randint(-8, 9, shape, dtype=dtype) for shape in ((N, F + 2), (N, G), (F, G))]
    d, values, total = whole[0][:, 1:-1], *whole[1:]
    expected = total + d.T @ values
    add_product(total, d, values)
    assert torch.equal(total, expected)


@pytest.mark.address_sanitizer
@pytest.mark.usefixtures("built")
def test_weight_gradients_round_less_than_one_long_sum() -> None:
    d, values = torch.randn(4096, 16), torch.randn(4096, 24)
    exact, total, long_sum = d.double().T @ values.double(), torch.zeros(16, 24), torch.zeros(16, 24)
    add_product(total, d, values)
    for d_n, value in zip(d, values, strict=True):
        long_sum.addr_(d_n, value)
    assert (total - exact).norm() < (long_sum - exact).norm() / 2
