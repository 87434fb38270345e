"""Where batched_cpu is built, what a build depends on, and the reason that a user reads if there is none."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from threading import Barrier
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from impls import HyperLSTM
from impls.batched_cpu import build, loading, sets
from suite.shared.files import ROOT

CPU, F32 = torch.device("cpu"), torch.float32
NEEDS_COMPILER = pytest.mark.skipif(shutil.which(build.compiler()[0]) is None, reason="There is no C++ compiler.")
#: Without the library of a wheel, in a process that has loaded none.
COMPILED_HERE = pytest.mark.skipif(
    (build.FOLDER / build.LIBRARY).exists(), reason="A wheel's library is not compiled here."
)


@pytest.fixture
def reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], str]:
    """A function that tries to build and says why there is no library."""
    monkeypatch.setenv(build.BUILDS_VARIABLE, str(tmp_path / "builds"))
    monkeypatch.setattr(loading, "_find_or_build", loading._of_builds)
    monkeypatch.setattr(loading, "_results", {})
    return lambda: loading.why_unavailable(CPU, F32) or ""


def test_the_compiler_is_that_of_the_variable_or_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, command in (("", ["c++"]), ("  ", ["c++"]), ("ccache 'my g++'", ["ccache", "my g++"])):
        monkeypatch.setenv("CXX", value)
        assert build.compiler() == command


def test_builds_go_where_the_first_variable_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for name in ("TORCH_EXTENSIONS_DIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "")
    assert build.builds() == Path("/home/me/.cache/torch_extensions")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert build.builds() == Path("/cache/torch_extensions")
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", "/builds")
    assert build.builds() == Path("/builds")


def test_a_build_for_something_else_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = "AVX512" if torch.backends.cpu.get_cpu_capability() == "AVX2" else "AVX2"
    copy = Path(shutil.copytree(build.FOLDER, tmp_path / "edited"))
    (copy / "cell.h").write_text((copy / "cell.h").read_text() + "\n")
    changes: list[Callable[[pytest.MonkeyPatch], None]] = [
        lambda to: None,
        lambda to: to.setenv(build.FLAGS_VARIABLE, "-g"),
        lambda to: to.setenv("CXX", "another"),
        lambda to: to.setattr(torch.backends.cpu, "get_cpu_capability", lambda: other),
        lambda to: to.setattr("platform.libc_ver", lambda: ("glibc", "2.1")),
        lambda to: to.setattr(build, "FOLDER", copy),
        lambda to: to.setattr(build, "EPS", 1e-3),  # which is compiled in
    ]
    folders = set[Path]()
    for change in changes:
        with monkeypatch.context() as changed:
            change(changed)
            folders.add(build.folder_of(sets.parts(F32), build.extra_flags()))
    assert len(folders) == len(changes)


@pytest.mark.filterwarnings("ignore:batched_cpu could not be built")
@COMPILED_HERE
def test_without_a_home_a_model_is_printed_and_the_reason_says_what_helps(
    reason: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a user without an entry, in a container."""
    monkeypatch.setattr(Path, "home", Mock(side_effect=RuntimeError("Could not determine home directory.")))
    for name in ("TORCH_EXTENSIONS_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert "impl=auto (deferred)" in repr(HyperLSTM(5, 7, 4, 2, 1))
    assert "Could not determine home directory.. TORCH_EXTENSIONS_DIR " in reason()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("CXX", "no-such-compiler -x", "'no-such-compiler'"),
        ("CXX", "g++ 'open", f"CXX .*{build.FLAGS_VARIABLE} .*: No closing quotation"),
        (build.FLAGS_VARIABLE, "'open", f"CXX .*{build.FLAGS_VARIABLE} .*: No closing quotation"),
        (build.BUILDS_VARIABLE, "/dev/null/builds", r"\[Errno 20\] Not a directory: '/dev/null/builds"),
    ],
    ids=["no compiler", "open quotation", "open quotation of flags", "no folder"],
)
def test_what_keeps_a_build_from_starting_is_the_reason(
    name: str, value: str, expected: str, reason: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", sys.executable)  # a program that exists, and that nothing calls
    monkeypatch.setenv(name, value)
    assert re.match(f"batched_cpu .*: .*{expected}", reason())


def test_the_first_error_of_a_compiler_is_the_reason(
    reason: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any encoding. A call raises an error with all its output, and a build that failed is not tried again."""
    compiler, called = tmp_path / "compiler", tmp_path / "called"
    said = r"in file a\na: error: \342\200\230x\377\nb: error: c\n"
    compiler.write_text(f"#!/bin/sh\necho >> '{called}'; printf '{said}'; exit 3\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", os.fspath(compiler))
    assert re.match("batched_cpu .*: a: error: \u2018x.* CXX", reason())
    calls = called.read_text()
    with pytest.raises(RuntimeError, match=r"(?s)in file a.*b: error: c"):
        loading.library(F32)
    assert called.read_text() == calls
    assert [path.name for path in (tmp_path / "builds").iterdir()] == [build.LOCK], "a failed build left files"


@pytest.mark.filterwarnings("ignore:batched_cpu could not be built")
@COMPILED_HERE
def test_printing_a_model_compiles_nothing(
    reason: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", sys.executable)
    model = HyperLSTM(5, 7, 4, 2, 1)
    assert "impl=auto (batched_cpu, " in repr(model)
    assert not (tmp_path / "builds").exists()
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "impl=auto (deferred)" in repr(model)


def test_threads_that_call_at_the_same_time_build_once(
    reason: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    both, tried = Barrier(2), list[torch.dtype]()

    def slow(dtype: torch.dtype) -> loading.Failure:
        tried.append(dtype)
        time.sleep(0.05)
        return loading.Failure("it could not")

    def called(_: int) -> str:
        both.wait(timeout=10)
        return reason()

    monkeypatch.setattr(loading, "_find_or_build", slow)
    with ThreadPoolExecutor(2) as pool:
        assert [*pool.map(called, range(2))] == ["it could not"] * 2
    assert tried == [F32]


def test_a_build_removes_what_a_killed_one_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one that runs has made stays."""
    folder = tmp_path / "builds" / "one"
    killed, running = folder.with_name("hyperlstm_0.a"), folder.with_name("hyperlstm_1.b")
    for other in (killed, running):
        (other / "new").mkdir(parents=True)
    os.utime(killed, (0, 0))
    monkeypatch.setattr(build, "compile_library", lambda *arguments: None)
    build.build(folder, sets.parts(F32), [])
    assert {*folder.parent.iterdir()} == {folder, running, folder.with_name(build.LOCK)}


@NEEDS_COMPILER
@COMPILED_HERE
def test_every_dtype_can_be_built_ahead() -> None:
    """As an image is made, where a build that fails must end it."""
    command = [sys.executable, "-m", "impls.batched_cpu"]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {Path(line.partition(": ")[2]) for line in lines} == {loading.library(each).path for each in sets.DTYPES}
    env = os.environ | {build.BUILDS_VARIABLE: "/dev/null/builds"}
    assert subprocess.run(command, cwd=ROOT, env=env, capture_output=True).returncode == 1


@NEEDS_COMPILER
def test_a_library_of_a_wheel_is_taken_if_it_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def copied(name: str, dtype: torch.dtype) -> Path:
        shutil.copytree(loading.library(dtype).path.parent, tmp_path / name)
        return tmp_path / name / build.LIBRARY

    def why(path: Path) -> str:
        failure = loading._of_wheel(path, F32)
        assert isinstance(failure, loading.Failure)
        return failure.reason

    right, cut, other_dtype = copied("right", F32), copied("cut", F32), copied("other", torch.float64)
    os.truncate(cut, 10_000)
    assert isinstance(loading._of_wheel(right, F32), loading.Library)
    assert f"{cut}, " in why(cut)
    assert "undefined symbol: hyperlstm_forward_float32_" in why(other_dtype)
    monkeypatch.setattr(build, "sources", lambda: "others")
    assert f"{right}, " in why(right)


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (
            "",
            pytest.warns(UserWarning, match="AMX.* AVX512-BF16"),
        ),
        ("amx", pytest.raises(sets.WayError, match=r"AMX.* HYPERLSTM_BFLOAT16=amx")),
        ("avx512_bf16", nullcontext()),
    ],
    ids=["the fastest", "amx", "avx512_bf16"],
)
def test_a_system_that_does_not_permit_amx_is_said(named: str, expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "ways", lambda: list(sets.WAYS))
    monkeypatch.setenv(sets.WAY_VARIABLE, named)
    library = object.__new__(loading.Library)
    library._library = Mock()
    library._library.hyperlstm_use_tiles.return_value = False
    with expected:
        library._choose_way()
