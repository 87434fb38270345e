"""The build of batched_cpu on the machine that runs it, and its products."""

import ctypes
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from impls import HyperLSTM, batched_cpu, why_unavailable
from impls.batched_cpu import build, loading, sets
from impls.definition import LayerParams
from suite.cases.case import Case
from suite.cases.verification import VERIFY
from suite.checks.kernels.programs import NEEDS_COMPILER
from suite.comparison.draws import model_and_draw
from suite.shared.files import ROOT

pytestmark = pytest.mark.impl(name="batched_cpu")
builds = pytest.mark.thorough("batched_cpu built in other ways, or not at all")
F32, F64 = torch.float32, torch.float64
#: A compiler that copies a finished library instead, slowly: half at a time.
COMPILER = """#!/bin/sh
for argument; do [ "$before" = -o ] && output=$argument; before=$argument; done
head -c 10000 {library} > "$output"; sleep 1; cp {library} "$output"
"""

AGREES = """
import torch
from suite.cases.verification import VERIFY_FIRST
from suite.comparison.tolerance import compare, naive_oracle
from suite.comparison.draws import implementation
oracle, cpu = naive_oracle(torch.float64, draws=1), torch.device("cpu")
worst = compare(implementation("batched_cpu"), VERIFY_FIRST[0], torch.float64, cpu, oracle)[0]
print(worst if worst.wrong else "agrees")
"""

FALLS_BACK = """
import torch, warnings
warnings.simplefilter("always")
from impls import HyperLSTM, why_unavailable
from impls.batched_cpu import loading
model = HyperLSTM(3, 4, 2, 1, 1)
print(why_unavailable("batched_cpu", "cpu"))
print(model)
print(tuple(model(torch.zeros(2, 1, 3))[0].shape))
try:
    loading.library(torch.float32)
except RuntimeError as error:
    print(error)
"""


def folder_here(dtype: torch.dtype) -> Path:
    """Folder of the build for a dtype."""
    return build.folder_of(sets.parts(dtype), build.extra_flags())


def start(code: str, cache: Path, **environment: str) -> subprocess.Popen[str]:
    env = {**os.environ, "TORCH_EXTENSIONS_DIR": str(cache), "PYTHONPATH": str(ROOT), **environment}
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out, err


@pytest.fixture
def built() -> None:
    reasons = [why_unavailable("batched_cpu", "cpu", dtype) for dtype in (F32, F64)]
    if any(reasons):
        pytest.skip(f"{reasons}")


@pytest.fixture
def compiler(built: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Build with a compiler that takes no time."""
    path = tmp_path / "compiler"
    path.write_text(COMPILER.format(library=shlex.quote(str(loading.library(F64).path))))
    path.chmod(0o755)
    monkeypatch.setenv("CXX", str(path))


@pytest.mark.usefixtures("compiler")
def test_concurrent_builds_load_a_complete_library(tmp_path: Path) -> None:
    folder = tmp_path / "extensions"
    processes = [start(AGREES, folder) for _ in range(2)]
    for out, err in map(finish, processes):
        assert out == "agrees\n"
        assert err.startswith("batched_cpu: compiling")
        assert err.endswith(" s\n")
    assert len(list(folder.iterdir())) == 1, "a build left other files"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Cache of builds with a build of the library that is loaded here."""
    folder = tmp_path / "cache" / folder_here(F64).name
    shutil.copytree(loading.library(F64).path.parent, folder)
    return folder.parent


@pytest.mark.usefixtures("built")
def test_a_finished_build_needs_no_tools(cache: Path) -> None:
    assert finish(start(AGREES, cache, PATH="/nowhere")) == ("agrees\n", "")


@builds
@pytest.mark.usefixtures("compiler")
def test_a_damaged_build_is_built_again(cache: Path) -> None:
    os.truncate(cache / folder_here(F64).name / build.LIBRARY, 10_000)
    out, err = finish(start(AGREES, cache))
    assert out == "agrees\n"
    assert err.startswith("batched_cpu: compiling")
    assert finish(start(AGREES, cache)) == ("agrees\n", "")


@builds
@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"CXX": "false"}, ["compiler"]),
        ({"CXX": "no-such-compiler"}, ["compiler", "no-such-compiler"]),
        ({build.FLAGS_VARIABLE: "--no-such-flag"}, ["no-such-flag"]),
        ({"TORCH_EXTENSIONS_DIR": "/dev/null/cache"}, ["/dev/null/cache", "TORCH_EXTENSIONS_DIR"]),
    ],
    ids=["compiler fails", "no compiler", "unknown flag", "no folder"],
)
def test_without_a_build_auto_takes_the_next(tmp_path: Path, environment: dict[str, str], words: list[str]) -> None:
    out, err = finish(start(FALLS_BACK, tmp_path, **environment))
    reason, rest = out.split("\n", 1)
    assert reason.startswith("batched_cpu could not be built: ")
    assert [word for word in words if word not in out] == []
    assert "impl=auto (deferred)" in rest
    assert "(2, 1, 4)" in rest
    assert err.count(f"RuntimeWarning: {reason} Until then impl='auto' runs 'deferred'") == 1
    assert not list(tmp_path.iterdir()), "a failed build left files"


