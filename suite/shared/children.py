"""Work that needs a process of its own, started early and asked for when its tests come up."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

from suite.shared.files import ROOT


class Child:
    """`python -m <module> FILE.csv`, running since this was made."""

    def __init__(self, module: str, path: Path, **environment: str | None) -> None:
        """Start it; environment: what to set, or with None to unset, for the child."""
        # One thread each: they run beside the tests.
        environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **environment}
        changed = os.environ | {key: value for key, value in environment.items() if value is not None}
        env = {key: value for key, value in changed.items() if environment.get(key, "") is not None}
        self.module, self.path = module, path
        command = [sys.executable, "-m", module, str(path)]
        self.process = subprocess.Popen(
            command, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if hasattr(os, "setpriority"):  # the tests go first: a product of two threads waits for the slower one
            os.setpriority(os.PRIO_PROCESS, self.process.pid, 19)

    def rows(self) -> pd.DataFrame:
        """Wait, and return the rows of the file that it wrote; RuntimeError gives what it said if it failed."""
        said, _ = self.process.communicate()
        if self.process.returncode:
            raise RuntimeError(f"python -m {self.module}: expected it to run to its end, got:\n{said}")
        return pd.read_csv(self.path)

    def stop(self) -> None:
        """End it, should nobody have waited for it."""
        self.process.kill()
        self.process.wait()
