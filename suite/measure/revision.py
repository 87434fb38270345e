"""The implementations of another revision, to be timed by the suite of this checkout."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from suite.shared.candidates import BASE
from suite.shared.files import ROOT, ResultsError

#: What a revision must have; nothing else of it is used.
USED = "from suite.shared.candidates import timed_package; timed_package().HyperLSTM"


@contextmanager
def checkout(revision: str, scratch: Path) -> Iterator[Path]:
    """A checkout of a revision; ResultsError if git does not know it, or if its HyperLSTM cannot be imported."""
    tree = scratch / "worktree"
    try:
        _run("git", "worktree", "add", "--detach", str(tree), revision)
        _run(sys.executable, "-c", USED, base=tree)
        yield tree
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, capture_output=True, check=False)


def _run(*command: str, base: Path | None = None) -> None:
    environment = os.environ | ({BASE: str(base)} if base else {})
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if process.returncode:
        what = "its HyperLSTM cannot be imported" if base else " ".join(command[:3])
        raise ResultsError(f"--base: {what}: {process.stderr.strip().splitlines()[-1]}")
