"""Sessions choose tests by markers, which are registered, and which tests have."""

import subprocess
import sys
from pathlib import Path

import pytest

import noxfile
from suite import run_tests
from suite.checks.kernels import sanitized
from suite.checks.kernels.sanitized import SANITIZERS
from suite.checks.module.files import EXAMPLE
from suite.package.sessions import recorded
from suite.shared.files import ROOT


def collected(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A run of pytest that lists tests."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:benchmark", "-p", "no:xdist"]
    return subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300)


#: Tests of suite/checks that a session chooses, by its name and the number of its run.
CHOSEN = {
    ("export", 1): {
        "module/test_capabilities.py::test_auto_is_recorded",
        "module/test_capabilities.py::test_auto_takes_torchs_own_operators_for_onnx",
        "module/test_capabilities.py::test_capability",
        "module/test_first_use.py::test_training_is_right_after_any_first_use",
    },
    ("sanitize", 0): {
        "equality/test_equality.py::test_equals_the_oracle",
        "equality/test_uses.py::test_equals_the_oracle",
        "kernels/test_allocations.py::test_an_allocation_that_fails_is_an_error_without_a_result",
        "kernels/test_batched_cpu.py::test_weight_gradients_of_whole_numbers_are_exact",
        "kernels/test_batched_cpu.py::test_weight_gradients_round_less_than_one_long_sum",
        "kernels/test_bfloat16.py::test_a_way_keeps_the_rule",
        "kernels/test_bfloat16.py::test_nan_stays_in_its_row_of_a_way",
        "kernels/test_split.py::test_any_split_keeps_the_rule",
        "module/test_custom_op.py::test_packed_sequences_take_one_call_of_each_operator",
    },
    ("sanitize", 1): {
        "kernels/test_barrier.py::test_threads_sync_and_a_long_wait_sleeps",
        "kernels/test_split.py::test_any_split_keeps_the_rule",
    },
}


@pytest.mark.parametrize(("session", "number"), CHOSEN)
def test_markers_choose_these_tests(session: str, number: int, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """A test that lost its marker would be left out without an error."""
    run = recorded(session, tmp_path).runs[number]
    arguments = run.arguments
    if run.module == sanitized.__name__:
        name, folder, *user = arguments
        arguments = sanitized.arguments_of(SANITIZERS[name], Path(folder), user)
    options = run_tests.parser().parse_args(arguments)
    of_pytest = pytestconfig._parser.parse_known_args(options.arguments)
    listed = collected(*options.testpaths, "-m", of_pytest.markexpr, "--thorough").stdout
    ids = [line.removeprefix("suite/checks/") for line in listed.splitlines() if "::" in line]
    assert {test.partition("[")[0] for test in ids} == CHOSEN[session, number]


def test_an_older_triton_meets_every_test_of_kernels_and_the_rounding_of_the_interpreter() -> None:
    kernels, interpreter = (f"suite/checks/kernels/test_{name}.py" for name in ("kernels", "interpreter"))

    def ids(*arguments: str) -> set[str]:
        return {line for line in collected("--thorough", *arguments).stdout.splitlines() if "::" in line}

    rounding = f"{interpreter}::test_with_the_interpreter_on[rounding]"
    assert rounding in ids(interpreter)
    assert ids(kernels, interpreter, "-m", "triton") == {*ids(kernels), rounding}


def test_what_takes_long_comes_first_but_for_stale_edits() -> None:
    files = [f"suite/checks/{name}.py" for name in ("module/test_dropout", "equality/test_uses", "faults/test_edits")]
    listed = collected(*files).stdout
    ran = [line.partition("::")[0] for line in listed.splitlines() if "::" in line]
    assert [*dict.fromkeys(ran)] == files[::-1]


def test_the_cases_of_an_implementation_are_marked() -> None:
    listed = collected(noxfile.EQUALITY, "-m", noxfile.BATCHED_CPU).stdout
    names = {line.partition("[")[2].partition("-")[0] for line in listed.splitlines() if "::" in line}
    assert names == {"batched_cpu"}


def test_a_file_with_the_name_of_a_workload_chooses_its_own_tests_alone(tmp_path: Path) -> None:
    """A parameter of another meaning may have the same value."""
    (file := tmp_path / "small.py").write_text(EXAMPLE)
    listed = collected("suite/checks/kernels/test_kernels.py", "suite/checks/faults/test_reach.py", f"--impl={file}")
    ids = [line for line in listed.stdout.splitlines() if "::" in line]
    assert ids == ["suite/checks/faults/test_reach.py::test_a_comparison_meets_each_condition[small]"]


LOST = """
class Lost:
    def __del__(self): raise OSError
def test_one(): Lost()
"""


def test_an_error_that_python_only_prints_is_a_failure(tmp_path: Path) -> None:
    """As of a destructor, or of a callback of C."""
    (file := tmp_path / "test_lost.py").write_text(LOST)
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), f"--rootdir={tmp_path}", str(file)]
    run = subprocess.run([*command, "-p", "no:benchmark", "-p", "no:xdist"], cwd=ROOT, capture_output=True, timeout=60)
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout.decode()


@pytest.mark.parametrize("choice", ["expression", "test"])
def test_a_marker_that_is_not_registered_is_an_error(choice: str, tmp_path: Path) -> None:
    file = tmp_path / "test_marked.py"
    marker = "onnx" if choice == "expression" else "onxn"
    file.write_text(f"import pytest\n@pytest.mark.{marker}\ndef test_one(): pass\n")
    options = ["-m", "onxn"] if choice == "expression" else []
    run = collected("-c", str(ROOT / "pyproject.toml"), f"--rootdir={tmp_path}", str(file), *options)
    assert run.returncode not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    assert "onxn" in run.stdout + run.stderr
