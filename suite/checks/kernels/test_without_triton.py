"""Without Triton, which has no packages for some systems, the checks of its kernels are skipped, and all others run."""

import subprocess
import sys

from suite.shared.files import ROOT

#: Imports what pytest imports to collect the checks of kernels, with an import of Triton that fails.
IMPORTED = """
import importlib
import sys
from pathlib import Path

sys.modules["triton"] = None
for path in Path("suite/checks/kernels").glob("test_*.py"):
    if "interpreted" not in path.name:
        importlib.import_module(f"suite.checks.kernels.{path.stem}")
"""


def test_the_checks_of_kernels_are_collected_without_triton() -> None:
    ended = subprocess.run([sys.executable, "-c", IMPORTED], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
