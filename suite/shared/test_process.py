"""A process of its own leaves its rows, ends in time, and ends with the one that started it."""

import ctypes
import os
import signal
import sys
from pathlib import Path

import pytest

from suite.shared import process
from suite.shared.files import ROOT
from suite.shared.process import Child, append_row, read_rows, rows_of


def run(tmp_path: Path, script: str) -> Child:
    """Start a module of a script that knows the file of its rows by the name `path`."""
    (tmp_path / "scripted.py").write_text(
        f"import sys, time\nfrom pathlib import Path\nfrom suite.shared.process import append_row\n"
        f"path = Path(sys.argv[1])\n{script}\n"
    )
    rows = tmp_path / "rows.jsonl"
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    return Child("scripted", rows, str(rows), environment={"PYTHONPATH": path})


def test_rows_come_back_in_order(tmp_path: Path) -> None:
    child = run(tmp_path, "for n in range(3): append_row(path, {'n': n})\npath.open('a').write('{\"n\"')")
    assert child.wait() == "ok"
    assert read_rows(child.path) == [{"n": 0}, {"n": 1}, {"n": 2}]


@pytest.mark.parametrize(
    ("script", "ended"),
    [
        ("sys.exit(3)", "failed: exit 3"),
        ("import os\nos.kill(os.getpid(), 11)", "crashed: signal 11"),
        ("time.sleep(60)", "time-out: 5 s"),
    ],
)
def test_what_did_not_reach_its_end_says_why(tmp_path: Path, script: str, ended: str) -> None:
    assert run(tmp_path, script).wait(5) == ended


def test_an_unexpected_failure_raises_with_its_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scripted.py").write_text("{}['a']\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    with pytest.raises(RuntimeError, match=r"expected it to run to its end, got failed: exit 1:\n[\s\S]*KeyError: 'a'"):
        rows_of("scripted")


def test_a_child_process_has_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scripted.py").write_text(
        "import os, sys\nfrom pathlib import Path\nfrom suite.shared.process import append_row\n"
        "append_row(Path(sys.argv[1]), {'threads': os.environ['OMP_NUM_THREADS'], 'gone': os.environ.get('GONE')})"
    )
    monkeypatch.setenv("GONE", "no")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    assert rows_of("scripted", GONE=None).to_dict("records") == [{"threads": "1", "gone": None}]


linux = pytest.mark.skipif(sys.platform != "linux", reason="of Linux")


@linux
def test_a_process_ends_if_its_parent_has(monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[int] = []
    monkeypatch.setattr(os, "_exit", ends.append)
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name: type("C", (), {"prctl": lambda *q: asked.append(q[1:])})())
    process.killed_with(os.getppid())
    assert ends == []
    process.killed_with(os.getppid() + 1)
    assert ends == [1]
    assert asked == [(1, signal.SIGKILL)] * 2


def test_append_row(tmp_path: Path) -> None:
    for n in (1, 2):
        append_row(tmp_path / "rows.jsonl", {"n": n})
    assert [row["n"] for row in read_rows(tmp_path / "rows.jsonl")] == [1, 2]
    assert read_rows(tmp_path / "none.jsonl") == []
