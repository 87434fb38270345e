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
        ("time.sleep(60)", "timed out after"),
    ],
)
def test_what_did_not_reach_its_end_says_why(scripted: Path, script: str, message: str) -> None:
    with scripted.open("a") as file:
        file.write(script)
    with pytest.raises(process.ProcessError, match=message):
        process.run("scripted", limit=5)


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
@pytest.mark.parametrize(("off", "output"), [(0, "lives\n"), (1, "")], ids=["own", "another"])
def test_a_process_ends_if_its_parent_has(off: int, output: str) -> None:
    code = f"from suite.shared.process import killed_with; killed_with({os.getpid() + off}); print('lives')"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.returncode) == (output, 0 if output else 1)
