"""batched_cpu is built, loaded from the cache, or refused with a reason, each in a new process."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from impls import why_unavailable
from impls.batched_cpu import build, loading, sets
from suite.shared.files import ROOT

pytestmark = pytest.mark.impl(name="batched_cpu")
F32, F64 = torch.float32, torch.float64
#: A compiler that copies a finished library instead, slowly: half at a time.
COMPILER = """#!/bin/sh
for argument; do [ "$before" = -o ] && output=$argument; before=$argument; done
head -c 10000 {library} > "$output"; sleep 1; cp {library} "$output"
"""

AGREES = """
import torch
from suite.cases.verification import VERIFY_FIRST
from suite.comparison.tolerance import compare
from suite.comparison.draws import implementation
cpu = torch.device("cpu")
worst = compare(implementation("batched_cpu"), VERIFY_FIRST[0], torch.float64, cpu, draws=1)[0]
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


def folder_here() -> str:
    """Name of the folder of a build in float64, among those of other builds."""
    return build.folder_of(sets.parts(F64), build.extra_flags()).name


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
def test_of_processes_that_start_together_one_builds(tmp_path: Path) -> None:
    folder = tmp_path / "extensions"
    processes = [start(AGREES, folder) for _ in range(2)]
    outs, errs = zip(*map(finish, processes), strict=True)
    assert outs == ("agrees\n",) * 2
    assert sorted(err.partition(":")[0] for err in errs) == ["", "batched_cpu"], "both compiled"
    assert {path.name for path in folder.iterdir()} == {folder_here(), build.LOCK}, "a build left other files"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Cache of builds with a build of the library that is loaded here."""
    folder = tmp_path / "cache" / folder_here()
    shutil.copytree(loading.library(F64).path.parent, folder)
    return folder.parent


@pytest.mark.usefixtures("built")
def test_a_finished_build_needs_no_tools(cache: Path) -> None:
    assert finish(start(AGREES, cache, PATH="/nowhere")) == ("agrees\n", "")


@pytest.mark.usefixtures("compiler")
def test_a_damaged_build_is_built_again(cache: Path) -> None:
    os.truncate(cache / folder_here() / build.LIBRARY, 10_000)
    out, err = finish(start(AGREES, cache))
    assert out == "agrees\n"
    assert err.startswith("batched_cpu: ")
    assert finish(start(AGREES, cache)) == ("agrees\n", "")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [("CXX", "false", " 1"), (build.FLAGS_VARIABLE, "--no-such-flag", "no-such-flag")],
    ids=["compiler fails", "unknown flag"],
)
def test_without_a_build_auto_takes_the_next(tmp_path: Path, variable: str, value: str, said: str) -> None:
    out, err = finish(start(FALLS_BACK, tmp_path, **{variable: value}))
    reason, rest = out.split("\n", 1)
    assert reason.startswith("batched_cpu ")
    assert said in reason
    assert "impl=auto (deferred)" in rest
    assert "(2, 1, 4)" in rest
    assert len(re.findall(rf"RuntimeWarning: {re.escape(reason)} .*'auto' .*'deferred'", err)) == 1
    assert {path.name for path in tmp_path.iterdir()} <= {build.LOCK}, "a failed build left files"


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
    assert f"'{folder}'. TORCH_EXTENSIONS_DIR " in out
    assert [path.name for path in folder.iterdir()] == [build.LOCK], "a failed build left files"


@pytest.mark.usefixtures("built")
def test_a_wheel_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    package = tmp_path / "impls" / "batched_cpu"
    shutil.copytree(ROOT / "impls", package.parent, ignore=shutil.ignore_patterns("__pycache__"))
    for file in loading.library(F32).path.parent.iterdir():
        shutil.copy(file, package)
    os.truncate(package / build.LIBRARY, 10_000)
    out, err = finish(start(FALLS_BACK, tmp_path / "cache", PYTHONPATH=str(tmp_path)))
    assert f" {package / build.LIBRARY}, " in out
    assert "impl=auto (deferred)" in out
    assert err.count("RuntimeWarning") == 1
