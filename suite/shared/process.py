"""Processes that checks start, whose rows come back as lines of JSON.

`python -m suite.shared.process PARENT MODULE ...` runs a module in a process that Linux kills when its parent ends, so
that none outlives a run that was killed.
"""

import ctypes
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.shared.files import ROOT

if TYPE_CHECKING:
    import pandas as pd

#: Of Linux' prctl: the signal that a process gets when its parent ends.
_PR_SET_PDEATHSIG = 1

Row = dict[str, Any]


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append a row to a file of rows."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def read_rows(path: Path) -> list[Row]:
    """Rows in a file, without a line that was cut off."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


class Child:
    """`python -m <module> <arguments>`, running.

    path: file of its rows, next to which is one of its output. environment: what to set, or to unset with None.
    """

    def __init__(
        self,
        module: str,
        path: Path,
        *arguments: str,
        environment: Mapping[str, str | None] | None = None,
    ) -> None:
        self.path, self.log = path, path.with_suffix(".log")
        changed = {**os.environ, **(environment or {})}
        command = [sys.executable, "-m", "suite.shared.process", str(os.getpid()), module, *arguments]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                env={key: value for key, value in changed.items() if value is not None},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def wait(self, limit: float | None = None) -> str:
        """Wait until the process has ended, and return "ok" or how it did; after `limit` seconds it is killed."""
        try:
            code = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            return f"time-out: {limit} s"
        finally:
            self.process.kill()
            self.process.wait()
        return f"crashed: signal {-code}" if code < 0 else f"failed: exit {code}" if code else "ok"


def rows_of(module: str, *arguments: str, **environment: str | None) -> "pd.DataFrame":
    """Run `python -m <module> FILE <arguments>` and return its rows; RuntimeError has its output if it failed."""
    import pandas as pd  # takes half a second, which processes that leave rows do without

    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        child = Child(module, path, str(path), *arguments, environment=threads | environment)
        if (ended := child.wait()) != "ok":
            said = child.log.read_text(encoding="utf-8", errors="replace")
            raise RuntimeError(f"python -m {module}: expected it to run to its end, got {ended}:\n{said}")
        return pd.DataFrame(read_rows(path))


def cpu_seconds() -> float:
    """CPU seconds of this process and of the children that it waited for."""
    return sum(os.times()[:4])


def killed_with(parent: int) -> None:
    """Have Linux kill this process when the process that started it ends; does nothing on other systems."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before it could be asked for
            os._exit(1)


if __name__ == "__main__":
    killed_with(int(sys.argv[1]))
    del sys.argv[:2]  # runpy puts the module's file in place of its name
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
