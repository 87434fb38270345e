"""`--impl FILE` says what is wrong with a file before any work, and checks what is right."""

import re
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from suite.candidates import submission
from suite.candidates.names import BASELINE
from suite.checks.module.sources import BY_HAND, EXAMPLE
from suite.shared import process
from suite.shared.files import ROOT

CPU = torch.device("cpu")
RIGHT = "from hyperlstm.row_scaled import run as right\n\ndef run(p, inputs):\n    out, last = right(p, inputs)\n    "

#: What is in a file, and what its trial says about it.
WRONG = {
    "no-file": (None, r"^/.*mine\.py: expected .*--impl$"),
    "number": (RIGHT + "return out", r"expected \(out, \(h, c, h_hat, c_hat\)\), got tensor"),
    "states": (RIGHT + "return out, last[:2]", r"\(2, 4\), \(2, 4\)\], got \[\(3, 2, 7\), \(2, 7\), \(2, 7\)\]$"),
    "result-dtype": (RIGHT + "return out.float(), last", "expected float64 on cpu.*, got float32 on cpu"),
    "changed": (RIGHT + "inputs.x.data.zero_(); return out, last", "expected .*: x$"),
    "gradients": (
        BY_HAND.replace("    return deferred.", "    whole = deferred.").replace(
            "\n\n\nrun = as_operator(__name__", "\n    return whole | {'z_bias': None}\n\n\nrun = as_operator('lacking'"
        ),
        ": backward: expected .*: z_bias$",
    ),
    "without-run": ("x = 1", r"^/.*mine\.py: expected .*run\(p, inputs\), got None$"),
    "impl": ("IMPL = 'mine'\n" + RIGHT + "return out, last", r"^/.*mine\.py: expected IMPL .*, got 'mine'$"),
    "call": (
        RIGHT + "return (out, last) if out.dtype.itemsize > 2 else inputs.y",
        r"^.* float64 on cpu, T3-B2-.*\n.* float32 on cpu, .*\n.* bfloat16 on cpu, .*\n"
        r'Traceback[^$]*mine\.py", line 5, in run[^$]*AttributeError.*\n.* IMPL = Impl\(',
    ),
    "exit": ("import sys; sys.exit()", r'^Traceback[^$]*mine\.py", line 1[^$]*SystemExit\n/.*mine\.py'),
    "syntax": ("def run(:", r"^Traceback[^$]*SyntaxError: .*\n/.*mine\.py"),
    "package": ("from .core import run", r"^/.*mine\.py: .*PYTHONPATH$"),
}