NO_ROOM = """
import resource
import torch
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # as on a full disk, a larger file cannot be written
from impls import why_unavailable
print(why_unavailable("batched_cpu", "cpu", torch.float64))
"""


@pytest.mark.usefixtures("compiler")
def test_a_compiler_without_room_is_not_blamed(tmp_path: Path) -> None:
    (folder := tmp_path / "extensions").mkdir()
    out, _ = finish(start(NO_ROOM, folder))
    assert f"'{folder}'. TORCH_EXTENSIONS_DIR set to a folder with room helps" in out
    assert not list(folder.iterdir()), "a failed build left files"


def test_a_named_implementation_that_is_unavailable_is_not_its_own_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "batched_cpu could not be built: no compiler. A compiler helps."
    monkeypatch.setattr(batched_cpu, "why_unavailable", lambda device, dtype: reason)
    with pytest.raises(RuntimeError) as raised:
        HyperLSTM(3, 4, 2, 1, 1, impl="batched_cpu")(torch.zeros(2, 1, 3))
    said = str(raised.value)
    assert reason in said
    assert said.endswith("In float32 on cpu: naive, row_scaled, batched, deferred.")


@builds
@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("damage", ["cut", "other sources"])
def test_a_wheel_that_does_not_fit_is_refused(tmp_path: Path, damage: str) -> None:
    package = tmp_path / "impls" / "batched_cpu"
    shutil.copytree(ROOT / "impls", package.parent, ignore=shutil.ignore_patterns("__pycache__"))
    for file in loading.library(F32).path.parent.iterdir():
        shutil.copy(file, package)
    if damage == "cut":
        os.truncate(package / build.LIBRARY, 10_000)
    else:
        (package / "cell.h").write_text("")
    out, err = finish(start(FALLS_BACK, tmp_path / "cache", PYTHONPATH=str(tmp_path)))
    assert out.startswith(f"The library of batched_cpu in the wheel, {package / build.LIBRARY}, does not fit: ")
    assert "impl=auto (deferred)" in out
    assert err.count("RuntimeWarning") == 1


def test_flags_source_and_cpu_key_a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = "AVX512" if torch.backends.cpu.get_cpu_capability() == "AVX2" else "AVX2"

    def edited(name: str) -> Callable[[pytest.MonkeyPatch], None]:
        copy = Path(shutil.copytree(build.FOLDER, tmp_path / name))
        (copy / name).write_text((copy / name).read_text() + "\n")
        return lambda to: to.setattr(build, "FOLDER", copy)

    changes: list[Callable[[pytest.MonkeyPatch], None]] = [
        lambda to: to.setenv(build.FLAGS_VARIABLE, "-g"),
        lambda to: to.setattr(torch.backends.cpu, "get_cpu_capability", lambda: other),
        lambda to: to.setenv("CXX", "another"),
        edited("cell.h"),
        edited("forward.cpp"),
    ]
    folders = {folder_here(F32)}
    for change in changes:
        with monkeypatch.context() as changed:
            change(changed)
            folders.add(folder_here(F32))
    assert len(folders) == 6


def test_the_map_of_the_sources_names_each() -> None:
    """In impls/README.md."""
    named = re.findall(r"`(\w+\.(?:h|cpp))`", (ROOT / "impls" / "README.md").read_text(encoding="utf-8"))
    assert set(named) == {path.name for path in build.FOLDER.iterdir() if path.suffix in (".h", ".cpp")}


