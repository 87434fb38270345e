"""`--impl FILE` says what is wrong with a file before any work, and checks what is right."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from suite.shared import submission
from suite.shared.files import ROOT
from suite.shared.submission import SubmissionError

CPU = torch.device("cpu")
EXAMPLE = Path(__file__).with_name("mine.py")
RUN = "from hyperlstm.row_scaled import run as right\n\ndef run(p, inputs):\n    out, last = right(p, inputs)\n    {}\n"
RETURN = "return out, last"
#: What is in a file, and what is said about it.
WRONG = {
    "import": ("import nothing_of_that_name\n" + RUN.format(RETURN), r'mine\.py", line 1[^$]*it cannot be imported'),
    "no-run": ("x = 1\n", r"expected a function run\(p, inputs\), got None"),
    "impl": ("IMPL = 'mine'\n" + RUN.format(RETURN), "expected IMPL to be a hyperlstm.Impl, got 'mine'"),
    "option": (
        "from hyperlstm import Impl\nIMPL = Impl('mine', options=frozenset({'zoneout'}))\n" + RUN.format(RETURN),
        "expected some of layer_norm, recurrent_dropout; got zoneout",
    ),
    "dtype": (
        "from hyperlstm import Impl\nIMPL = Impl('mine', dtypes=('float32',))\n" + RUN.format(RETURN),
        "expected floating-point dtypes of torch, got 'float32'",
    ),
    "number": (RUN.format("return out"), r"expected out and \(h, c, h_hat, c_hat\), got"),
    "shape": (RUN.format("return out[:1], last"), r"in float64: expected out \[3, 2, 7\] .*, got \[1, 2, 7\]"),
    "result-dtype": (RUN.format("return out.float(), last"), "expected out .* in float64 on cpu, got .* in float32"),
    "changed": (RUN.format("inputs.x.data.zero_(); return out, last"), "x was changed"),
    "no-gradient": (RUN.format("return out.detach(), last"), "expected out to have a gradient"),
    "raises": (RUN.format("raise OSError('no driver')"), "OSError: no driver[^$]*raised this error"),
}


@pytest.fixture(autouse=True)
def _withdrawn() -> Iterator[None]:
    with submission.withdrawn():
        yield


@pytest.mark.parametrize(("source", "message"), WRONG.values(), ids=WRONG)
def test_says_what_is_wrong(source: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text(source)
    assert submission.main("cpu", str(file)) == submission.WRONG
    said = capsys.readouterr().out
    assert re.search(message, said), said


@pytest.mark.parametrize("path", ["nothing.py", "", "notes.txt"])
def test_says_that_there_is_no_such_file(path: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(SubmissionError, match=r"expected a Python file, got (no such file|a folder|notes\.txt)\."):
        submission.load(tmp_path / path)


def test_says_that_a_name_exists(tmp_path: Path) -> None:
    file = tmp_path / "batched.py"
    file.write_text(EXAMPLE.read_text())
    with pytest.raises(SubmissionError, match=r"expected a name other than 'auto', naive, .*; got 'batched'"):
        submission.load(file)


@pytest.mark.parametrize(
    ("work", "limit", "message"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", 120.0, "its first calls ended by SIGSEGV"),
        ("import time; time.sleep(600)", 10.0, "the first calls did not end within 10 s"),
    ],
    ids=["crash", "hang"],
)
def test_a_crash_or_a_hang_ends_its_own_process(
    work: str, limit: float, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(RUN.format(f"{work}; {RETURN}"))
    monkeypatch.setattr(submission, "LIMIT", limit)
    with pytest.raises(SubmissionError, match=message):
        submission.try_all([file], CPU)


def verify(file: Path, *selected: str) -> subprocess.CompletedProcess[str]:
    """Verify a file from its own folder, by small cases alone."""
    options = ["-q", "-p", "no:benchmark", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
    tests = "equality/test_equality.py", "faults/test_submitted_faults.py"
    paths = [str(ROOT / "suite" / "checks" / test) for test in tests]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", *options, "-c", str(ROOT / "pyproject.toml"), "--impl", file.name]
    return subprocess.run(
        [*command, *paths, *selected], cwd=file.parent, env=environment, capture_output=True, text=True, check=False
    )


def test_the_examples_are_verified_beside_their_files(tmp_path: Path) -> None:
    """That of README with a fault of its own, and that of impls/README.md, which has a gradient by hand."""
    plain, by_hand = tmp_path / "mine.py", tmp_path / "rebuilt.py"
    plain.write_text(EXAMPLE.read_text())
    plain.with_suffix(".toml").write_text('"no forget gate" = ["out", "torch.sigmoid(f) * c +", "c +"]')
    by_hand.write_text((ROOT / "impls" / "README.md").read_text().split("```python\n")[1].split("```")[0])
    for file in (plain, by_hand):
        done = verify(file, "-k", "faults or (float32 and L1 and T1)")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "All comparisons with the equation passed: 1 implementation" in done.stdout
        assert (tmp_path / f"{file.stem}-results" / ".gitignore").read_text() == "*\n"


def test_a_wrong_file_fails_with_the_tensor_and_the_case(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(EXAMPLE.read_text().replace("torch.tanh(g) * m", "torch.tanh(g)"))
    done = verify(file, "-k", "recurrent_dropout and float32")
    assert done.returncode == 1, done.stdout
    assert "recurrent_dropout" in done.stdout
    assert "Verification failed: mine in" in done.stdout.replace("**", "")
