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


def run(module: str, *arguments: str, limit: float | None = None, **environment: str | None) -> None:
    """Run `python -m <module> <arguments>`, which may take `limit` seconds.

    environment: variables to set, or to unset with None. Raises CalledProcessError or TimeoutExpired, whose note and
    `output` are all that it printed.
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
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            output.seek(0)
            error.output = output.read()
            error.add_note(error.output)
            raise


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
