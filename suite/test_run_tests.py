"""Tests are run on all cores, where a command line or a session says; a choice of none is an error."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch

from suite.checks.kernels import sanitized
from suite.run_tests import SHORT_ON_GPU, arguments_of, ending, main, split
from suite.shared import machine
from suite.shared.files import ROOT
from suite.verify import processes

TWO = "suite/shared/test_process.py", "suite/shared/test_usage.py"
OTHER = "suite/shared/test_scheduling.py"


@pytest.mark.parametrize(
    ("user", "files"),
    [
        ([], TWO),
        (["-k", "suite"], TWO),
        (["--ignore", "suite/results"], TWO),
        (["--deselect", f"{OTHER}::test_a"], TWO),
        (["--results", "suite/results"], TWO),
        (["--results", "/tmp/results"], TWO),
        ([OTHER, "-x"], (OTHER,)),
        ([str(ROOT / OTHER)], (OTHER,)),
    ],
    ids=" ".join,
)
def test_places_of_the_user_replace_those_of_a_session(user: list[str], files: Sequence[str]) -> None:
    words = ["-m", "suite.run_tests", *TWO, "-m", "not thorough", "--", *user, "-n0", "--collect-only"]
    run = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    tests = [line.partition("::")[0] for line in run.stdout.splitlines() if "::" in line]
    assert tuple(dict.fromkeys(tests)) == tuple(files), run.stdout + run.stderr


@pytest.mark.parametrize("spelling", [["--impl", "a.py"], ["--impl=a.py"], ["--impl", "a.py", "b.py"]])
def test_each_process_takes_the_next_test_of_a_file(spelling: list[str]) -> None:
    def last(start: str, user: Sequence[str]) -> str:
        (*_, argument) = (word for word in arguments_of(["suite/checks"], user) if word.startswith(start))
        return argument

    assert last("--dist", spelling) == "--dist=worksteal"
    assert last("faulthandler_timeout", spelling) == "faulthandler_timeout=120"
    assert last("--dist", []) == "--dist=loadscope"
    assert last("faulthandler_timeout", []) == "faulthandler_timeout=1000"


@pytest.mark.parametrize(
    ("typed", "passed"),
    [
        ("--impl a.py", "--impl=a.py"),
        ("--impl=a.py", "--impl=a.py"),
        ("-k x --impl a.py suite/b.py --thorough -m y", "-k x --impl=a.py --impl=suite/b.py --thorough -m y"),
        ("--impl a.py --impl b.py", "--impl=a.py --impl=b.py"),
        ("-x --impl", "-x --impl"),
    ],
)
def test_a_file_is_no_place_of_tests(typed: str, passed: str) -> None:
    """Near the file may be another checkout, whose conftest.py pytest would load."""
    words = arguments_of([], typed.split())
    assert words[-len(passed.split()) :] == passed.split()


@pytest.mark.parametrize(
    ("session", "user", "limit"),
    [
        ([SHORT_ON_GPU], [], 120),
        ([SHORT_ON_GPU], ["--device", "cuda:1"], 120),
        ([SHORT_ON_GPU], ["--device=cpu"], 1000),
        ([], [], 1000),
    ],
    ids=["gpu", "its-number", "cpu", "long-tests"],
)
def test_a_test_that_hangs_on_a_gpu_ends_soon(
    session: list[str], user: list[str], limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "default_device", lambda: torch.device("cuda", 0))
    arguments = arguments_of(["suite/checks", *session], user)
    assert f"faulthandler_timeout={limit}" in arguments
    assert SHORT_ON_GPU not in arguments


def test_a_sanitizer_runs_what_the_user_names(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = list[list[str]]()
    monkeypatch.setattr(sanitized, "path_of", str)
    monkeypatch.setattr(os, "execvpe", lambda program, command, variables: commands.append(command))
    sanitized.main("thread", "folder", "suite/checks", "--thorough", "--", OTHER)
    (command,) = commands
    words = command[command.index("suite.run_tests") + 1 :]
    session, user = split(words)
    assert session[0] == "suite/checks"
    assert user == [OTHER]


def test_a_choice_of_no_test_is_an_error() -> None:
    command = [sys.executable, "-m", "suite.run_tests", "suite/shared/test_process.py", "-m", "onnx", "--", "-n1"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == pytest.ExitCode.NO_TESTS_COLLECTED


def test_a_test_that_hangs_ends_its_process(tmp_path: Path) -> None:
    (tmp_path / "test_hangs.py").write_text("import time\ndef test_hangs(): time.sleep(30)\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:benchmark", "-p", "no:xdist", *ending(1)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=20)
    assert "in test_hangs" in run.stderr
    assert run.returncode != 0


def test_threads_of_a_worker_leave_cores_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenMP's threads wait asleep in every process, of which each has one that computes."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.setattr(pytest, "main", lambda *_: 0)
    main(["suite/shared"])
    assert os.environ["OMP_WAIT_POLICY"] == "passive"
    for name in ("OMP_NUM_THREADS", "TORCH_WARM_POOL"):
        monkeypatch.setenv(name, "7")
    numbers = list[int]()
    monkeypatch.setattr(torch, "set_num_threads", numbers.append)
    processes.pytest_configure(MagicMock(workerinput={}))
    assert (numbers, os.environ["OMP_NUM_THREADS"], os.environ["TORCH_WARM_POOL"]) == ([1], "1", "0")


@pytest.mark.parametrize("value", [None, ":16:8"])
def test_a_variable_of_cublas_stays_where_the_user_sets_it(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    if value:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", value)
    processes.pytest_configure(MagicMock(spec=["option"]))
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == (value or ":4096:8")


def test_a_line_of_the_list_of_sessions_fits_a_terminal() -> None:
    command = [sys.executable, "-m", "nox", "--list"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    lines = [line for line in run.stdout.splitlines() if "->" in line]
    assert len(lines) > 10
    assert [line for line in lines if len(line) > 80] == []
