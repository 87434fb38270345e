"""`--impl FILE` says what is wrong with a file before any work, and checks what is right."""

import re
from functools import partial
from pathlib import Path

import pytest
import torch

from suite.shared import process, submission
from suite.shared.files import ROOT

CPU = torch.device("cpu")
EXAMPLE = Path(__file__).with_name("mine.py").read_text(encoding="utf-8")
BY_HAND = (ROOT / "impls" / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
RIGHT = "from hyperlstm.row_scaled import run as right\n\ndef run(p, inputs):\n    out, last = right(p, inputs)\n    "

#: What is in a file, and what is said about it.
WRONG = {
    "no-file": (None, "No such file or directory"),
    "number": (RIGHT + "return out", r"expected \(out, \(h, c, h_hat, c_hat\)\), got tensor"),
    "states": (RIGHT + "return out, last[:2]", r"\(2, 4\), \(2, 4\)\], got \[\(3, 2, 7\), \(2, 7\), \(2, 7\)\]$"),
    "list": (RIGHT + "return out.tolist(), last", r"expected shapes \[\(3, 2, 7\), .*, got \['list', \(2, 7\)"),
    "result-dtype": (RIGHT + "return out.float(), last", "expected float64 on cpu as x is, got float32 on cpu"),
    "device": (RIGHT + "return out.to('meta'), last", "expected float64 on cpu as x is, got float64 on meta"),
    "changed": (RIGHT + "inputs.x.data.zero_(); return out, last", "changed x, which only"),
}


@pytest.mark.parametrize(("source", "message"), WRONG.values(), ids=WRONG)
@pytest.mark.usefixtures("_withdrawn")
def test_says_what_is_wrong(source: str | None, message: str, tmp_path: Path) -> None:
    if source is not None:
        (tmp_path / "mine.py").write_text(source)
    with pytest.raises((OSError, TypeError, ValueError), match=message):
        submission.try_out(submission.load(tmp_path / "mine.py"), CPU)


ENDS = {
    "call": ("def run(p, inputs): return inputs.y", r'Traceback[^$]*mine\.py", line 1, in run[^$]*AttributeError'),
    "crash": ("import os; os.abort()", r'Fatal Python error: Aborted[^$]*mine\.py", line 1'),
    "hang": ("import sys, time; time.sleep(20); sys.exit()", r'Timeout [^$]*mine\.py", line 1'),
}


@pytest.mark.parametrize(("source", "message"), ENDS.values(), ids=ENDS)
def test_a_trial_says_where_it_ended(
    source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "LIMIT", 1 if "sleep" in source else 60)
    file, ended = tmp_path / "mine.py", rf"^--impl .*mine\.py\n{message}[^$]*\nThe trial ended with exit"
    file.write_text(source)
    with pytest.raises(SystemExit, match=ended):
        submission.load_all([file], CPU)


def test_files_are_verified_beside_them(tmp_path: Path) -> None:
    """Of both READMEs, without an option, and one that ignores the mask or refuses it."""
    refuses = "    if x.shape[2] == 4: raise ValueError('maskless does not support recurrent_dropout.')\n    out = []"
    sources = {
        "plain": EXAMPLE,
        "by_hand": BY_HAND,
        "undeclared": "from hyperlstm import Impl\nIMPL = Impl('mine', options={'layer_norm'})\n" + EXAMPLE,
        "maskless": EXAMPLE.replace("torch.tanh(g) * m", "torch.tanh(g)").replace("    out = []", refuses),
    }
    for name, source in sources.items():
        (tmp_path / f"{name}.py").write_text(source)
    (tmp_path / "plain.toml").write_text('"no forget gate" = ["out", "torch.sigmoid(f) * c +", "c +"]')
    hand_written = "packed or fullgraph or pickle or second-derivative or jacobian or bfloat16 or states-plain"
    hand_written = f"by_hand and ({hand_written} or exception)"
    options = ["-k", f"of_a_file or (float64 and recurrent_dropout) or test_g_is_dropped or ({hand_written})"]
    options += [argument for name in sources for argument in ("--impl", str(tmp_path / f"{name}.py"))]
    files = ["equality/test_equality.py", "faults/test_submitted_faults.py"]
    files += ["module/test_dropout.py", "module/test_capabilities.py", "module/test_custom_op.py"]
    files += ["equality/test_leftovers.py"]
    run = partial(process.run, OMP_NUM_THREADS="2", PYTEST_XDIST_WORKER=None)
    with pytest.raises(RuntimeError, match="non-zero exit status 1") as failed:
        run("pytest", "-rA", "-n", "1", "-p", "no:cacheprovider", *options, *(f"suite/checks/{file}" for file in files))
    output = str(failed.value)
    outcomes = re.findall(r"^(PASSED|FAILED|ERROR) .*\[(\w+)[-\]](.*)", output, re.MULTILINE)
    assert {name for outcome, name, _ in outcomes if outcome == "PASSED"} >= {"plain", "by_hand"}
    assert ("PASSED", "by_hand", "states-plain]") in outcomes
    assert ("PASSED", "plain", "no forget gate]") in [(o, n, what.split("-")[-1]) for o, n, what in outcomes]
    assert {name for outcome, name, _ in outcomes if outcome != "PASSED"} == {"maskless"}
    assert "ValueError: maskless does not support recurrent_dropout." in output
    assert "undeclared does not support recurrent_dropout." in output
    assert "Verification failed: maskless in float64" in output.replace("**", "")
    assert (tmp_path / "plain-results" / ".gitignore").read_text() == "*\n"
    (machine,) = (tmp_path / "plain-results").glob("*/")  # not one for each number of threads
    assert machine.name.endswith("-2-threads")
