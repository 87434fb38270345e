"""`python -m suite.shared.bound PARENT MODULE ...`: run a module in a process that ends when its parent does.

However the parent ends, `kill -9` included: a benchmark that was killed must not leave a process that keeps cores busy.
"""

import ctypes
import os
import runpy
import signal
import sys
import threading

#: Of Linux' prctl: the signal that a process gets when its parent ends.
_PR_SET_PDEATHSIG = 1


def killed_with(parent: int) -> None:
    """Have Linux kill this process when the process that started it ends; other systems do nothing of the kind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before it could be asked for
            os._exit(1)


def ends_with(pipe: int) -> None:
    """End this process when the last one that can write to a pipe has ended; nobody writes to it."""

    def wait() -> None:
        os.read(pipe, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    if sys.platform == "linux":
        killed_with(int(sys.argv[1]))
    else:
        ends_with(sys.stdin.fileno())
    del sys.argv[:2]  # runpy puts the module's file in place of its name
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
