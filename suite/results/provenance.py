"""What a run rests on: the bytes of its sources, and their commit."""

import hashlib
import subprocess
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path

from suite.shared.files import ROOT

#: By run, the files and folders that decide its results, other than those for tests and pages of text.
RESTS_ON = {
    "bench": (
        "impls",
        "suite/candidates",
        "suite/cases",
        "suite/comparison",
        "suite/measure",
        "suite/results/columns.py",
        "suite/results/statistics.py",
        "suite/shared",
    ),
    "verify": (
        "impls",
        "suite/cases",
        "suite/checks",
        "suite/comparison",
        "suite/results/outcomes.py",
        "suite/shared",
    ),
}
SUFFIXES = (".py", ".h", ".cpp", ".toml")
FOR_TESTS = ("test_*", "cheats/*", "examples.py", "fakes.py", "marks.py")
#: Digits of a commit, and of a hash.
DIGITS = 10


def sources(run: str) -> str:
    """Hash of the bytes of all files that a run rests on."""
    files = list[Path]()
    for name in RESTS_ON[run]:
        path = ROOT / name
        of_name = sorted(path.rglob("*")) if path.is_dir() else [path]
        files += [file for file in of_name if file.suffix in SUFFIXES and not any(map(file.match, FOR_TESTS))]
    return hash_of({file.relative_to(ROOT).as_posix(): file.read_bytes() for file in files})


@cache
def at_start(run: str) -> str:
    """The hash as it was at the first call, by which a run starts: what is edited during it has not run."""
    commit()
    return sources(run)


def hash_of(files: Mapping[str, bytes]) -> str:
    """Hash of the names and bytes of files, whose ends of lines may be those of Windows."""
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}\0".encode())
        digest.update(content.replace(b"\r\n", b"\n"))
    return digest.hexdigest()[:DIGITS]


@cache
def commit() -> tuple[str, bool]:
    """The commit of this checkout, "" outside git; and whether code other than pages was changed."""
    git = partial(subprocess.check_output, cwd=ROOT, stderr=subprocess.DEVNULL, text=True)
    code = ("impls", "suite", "pyproject.toml", "noxfile.py", ":!*.md")
    try:
        head = git(["git", "rev-parse", f"--short={DIGITS}", "HEAD"]).strip()
        changed = git(["git", "status", "--porcelain", "--untracked-files", "--", *code])
    except (OSError, subprocess.CalledProcessError):
        return "", False
    return head, bool(changed)
