"""The implementations of another revision, to be measured by the suite of this checkout."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from suite.shared.files import ROOT, ResultsError


@contextmanager
def checkout(revision: str, scratch: Path) -> Iterator[Path]:
    """A folder whose `impls` is that of a revision, and nothing else in it; ResultsError if git does not know it."""
    tree, folder = scratch / "worktree", scratch / "checkout"
    try:
        _git("worktree", "add", "--detach", str(tree), revision)
        folder.mkdir()
        (folder / "impls").symlink_to(tree / "impls", target_is_directory=True)
        yield folder
    finally:
        _git("worktree", "remove", "--force", str(tree), check=False)


def _git(*arguments: str, check: bool = True) -> None:
    process = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if check and process.returncode:
        raise ResultsError(f"git {' '.join(arguments[:2])}: {process.stderr.strip().splitlines()[-1]}")
