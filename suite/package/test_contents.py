"""A package has what it should and nothing else, and git keeps what a run leaves out of it."""

import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path

import pytest

from suite.package.contents import compare
from suite.shared.files import ROOT


@pytest.mark.parametrize(
    ("found", "says"),
    [(["a"], "missing: ['b']; unexpected: nothing"), (["a", "b", "c"], "missing: nothing; unexpected: ['c']")],
    ids=["missing", "unexpected"],
)
def test_other_files_than_expected_are_named(found: Collection[str], says: str) -> None:
    with pytest.raises(SystemExit, match=r"package\.whl") as raised:
        compare(Path("package.whl"), ["a", "b"], found)
    assert says in str(raised.value)
    compare(Path("package.whl"), ["a", "b"], ["b", "a"])


IN_GIT = pytest.mark.skipif(
    shutil.which("git") is None or not (ROOT / ".git").exists(), reason="It takes a checkout of git."
)
#: What commands and tools leave in a checkout.
LEFT = [
    *(f"results/some-machine/{name}" for name in ("sizes.csv", "sizes.md", "sweep-H.svg", "raw/log.txt")),
    *("results/report.html", "results/some-machine/.bench.csv.x/whole", "dist/hyperlstm-0.1.0-py3-none-any.whl"),
    *("build/lib/x.py", "hyperlstm.egg-info/PKG-INFO", "impls/__pycache__/x.cpython-313.pyc", "impls/x.pyc"),
    *("copy/.nox/environment/pyvenv.cfg", "copy/.venv/pyvenv.cfg", ".coverage"),
    *(f".{tool}_cache/x" for tool in ("pytest", "mypy", "ruff")),
]
#: What a contributor adds.
ADDED = [
    *(f"results/some-machine/{name}" for name in ("bench.csv", "bench.md", "training-medium.svg", "verify.csv")),
    *("impls/batched_cpu/build.py", "impls/batched_new/build_new.py", "impls/batched_new/dist.h", "impls/new.cpp"),
    *("suite/candidates/new.py", "suite/package/build_new.py", "suite/checks/module/test_new.toml", "LICENSE.txt"),
]


@IN_GIT
def test_git_ignores_what_commands_leave_and_no_source() -> None:
    command = ["git", "-c", "core.excludesFile=", "check-ignore", "--no-index", *LEFT, *ADDED]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert said.stdout.split() == LEFT


@IN_GIT
def test_no_file_under_version_control_is_ignored() -> None:
    """The sdist has none that is."""
    command = ["git", "-c", "core.excludesFile=", "ls-files", "--cached", "--ignored", "--exclude-standard"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout == ""
