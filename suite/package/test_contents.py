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


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="It takes a checkout of git.")
def test_git_ignores_what_sizes_and_logs_leave_and_no_source() -> None:
    left = ["sizes.csv", "sizes.md", "sweep-H.svg", "raw/log.txt"]
    ignored = [f"results/some-machine/{name}" for name in left]
    kept = [
        "results/some-machine/bench.csv",
        "results/some-machine/bench.md",
        "results/some-machine/training-medium.svg",
        "impls/batched_cpu/build.py",
    ]
    command = ["git", "check-ignore", "--no-index", *ignored, *kept]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert said.stdout.split() == ignored
