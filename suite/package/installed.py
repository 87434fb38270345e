"""Runs pytest on the package installed for a Python: `python suite/package/installed.py FOLDER ARGUMENTS`.

FOLDER is emptied, and gets links to the installed package, as `impls`, and to the suite. ARGUMENTS are pytest's; paths
among them are absolute, or of FOLDER, such as suite/checks.
"""

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SUITE = Path(__file__).absolute().parents[1]


def main(folder: str, *arguments: str) -> int:
    """Exit status of pytest."""
    spec = find_spec("hyperlstm")
    if spec is None or spec.origin is None:
        raise SystemExit(f"{sys.executable}: expected an environment with hyperlstm, but it is not installed there")
    shutil.rmtree(folder, ignore_errors=True)
    Path(folder).mkdir(parents=True)
    Path(folder, "impls").symlink_to(Path(spec.origin).parent)
    Path(folder, "suite").symlink_to(SUITE)
    os.chdir(folder)
    sys.path[0] = folder
    sys.dont_write_bytecode = True  # into the checkout, with the paths of this folder
    options = ["-q", "--rootdir", folder, "-p", "no:cacheprovider", "-p", "no:benchmark"]
    return pytest.main([*options, "-p", "suite.checks.cpu.must_build", *arguments])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
