"""Runs pytest on the installed package: `python suite/package/beside.py FOLDER ARGUMENTS`, with the Python that has it.

FOLDER is made anew. There the package lies beside the suite, by the name that the suite imports it. ARGUMENTS are
pytest's; paths among them are absolute, or of FOLDER, as in suite/checks.
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
    sys.dont_write_bytecode = True  # which would have this folder's paths, and lie in the checkout
    options = ["-q", "--rootdir", folder, "-p", "no:cacheprovider", "-p", "no:benchmark"]
    return pytest.main([*options, "-p", "suite.checks.cpu.built", *arguments])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
