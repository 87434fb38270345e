"""A process ends in time, and with the process that started it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from suite.shared import process
from suite.shared.files import ROOT


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of a module `scripted`, for a script."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    file = tmp_path / "scripted.py"
    file.write_text("import os, sys, time\n")
    return file


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("{}['a']", r"returned non-zero exit status 1\.\n[\s\S]*KeyError: 'a'"),
        ("os.kill(os.getpid(), 11)", "died with <Signals.SIGSEGV: 11>"),
        ("time.sleep(60)", "timed out after"),
    ],
)
def test_what_did_not_reach_its_end_says_why(scripted: Path, script: str, message: str) -> None:
    with scripted.open("a") as file:
        file.write(script)
    with pytest.raises(process.ProcessError, match=message):
        process.run("scripted", limit=5)


def test_a_process_has_the_variables_that_are_set_and_not_those_that_are_unset(
    scripted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNSET", "1")
    monkeypatch.setenv("KEPT", "1")
    with scripted.open("a") as file:
        file.write("assert ('UNSET' in os.environ, os.environ['KEPT'], os.environ['SET']) == (False, '1', '2')")
    process.run("scripted", UNSET=None, SET="2")


@pytest.fixture
def _typed(tmp_path: Path) -> Iterator[None]:
    """Have this process, and those that inherit it, an input with a word."""
    (typed := tmp_path / "typed").write_text("typed ")
    before = os.dup(0)
    with typed.open() as file:
        os.dup2(file.fileno(), 0)
    yield
    os.dup2(before, 0)
    os.close(before)


@pytest.mark.usefixtures("_typed")
def test_a_process_reads_nothing_and_may_print_any_bytes(scripted: Path) -> None:
    with scripted.open("a") as file:
        file.write("os.write(1, b'\\xff and ' + sys.stdin.read().encode() + b'more\\n'); sys.exit(3)")
    with pytest.raises(process.ProcessError, match="\N{REPLACEMENT CHARACTER} and more") as error:
        process.run("scripted", limit=5)
    assert error.value.status == 3


#: Starts a process, which has the same output, and waits for it.
PARENT = """
import os, subprocess, sys
subprocess.run([sys.executable, "-m", "suite.shared.process", str(os.getpid()), "scripted"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
def test_a_process_is_killed_when_its_parent_is(scripted: Path) -> None:
    """Such as a benchmark that a user kills, whose processes would go on."""
    with scripted.open("a") as file:
        file.write("print('started', flush=True); time.sleep(5); print('lives', flush=True)")
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "started\n"
        parent.kill()
        assert parent.stdout.read() == ""  # it has no end before both have


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
@pytest.mark.parametrize(("off", "output"), [(0, "lives\n"), (1, "")], ids=["own", "another"])
def test_a_process_ends_if_its_parent_has(off: int, output: str) -> None:
    code = f"from suite.shared.process import killed_with; killed_with({os.getpid() + off}); print('lives')"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.returncode) == (output, 0 if output else 1)
