"""Sessions choose tests by markers, which are registered, and which tests have."""

import subprocess
import sys
from pathlib import Path

import pytest

from suite.shared.files import ROOT


def collected(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A run of pytest that lists tests."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:benchmark", "-p", "no:xdist"]
    return subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300)


#: Files of suite/checks that have chosen tests, by the expression that chooses these in a session.
CHOSEN = {
    "onnx": {"module/test_capabilities.py", "module/test_first_use.py"},
    "address_sanitizer and impl(name='batched_cpu')": {
        "equality/test_equality.py",
        "equality/test_uses.py",
        "kernels/test_allocations.py",
        "kernels/test_batched_cpu.py",
        "kernels/test_bfloat16.py",
        "kernels/test_split.py",
        "module/test_custom_op.py",
    },
    "triton": {"kernels/test_kernels.py"},
    "triton and thorough": {"kernels/test_interpreter.py"},
    "thread_sanitizer and impl(name='batched_cpu')": {"kernels/test_barrier.py", "kernels/test_split.py"},
}


@pytest.mark.parametrize("expression", CHOSEN)
def test_markers_choose_tests_of_these_files(expression: str) -> None:
    """A test that lost its marker would be left out without an error."""
    listed = collected("suite/checks", "-m", expression).stdout
    ids = [line.removeprefix("suite/checks/") for line in listed.splitlines() if "::" in line]
    assert {test.partition("::")[0] for test in ids} == CHOSEN[expression]


def test_the_cases_of_an_implementation_are_marked() -> None:
    listed = collected("suite/checks/equality/test_equality.py", "-m", "impl(name='batched')").stdout
    names = {line.partition("[")[2].partition("-")[0] for line in listed.splitlines() if "::" in line}
    assert names == {"batched"}


@pytest.mark.parametrize("choice", ["expression", "test"])
def test_a_marker_that_is_not_registered_is_an_error(choice: str, tmp_path: Path) -> None:
    file = tmp_path / "test_marked.py"
    marker = "onnx" if choice == "expression" else "onxn"
    file.write_text(f"import pytest\n@pytest.mark.{marker}\ndef test_one(): pass\n")
    options = ["-m", "onxn"] if choice == "expression" else []
    run = collected("-c", str(ROOT / "pyproject.toml"), f"--rootdir={tmp_path}", str(file), *options)
    assert run.returncode not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    assert "onxn" in run.stdout + run.stderr
