"""Processes that checks start.

`python -m suite.shared.process PARENT MODULE ...` runs a module in a process that Linux kills when its parent ends, so
that none outlives a run that was killed.
"""

import ctypes
import os
import runpy
import signal
import subprocess
import sys
import tempfile

from suite.shared.files import ROOT

#: Of Linux' prctl: the signal that a process gets when its parent ends.
_PR_SET_PDEATHSIG = 1


class ProcessError(Exception):
    """A process failed, or took too long.

    output: all that it printed. status: its exit status, None if it took too long.
    """

    def __init__(self, reason: str, output: str, status: int | None) -> None:
        super().__init__(reason, output, status)
        self.reason, self.output, self.status = reason, output, status

    def __str__(self) -> str:
        return f"{self.reason}\n{self.output}"


def run(module: str, *arguments: str, limit: float | None = None, **environment: str | None) -> None:
    """Run `python -m <module> <arguments>`; ProcessError if it failed or took more than `limit` seconds.

    environment: variables to set, or to unset with None.
    """
    changed = {**os.environ, **environment}
    command = [sys.executable, "-m", "suite.shared.process", str(os.getpid()), module, *arguments]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        try:
            subprocess.run(
                command,
                env={key: value for key, value in changed.items() if value is not None},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=limit,
                check=True,
            )
        except subprocess.SubprocessError as error:
            output.seek(0)
            raise ProcessError(str(error), output.read(), getattr(error, "returncode", None)) from error


def killed_with(parent: int) -> None:
    """Have Linux kill this process when the process that started it ends; does nothing on other systems."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the call above
            os._exit(1)


if __name__ == "__main__":
    killed_with(int(sys.argv[1]))
    del sys.argv[:2]  # runpy replaces the module's name by its file
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
