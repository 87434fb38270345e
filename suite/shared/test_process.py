"""A process ends in time, and with the process that started it."""

import os
import subprocess
import sys
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
        ("os.write(1, b'\\xff and more'); sys.exit(3)", "exit status 3\\.\n\N{REPLACEMENT CHARACTER} and more"),
        ("time.sleep(60)", "timed out after"),
    ],
    ids=["error", "crash", "bytes", "hang"],
)
def test_what_did_not_reach_its_end_says_why(scripted: Path, script: str, message: str) -> None:
    with scripted.open("a") as file:
        file.write(script)
    with pytest.raises(subprocess.SubprocessError, match=message):
        process.run("scripted", limit=5)


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