#: What GCC and clang say where a number of 64 bits becomes one of fewer, with the file and the line.
NARROWED = re.compile(
    r"(\S+):(\d+):\d+: warning: .*conversion.*'(?:const )?(?:u?int64_t|size_t|(?:unsigned )?long[a-z ]*)'"
    r"(?: [{(]aka '[^']*'[)}])? to '(?:const )?(?:unsigned )?(?:int|short|char|u?int(?:8|16|32)_t)\b"
)
#: The one that may: the number of a gate.
OF_A_GATE = "at.norms[r](k, "


@NEEDS_COMPILER
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
    (N, F), G = d.shape, values.shape[1]
    numbers = [N, F, G, d.stride(0), total.data_ptr(), total.nbytes, d.data_ptr(), values.data_ptr(), values.nbytes]
    function = loading.library(d.dtype).function("add_product", ctypes.c_char_p)
    return int(function(struct.pack(f"{len(numbers)}q", *numbers)))


def add_product(total: torch.Tensor, d: torch.Tensor, values: torch.Tensor) -> None:
    """Add d^T values to total; RuntimeError if that fails."""
    loading.library(d.dtype).check(outcome_of_product(total, d, values))


@pytest.mark.usefixtures("built")
def test_an_interrupt_while_gradients_are_allocated_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sample = model_and_draw("batched_cpu", VERIFY[0], torch.float32, torch.device("cpu"))
    out, _ = model(sample.x)
    monkeypatch.setattr(torch, "empty_like", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        out.sum().backward()


@pytest.mark.usefixtures("built")
def test_an_array_of_another_size_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"^batched_cpu: array 1: expected 48 bytes, got 60$"):
        add_product(torch.zeros(3, 5), torch.zeros(2, 3), torch.zeros(2, 4))


@pytest.mark.usefixtures("built")
def test_what_went_wrong_is_said_to_the_thread_that_called() -> None:
    library = loading.library(F32)
    outcome = outcome_of_product(torch.zeros(3, 5), torch.zeros(2, 3), torch.zeros(2, 4))
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(outcome_of_product, torch.zeros(3, 6), torch.zeros(2, 3), torch.zeros(2, 4))
        assert other.result() == loading.Outcome.FAILED
        with pytest.raises(RuntimeError, match=r"^batched_cpu: array 1: expected 48 bytes, got 60$"):
            library.check(outcome)
        with pytest.raises(RuntimeError, match=r"^batched_cpu: array 1: expected 48 bytes, got 72$"):
            pool.submit(library.check, other.result()).result()


@pytest.mark.usefixtures("built")
def test_too_little_memory_is_torchs_error() -> None:
    with pytest.raises(torch.OutOfMemoryError, match=r"^batched_cpu: not enough memory$"):
        loading.library(F32).check(loading.Outcome.OUT_OF_MEMORY)


@pytest.mark.usefixtures("built")
def test_a_parameter_without_memory_is_refused() -> None:
    """As between the calls of a sharded model, whose parameters keep their sizes."""
    model, sample = model_and_draw("batched_cpu", VERIFY[0], F32, torch.device("cpu"))
    dict(model.named_parameters())["layers.0.weight_h"].untyped_storage().resize_(0)
    with torch.no_grad(), pytest.raises(RuntimeError, match=r"^batched_cpu: array 2: it has no memory$"):
        model(sample.x)


@pytest.mark.usefixtures("built")
def test_the_number_of_an_array_counts_those_that_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without layer norm, x comes after the parameters of norms, which have no memory."""
    model, sample = model_and_draw("batched_cpu", Case(T=2, B=3, I=4, H=5, S=2, Z=1), F32, torch.device("cpu"))
    packed = batched_cpu._packed

    def shortened(arguments: list[int]) -> bytes:
        at = arguments.index(sample.x.data_ptr())
        return packed([*arguments[: at + 1], arguments[at + 1] - 4, *arguments[at + 2 :]])

    monkeypatch.setattr(batched_cpu, "_packed", shortened)
    number = len(LayerParams._fields) + 1
    with torch.no_grad(), pytest.raises(RuntimeError, match=f"array {number}: expected 96 bytes, got 92$"):
        model(sample.x)


@pytest.mark.usefixtures("built")
@pytest.mark.address_sanitizer
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
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
