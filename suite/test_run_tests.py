"""Tests are run on all cores, where a command line or a session says; a choice of none is an error."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch

from suite.checks.cpu import sanitized
from suite.checks.module.files import EXAMPLE
from suite.run_tests import arguments_of, ending, main, parser
from suite.shared import machine
from suite.shared.files import ROOT
from suite.verify import processes

TWO = "suite/shared/test_process.py", "suite/shared/test_usage.py"
OTHER = "suite/test_scheduling.py"


@pytest.mark.parametrize(
    ("user", "files"),
    [
        ([], TWO),
        (["-k", "suite"], TWO),
        (["--ignore", "suite/results"], TWO),
        (["--deselect", f"{OTHER}::test_a"], TWO),
        (["--results", "suite/results"], TWO),
        (["--results", "/tmp"], TWO),
        ([OTHER, "-x"], (OTHER,)),
        ([str(ROOT / OTHER)], (OTHER,)),
    ],
    ids=" ".join,
)
def test_tests_that_the_user_names_replace_those_of_a_session(user: list[str], files: Sequence[str]) -> None:
    options = ["-m", "not thorough", *user, "-n0", "--collect-only"]
    words = ["-m", "suite.run_tests", "--testpaths", *TWO, "--", *options]
    run = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    tests = [line.partition("::")[0] for line in run.stdout.splitlines() if "::" in line]
    assert tuple(dict.fromkeys(tests)) == tuple(files), run.stdout + run.stderr
    assert "Warning" not in run.stdout


def of_pytest(*arguments: str) -> list[str]:
    """Arguments of pytest for arguments of the command."""
    return arguments_of(parser().parse_args(arguments))


@pytest.mark.parametrize(
    "user", [["--numprocesses=0"], ["--dist", "no"], ["-o", "faulthandler_timeout=5"]], ids=" ".join
)
def test_options_of_the_user_come_last_and_win(user: list[str]) -> None:
    for start in ([], ["--testpaths", "suite/checks", "--short-on-gpu"]):
        assert of_pytest(*start, "--", *user)[-len(user) :] == user


@pytest.mark.parametrize("spelling", [["--impl", "a.py"], ["--impl=a.py"], ["--impl", "a.py", "b.py"]])
def test_each_process_takes_the_next_test_of_a_file(spelling: list[str]) -> None:
    def last(start: str, user: Sequence[str]) -> str:
        words = of_pytest("--testpaths", "suite/checks", "--", *user)
        return [word for word in words if word.startswith(start)][-1]

    assert last("--dist", spelling) == "--dist=worksteal"
    assert last("faulthandler_timeout", spelling) == "faulthandler_timeout=120"
    assert last("--dist", []) == last("--dist", [*spelling, "--size", "H64"]) == "--dist=loadscope"
    assert last("faulthandler_timeout", []) == "faulthandler_timeout=1000"


def test_a_conftest_beside_a_file_is_not_loaded(tmp_path: Path) -> None:
    """The file may be in another checkout, whose conftest.py pytest would load for tests there."""
    (tmp_path / "conftest.py").write_text("raise ImportError('of another checkout')\n")
    (file := tmp_path / "mine.py").write_text(EXAMPLE)
    words = ["-m", "suite.run_tests", "--testpaths", "suite/checks/faults", "--", "--impl", str(file)]
    command = [sys.executable, *words, "--device", "cpu", "-n0", "--collect-only"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_path_without_tests_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        parser().parse_args(["--testpaths", "suite/checks", "suite/no"])
    assert "argument --testpaths: expected a file or folder of the project, but there is no suite/no" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("session", "user", "limit"),
    [
        (["--short-on-gpu"], [], 120),
        (["--short-on-gpu"], ["--device", "cuda:1"], 120),
        (["--short-on-gpu"], ["--device=cpu"], 1000),
        ([], [], 1000),
    ],
    ids=["gpu", "its-number", "cpu", "long-tests"],
)
def test_a_test_that_hangs_on_a_gpu_ends_soon(
    session: list[str], user: list[str], limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "default_device", lambda: torch.device("cuda", 0))
    arguments = of_pytest("--testpaths", "suite/checks", *session, "--", *user)
    assert f"faulthandler_timeout={limit}" in arguments


def test_a_sanitizer_runs_what_the_user_names(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = list[list[str]]()
    monkeypatch.setattr(sanitized, "path_of", str)
    monkeypatch.setattr(os, "execvpe", lambda program, command, variables: commands.append(command))
    sanitized.main("thread", "folder", "-x", OTHER)
    (command,) = commands
    options = parser().parse_args(command[command.index("suite.run_tests") + 1 :])
    assert options.testpaths == ["suite/checks"]
    assert options.arguments[-2:] == ["-x", OTHER]


def test_a_choice_of_no_test_is_an_error() -> None:
    command = [sys.executable, "-m", "suite.run_tests", "--", "suite/shared/test_process.py", "-m", "onnx", "-n1"]
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
    main(["--testpaths", "suite/shared"])
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
