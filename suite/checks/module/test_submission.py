"""`--impl FILE` says what is wrong with a file before any work, and checks what is right."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from suite.checks.submitted import Submitted
from suite.shared import submission
from suite.shared.files import ROOT
from suite.shared.submission import SubmissionError

CPU = torch.device("cpu")
EXAMPLE = Path(__file__).with_name("mine.py").read_text(encoding="utf-8")
BY_HAND = (ROOT / "impls" / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
IMPL = "from hyperlstm import Impl\nIMPL = Impl('mine', {})\n" + EXAMPLE


def wrapped(line: str) -> str:
    """A file whose `run` executes a line after a right call."""
    right = "from hyperlstm.row_scaled import run as right\n\ndef run(p, inputs):\n    out, last = right(p, inputs)\n"
    return f"{right}    {line}\n"


#: A file's name, what is in it, and what is said about it.
WRONG = {
    "no-file": ("mine.py", None, r"expected a Python file, got no such file\.$"),
    "no-python": ("mine.txt", "", r"expected a Python file, got mine\.txt\.$"),
    "import": (
        "mine.py",
        "import nothing_of_that_name",
        r'^Traceback.*\n  File ".*mine\.py", line 1[^$]*cannot be',
    ),
    "no-run": ("mine.py", "x = 1", r"expected a function run\(p, inputs\), .*, got None and Impl"),
    "impl": (
        "mine.py",
        f"IMPL = 'mine'\n{EXAMPLE}",
        r"expected .* IMPL, .* to be a hyperlstm\.Impl, .* and 'mine'",
    ),
    "name": ("batched.py", EXAMPLE, "expected a name other than 'auto', naive, .*; got 'batched'"),
    "option": ("mine.py", IMPL.format("options={'zoneout'}"), "expected some of layer_norm, .*; got zoneout"),
    "dtype": ("mine.py", IMPL.format("dtypes=('float32',)"), "expected floating-point dtypes of torch, got 'float32'"),
    "number": ("mine.py", wrapped("return out"), r"expected out and \(h, c, h_hat, c_hat\), got"),
    "none": ("mine.py", wrapped("return None"), r"expected out and \(h, c, h_hat, c_hat\), got None"),
    "states": ("mine.py", wrapped("return out, last[:2]"), r"expected out and \(h, c, h_hat, c_hat\), got"),
    "list": ("mine.py", wrapped("return out.tolist(), last"), r"expected out \[3, 2, 7\] in float64 on cpu, got list"),
    "shape": ("mine.py", wrapped("return out[:1], last"), r"expected out \[3, 2, 7\] in .*, got \[1, 2, 7\]"),
    "result-dtype": ("mine.py", wrapped("return out.float(), last"), "expected out .* float64 on cpu, got .* float32"),
    "device": ("mine.py", wrapped("return out.to('meta'), last"), "expected out .* on cpu, got .* on meta"),
    "changed": ("mine.py", wrapped("inputs.x.zero_(); return out, last"), "in float64: x changed, which only"),
    "raises": ("mine.py", wrapped("raise OSError('no driver')"), r"OSError: no driver[^$]*raised this error"),
}


@pytest.mark.parametrize(("name", "source", "message"), WRONG.values(), ids=WRONG)
@pytest.mark.usefixtures("_withdrawn")
def test_says_what_is_wrong(name: str, source: str | None, message: str, tmp_path: Path) -> None:
    if source is not None:
        (tmp_path / name).write_text(source)
    with pytest.raises(SubmissionError, match=message):
        submission.try_out(tmp_path / name, CPU)


def test_a_crash_or_a_hang_ends_its_own_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.py"
    file.write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(SubmissionError, match=r"mine\.py: its first calls died with .*SIGSEGV"):
        submission.try_all([file], CPU)
    monkeypatch.setattr(submission, "LIMIT", 0.5)
    with pytest.raises(SubmissionError, match=r"mine\.py: its first calls took more than 0\.5 s"):
        submission.try_all([file], CPU)


def test_files_are_verified_beside_them(tmp_path: Path) -> None:
    """The file in README with a fault to plant, the one in impls/README.md, and a file that ignores the mask."""
    sources = {"plain": EXAMPLE, "by_hand": BY_HAND, "maskless": EXAMPLE.replace("torch.tanh(g) * m", "torch.tanh(g)")}
    for name, source in sources.items():
        (tmp_path / f"{name}.py").write_text(source)
    (tmp_path / "plain.toml").write_text('"no forget gate" = ["out", "torch.sigmoid(f) * c +", "c +"]')
    options = ["-rA", "-p", "no:benchmark", "-p", "no:cacheprovider"]
    options += ["--rootdir", str(ROOT), "-c", f"{ROOT}/pyproject.toml"]
    options += [argument for name in sources for argument in ("--impl", f"{name}.py")]
    options += ["-k", "test_a_fault_of_a_file or (float64 and recurrent_dropout)"]
    files = "equality/test_equality.py", "faults/test_submitted_faults.py"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *(ROOT / "suite" / "checks" / file for file in files)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    outcomes = re.findall(r"^(PASSED|FAILED|ERROR) .*\[(\w+)-(.*)\]", done.stdout, re.MULTILINE)
    assert {name for outcome, name, _ in outcomes if outcome == "PASSED"} >= {"plain", "by_hand"}
    assert ("PASSED", "plain", "no forget gate") in [(o, n, what.split("-")[-1]) for o, n, what in outcomes]
    assert {name for outcome, name, _ in outcomes if outcome != "PASSED"} == {"maskless"}
    assert "Verification failed: maskless in float64" in done.stdout.replace("**", "")
    assert (tmp_path / "plain-results" / ".gitignore").read_text() == "*\n"


def test_a_test_is_skipped_for_an_option_that_a_file_does_not_declare() -> None:
    plugin = object.__new__(Submitted)
    plugin.names = {"deferred"}
    for option, outcome in (("zoneout", pytest.skip.Exception), ("layer_norm", ValueError)):
        call = plugin.pytest_runtest_call()
        next(call)
        with pytest.raises(BaseException) as raised:  # noqa: PT011, of which a skip is one
            call.throw(ValueError(f"deferred does not support {option}."))
        assert raised.type is outcome