@pytest.mark.parametrize(("source", "message"), WRONG.values(), ids=WRONG)
@pytest.mark.usefixtures("_withdrawn")
def test_a_trial_says_what_is_wrong(
    source: str | None,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("faulthandler.dump_traceback_later", lambda *_, **__: None)
    file, tried = tmp_path / "mine.py", tmp_path / "tried"
    if source is not None:
        file.write_text(source)
    with pytest.raises(SystemExit) as ended:
        submission.main("cpu", "60", str(tried), str(file))
    said = "".join([*capsys.readouterr(), str(ended.value)])
    assert said.startswith(f"--impl {file}\n")
    assert re.search(message, said, re.MULTILINE), said
    assert ended.value.code not in (None, 0)
    assert not tried.exists()


@pytest.mark.parametrize("name", ["auto", "batched", BASELINE])
@pytest.mark.usefixtures("_withdrawn")
def test_a_file_has_a_name_of_its_own(name: str, tmp_path: Path) -> None:
    """Else its figures would be taken for those of an implementation or an alternative."""
    (tmp_path / f"{name}.py").write_text(EXAMPLE)
    with pytest.raises(ValueError, match=rf"/{name}\.py: expected .*\b{name}\b"):
        submission.load(tmp_path / f"{name}.py")


@pytest.mark.parametrize("name", ["2fast", "größe v2", "a:b;c", "class"])
@pytest.mark.usefixtures("_withdrawn")
def test_any_other_name_serves_a_hand_written_gradient(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "a b:ü"
    folder.mkdir()
    (folder / f"{name}.py").write_text(BY_HAND, encoding="utf-8")
    assert submission.load(folder / f"{name}.py").name == name
    assert submission.files() == {name: folder / f"{name}.py"}


@pytest.mark.usefixtures("_withdrawn")
def test_what_a_file_imports_from_beside_it_is_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, three = (tmp_path / name / f"{name}.py" for name in ("one", "two", "three"))
    for file in (one, two, three):
        file.parent.mkdir()
    (one.parent / "helpers.py").write_text(EXAMPLE)
    (one.parent / "json.py").write_text("raise ImportError('in place of another')")
    one.write_text("import json\nfrom helpers import run")
    submission.load(one)
    assert str(one.parent) not in sys.path  # where another module would be found in place of one that is not installed
    three.write_text(EXAMPLE)
    monkeypatch.syspath_prepend(three.parent)
    assert submission.load(three).name == "three"
    assert str(three.parent) in sys.path
    for folder in (two.parent, three.parent):
        (folder / "helpers.py").write_text("")
    two.write_text("from helpers import run")
    with pytest.raises(ValueError, match=r"two.helpers\.py: .*one.helpers\.py"):
        submission.load(two)
    del sys.modules["helpers"]


#: What is in a file that ends its trial or is not checked, and what is said about it.
ENDS = {
    "crash": ("import os; os.abort()", r'\nFatal Python error: Aborted[^$]*mine\.py", line 1'),
    "hang": ("import time; time.sleep(20)", r'\nTimeout [^$]*mine\.py", line 1'),
    "exit": ("import os; os._exit(0)", ": "),
    "of-a-gpu": (
        "from hyperlstm import Impl\nIMPL = Impl('', devices=('cuda',))\n" + EXAMPLE,
        ": .*cuda.*cpu",
    ),
}


@pytest.mark.parametrize("what", ENDS)
@pytest.mark.usefixtures("_withdrawn")
def test_nothing_checked_is_no_success(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, message = ENDS[what]
    monkeypatch.setattr(submission, "LIMIT", 1 if what == "hang" else 60)
    file = tmp_path / "mine.py"
    file.write_text(source)
    with pytest.raises(SystemExit, match=rf"^--impl .*mine\.py{message}"):
        submission.load_all([file], CPU)


#: A function that starts a kernel by itself.
BARE = """
import triton
import triton.language as tl

@triton.jit
def nothing(x):
    tl.store(x, tl.load(x))

def run(p, inputs):
    out, last = right(p, inputs)
    nothing[(1,)](out.detach())
    return out, last
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed.")
def test_a_file_that_starts_kernels_by_itself_is_told_how_to(tmp_path: Path) -> None:
    """In Triton's interpreter: refused by itself, and accepted as an operator, as `mine_triton.py` is."""
    (bare := tmp_path / "bare.py").write_text(RIGHT.splitlines()[0] + BARE)
    arguments = ("cpu", "60", str(tmp_path / "tried"))
    trial = partial(process.run, submission.__name__, *arguments, TRITON_INTERPRET="1", OMP_NUM_THREADS="1")
    with pytest.raises(subprocess.CalledProcessError, match=r"hyperlstm\.gradient\.as_operator"):
        trial(str(ROOT / "suite/checks/module/mine_triton.py"), str(bare))


def test_files_are_verified_beside_them(tmp_path: Path) -> None:
    """Those of both READMEs; without an option, or with a break in the graph; and two that are wrong."""
    refuses = "    if x.shape[2] == 4: raise ValueError('maskless does not support recurrent_dropout.')\n    out = []"
    sources = {
        "plain": EXAMPLE,
        "by_hand": BY_HAND,
        "undeclared": "from hyperlstm import Impl\nIMPL = Impl('mine', options={'layer_norm'})\n" + EXAMPLE,
        "breaking": "import torch\n" + RIGHT + "torch._dynamo.graph_break(); return out, last",
        "maskless": EXAMPLE.replace("torch.tanh(g) * m", "torch.tanh(g)").replace("    out = []", refuses),
        "wrong": EXAMPLE.replace("torch.tanh(g) * m", "2 * torch.tanh(g) * m"),
    }
    for name, source in sources.items():
        (tmp_path / f"{name}.py").write_text(source)
    chosen = [
        "of_a_file",
        "float64 and recurrent_dropout",
        "test_g_is_dropped",
        "fullgraph and (plain or breaking)",
        "by_hand and (packed or fullgraph or pickle or second-derivative or jacobian or bfloat16)",
        "by_hand and (states-plain or exception or no_grad)",
    ]
    options = ["-k", " or ".join(f"({each})" for each in chosen), "--device", "cpu"]
    options += [argument for name in sources for argument in ("--impl", str(tmp_path / f"{name}.py"))]
    equality = "suite/checks/equality"
    files = [f"{equality}/test_equality.py::test_small_sizes", f"{equality}/test_leftovers.py"]
    of_module = ("capabilities", "custom_op", "dropout", "first_use")
    files += [f"suite/checks/module/test_{name}.py" for name in of_module]
    run = partial(process.run, OMP_NUM_THREADS="2", PYTEST_XDIST_WORKER=None)
    with pytest.raises(subprocess.CalledProcessError, match="non-zero exit status 1") as failed:
        run("pytest", *files, "--tb=no", "-rA", "-n", "1", "-p", "no:cacheprovider", *options)
    output = failed.value.output
    outcomes = re.findall(r"^(PASSED|FAILED|ERROR) .*\[(\w+)[-\]](.*)", output, re.MULTILINE)
    assert {name for outcome, name, _ in outcomes if outcome == "PASSED"} >= {"plain", "by_hand"}
    assert ("PASSED", "by_hand", "states-plain]") in outcomes
    assert {name for outcome, name, _ in outcomes if outcome != "PASSED"} == {"maskless", "wrong"}
    refusal = r"maskless\.py:\d+: ValueError: maskless does not support recurrent_dropout\."
    more = r"\(1 .*\)"
    for line in (rf"maskless-.*-float64\]: {refusal} {more}", r"wrong-.*: .*"):
        assert re.search(rf"^FAILED test_equality\.py::test_small_sizes\[{line}$", output, re.MULTILINE)
    assert re.search(r"^plain +float64 +\d+ +[\d.]+ +\w[^\n]* +pass *$", output, re.MULTILINE)
    assert re.search(r"^breaking .*torch\.compile, fullgraph\.$", output, re.MULTILINE)
    assert re.search(r"\bundeclared .*recurrent_dropout\.", output)
    assert re.search(r": maskless in float64, .*\bwrong in float64", output)
    assert (tmp_path / "plain-results" / ".gitignore").read_text() == "*\n"
    (machine,) = (tmp_path / "plain-results").glob("*/")  # not one for each number of threads
    assert machine.name.endswith("-2-threads")
