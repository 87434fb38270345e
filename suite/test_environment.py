"""Commands run in any locale, without a home, and from any folder."""

import os
import subprocess
import sys
from pathlib import Path

from suite.candidates import ours
from suite.results.example_runs import benchmark, timed
from suite.shared.files import ROOT

COMMANDS = """
from impls import HyperLSTM
import pathlib
from suite import bench, bench_compare, report
from suite.shared import files
assert bench.main(["--device", "cpu", "--list", "--results", "out"]) == 0
report.main(["--results", "."])
assert bench_compare.main(["old", "new"]) == 0
assert "impl=auto (" in repr(HyperLSTM(3, 4, 4, 2, 1))
files.write_whole(pathlib.Path("letter.txt"), "\\u00fc")
"""
#: Variables of a process: an encoding of ASCII, which Python would replace by itself, and a home that none can make.
ODD = {
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "TZ": "Pacific/Kiritimati",
    "HOME": "/dev/null/home",
}


def test_commands_run_in_an_odd_environment(tmp_path: Path) -> None:
    folder = tmp_path / "two words:ü"
    for name in ("old", "new"):
        benchmark(*timed("batched", 0.1), processor="Prozessor für Tests").write(folder / name)
    empty = dict.fromkeys(("CXX", "XDG_CACHE_HOME", "HYPERLSTM_INVOKED_FROM", "HYPERLSTM_IMPL", ours.BASE), "")
    cache = {
        "TORCH_EXTENSIONS_DIR": os.environ.get("TORCH_EXTENSIONS_DIR") or str(Path.home() / ".cache/torch_extensions")
    }
    environment = {**os.environ, **ODD, **empty, **cache, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-c", COMMANDS]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr.decode(errors="replace")
    assert (folder / "report.html").exists()
    assert (folder / "letter.txt").read_bytes() == "ü".encode()
    assert b"2 same" in ended.stdout
