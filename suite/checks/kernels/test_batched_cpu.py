"""The build of batched_cpu on the machine that runs it, and its products."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from impls import why_unavailable
from impls.batched_cpu import build
from impls.definition import LayerParams
from suite.shared.files import ROOT

builds = pytest.mark.thorough("batched_cpu built in other ways, not at all, and for older CPUs")
QUICK_BUILD = {build.FLAGS_VARIABLE: "-O0"}
#: A compiler that copies a finished library instead, slowly: half at a time.
COMPILER = """#!/bin/sh
for argument; do [ "$before" = -o ] && output=$argument; before=$argument; done
[ -n "$output" ] || exec {real} "$@"
head -c 10000 {library} > "$output"; sleep 1; cp {library} "$output"
"""

AGREES = """
import torch
from impls import HyperLSTM
model = HyperLSTM(5, 19, 7, 3, 1, layer_norm=True, impl="batched_cpu", dtype=torch.float64)
for p in model.parameters():
    torch.nn.init.normal_(p, std=0.3)
x = torch.randn(4, 9, 5, dtype=torch.float64)
found = model(x)[0].sum()
found.backward()
gradient = model.layers[0].weight_h.grad.clone()
model.zero_grad()
model.impl = "naive"
expected = model(x)[0].sum()
expected.backward()
torch.testing.assert_close(found, expected)
torch.testing.assert_close(gradient, model.layers[0].weight_h.grad)
print("agrees")
"""

FALLS_BACK = """
import torch
from impls import HyperLSTM, why_unavailable
from impls.batched_cpu import build
model = HyperLSTM(3, 4, 2, 1, 1)
print(why_unavailable("batched_cpu", "cpu"))
print(model)
print(tuple(model(torch.zeros(2, 1, 3))[0].shape))
try:
    build.library()
except RuntimeError as error:
    print(error)
"""


def start(code: str, cache: Path, **environment: str) -> subprocess.Popen[str]:
    env = {**os.environ, "TORCH_EXTENSIONS_DIR": str(cache), "PYTHONPATH": str(ROOT), **environment}
    return subprocess.Popen(
        [sys.executable, "-c", code], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out, err


@pytest.fixture
def built() -> None:
    reason = why_unavailable("batched_cpu", "cpu")
    if reason is not None:
        pytest.skip(reason)


@builds
@pytest.mark.usefixtures("built")
def test_concurrent_builds_announce_themselves_and_all_load_a_complete_library(tmp_path: Path) -> None:
    folder, compiler = tmp_path / "extensions", tmp_path / "compiler"
    compiler.write_text(COMPILER.format(real=shlex.join(build.compiler()), library=build.library().__file__))
    compiler.chmod(0o755)
    processes = [start(AGREES, folder, CXX=str(compiler)) for _ in range(2)]
    for out, err in map(finish, processes):
        assert out == "agrees\n"
        (said,) = _said(err)
        assert "building" in said
        assert said.endswith(" s")
    assert len(list(folder.iterdir())) == 1, "a build left other files"
    out, err = finish(start(AGREES, folder, CXX=str(compiler)))
    assert (out, _said(err)) == ("agrees\n", []), "built again, or printed something"


def _said(err: str) -> list[str]:
    """Lines of the implementation; a torch for CUDA also prints that it finds no GPU when it builds."""
    return [line for line in err.splitlines() if "No CUDA runtime is found" not in line]


@builds
@pytest.mark.usefixtures("built")
def test_it_agrees_on_older_cpus(tmp_path: Path) -> None:
    here = torch.backends.cpu.get_cpu_capability().lower()
    older = [start(AGREES, tmp_path, ATEN_CPU_CAPABILITY=name, **QUICK_BUILD) for name in {"avx2", "default"} - {here}]
    for process in older:
        assert finish(process)[0] == "agrees\n"


@builds
@pytest.mark.parametrize("compiler", ["false", "no-such-compiler"])
def test_without_a_working_compiler_auto_takes_the_next_implementation(tmp_path: Path, compiler: str) -> None:
    reason, rest = finish(start(FALLS_BACK, tmp_path, CXX=compiler))[0].split("\n", 1)
    assert reason.startswith("batched_cpu")
    assert reason.endswith(".")
    assert "impl=auto (deferred)" in rest
    assert "(2, 1, 4)" in rest
    assert not list(tmp_path.iterdir()), "a failed build left files"


@builds
def test_a_failed_build_keeps_the_output_of_the_compiler(tmp_path: Path) -> None:
    flags = {build.FLAGS_VARIABLE: "--no-such-flag"}
    out, _ = finish(start(FALLS_BACK, tmp_path, **flags))
    assert "no-such-flag" in out


def test_a_build_is_keyed_by_flags_source_and_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {build.key()}
    other = "AVX512" if torch.backends.cpu.get_cpu_capability() == "AVX2" else "AVX2"
    with monkeypatch.context() as changed:
        changed.setenv(build.FLAGS_VARIABLE, "-g")
        keys.add(build.key())
    with monkeypatch.context() as changed:
        changed.setattr(torch.backends.cpu, "get_cpu_capability", lambda: other)
        keys.add(build.key())
    with monkeypatch.context() as changed:
        changed.setattr(torch, "__version__", "another")
        keys.add(build.key())
    folder = Path(build.__file__).parent
    copy = Path(shutil.copytree(folder, tmp_path / folder.name))
    (copy / "cell.h").write_text((copy / "cell.h").read_text() + "\n")
    monkeypatch.setattr(build, "_FOLDER", copy)
    keys.add(build.key())
    assert len(keys) == 5


@pytest.mark.usefixtures("built")
def test_parameters_have_the_order_of_layer_params() -> None:
    names = build.library().PARAMS
    assert tuple(names) == LayerParams._fields[: len(names)]
    # The C++ names only the first norm: weight and bias of the gates, then of the cell, of either LSTM.
    norms = [f"{lstm}norm_{c}{kind}" for lstm in ("", "hyper_") for c in ("", "c_") for kind in ("weight", "bias")]
    assert tuple(norms) == LayerParams._fields[len(names) - 1 :]


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(("N", "F", "G"), [(1, 1, 1), (0, 5, 3), (7, 37, 64), (129, 150, 65), (700, 3, 131)])
def test_weight_gradients_are_exact_on_whole_numbers_whatever_the_stride_of_d(
    N: int, F: int, G: int, dtype: torch.dtype
) -> None:
    whole = [torch.randint(-8, 9, shape, dtype=dtype) for shape in ((N, F + 2), (N, G), (F, G))]
    d, values, total = whole[0][:, 1:-1], *whole[1:]
    expected = total + d.T @ values
    build.library().add_product(total, d, values)
    assert torch.equal(total, expected)


@pytest.mark.usefixtures("built")
def test_weight_gradients_round_less_than_one_long_sum() -> None:
    d, values = torch.randn(4096, 16), torch.randn(4096, 24)
    exact, total, long_sum = d.double().T @ values.double(), torch.zeros(16, 24), torch.zeros(16, 24)
    build.library().add_product(total, d, values)
    for d_n, value in zip(d, values, strict=True):
        long_sum.addr_(d_n, value)
    assert (total - exact).norm() < (long_sum - exact).norm() / 2
