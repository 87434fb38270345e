"""A fork server ends each visit with its rows and a status, and passes visit every job until the time is up."""

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from suite import bench
from suite.measure import choice, runner
from suite.measure import server as server_module
from suite.measure.examples import job
from suite.measure.job import Job
from suite.measure.runner import Side, passes
from suite.measure.server import Server
from suite.shared.candidates import find
from suite.shared.cases import WORKLOADS
from suite.shared.examples import TINY
from suite.shared.files import ROOT
from suite.shared.process import Row


def planted(folder: Path, code: str) -> Path:
    """Folder whose `impls` has a line of code more in `deferred`."""
    shutil.copytree(ROOT / "impls", folder / "impls", ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "impls" / "deferred.py").open("a") as file:
        file.write(f"\n{code}\n")
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with Server(folder / "log.txt", folder) as running:
        yield running


def visited(server: Server, one: Job, **options: Any) -> list[Row]:
    rows = list[Row]()
    ended = server.visit(one, rows, **options)
    return [*rows, *one.missing(rows, ended)]


def statuses(server: Server, one: Job, **options: Any) -> list[str]:
    return [row["status"] for row in visited(server, one, **options)]


def test_a_visit_yields_every_row_of_its_job(server: Server) -> None:
    rows = visited(server, job(layer_norms=(False, True)))
    assert [(row["pass"], row["layer_norm"], row["status"]) for row in rows] == [
        ("forward", "off", "ok"), ("forward", "on", "ok"), ("train", "off", "ok"), ("train", "on", "ok"),
    ]  # fmt: skip
    assert all(row["median_s"] > 0 and row["ratio"] > 0 and row["peak_bytes"] > 0 for row in rows)
    later = visited(server, job(), first=False)
    assert all(row["median_s"] > 0 and "peak_bytes" not in row for row in later)


def test_running_out_of_memory_is_reported(server: Server) -> None:
    huge = replace(WORKLOADS["char-ptb"], T=2, B=64)
    assert statuses(server, job("naive", case=huge, memory_limit=2 << 30))[1] == "out of memory"
    study = job(table="sweep", varied="length", case=replace(TINY, B=1 << 16), memory_limit=1 << 30)
    assert statuses(server, study)[-1] == "out of memory"
    assert statuses(server, job()) == ["ok"] * 2


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("import os; os.kill(os.getpid(), 11)", "crashed: signal 11"),
        ("import os; os._exit(3)", "failed: exit 3"),
        ("raise RuntimeError('a new\\nline')", "failed: RuntimeError: a new line"),
        ("import time; time.sleep(60)", "time-out: 5 s"),
    ],
    ids=["crash", "exit", "error", "time-out"],
)
def test_a_failure_is_the_status_of_its_rows(code: str, status: str, tmp_path: Path) -> None:
    with Server(tmp_path / "log.txt", tmp_path, planted(tmp_path, code)) as server:
        assert statuses(server, job("deferred"), limit=5) == [status] * 2
        assert statuses(server, job("batched")) == ["ok"] * 2


def test_a_hang_prints_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As one in a wait for a GPU, where no signal's handler runs."""
    wait = "import ctypes; ctypes.PyDLL(None).sleep(60)"  # it holds the interpreter
    with Server(tmp_path / "log.txt", tmp_path, planted(tmp_path, wait)) as server:
        server.wait()
        start = time.monotonic()
        assert statuses(server, job("deferred"), limit=2) == ["time-out: 2 s"] * 2
        assert time.monotonic() - start < 2 + server_module.GRACE
        shown = capsys.readouterr().out
        assert shown.startswith("small float32 deferred took more than 2 s, and was here:\n")
        assert 'deferred.py", line ' in shown
        assert statuses(server, job("batched")) == ["ok"] * 2


def test_a_server_for_a_gpu_asks_for_no_device(tmp_path: Path) -> None:
    """A child forked from a process that asked CUDA's runtime could use no GPU."""
    script = "import torch; torch.cuda.is_available = torch.cuda.device_count = None\n"
    (tmp_path / "sitecustomize.py").write_text(script)
    with Server(tmp_path / "log.txt", tmp_path, tmp_path, device="cuda") as server:
        server.wait()


def lives(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_no_process_outlives_a_killed_run(tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
from suite.measure.examples import job
from suite.measure.server import Server
folder = Path({str(tmp_path)!r})
server = Server(folder / "log.txt", folder, folder)
server.wait()
server.connection.send((job("deferred"), True, 60.0))
print(server.process.pid, server._receive(None), flush=True)
server._receive(None)
"""
    planted(tmp_path, "import time; time.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert all(map(lives, pids))
        parent.send_signal(signal.SIGKILL)
    until = time.monotonic() + 10
    while any(map(lives, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(lives, pids))


#: What takes the time of a start is imports; this prints those after the fork.
START = """
import sys, torch
from suite.measure.examples import job
from suite.measure.server import preload
from suite.measure import bench
preload([{name!r}])
before = set(sys.modules)
list(bench.rows(job({name!r}), False))
print(*sorted(set(sys.modules) - before))
"""


@pytest.mark.parametrize("name", ["naive", "batched_cpu", "torch.nn.LSTM"])
def test_a_child_starts_without_slow_imports(name: str) -> None:
    command = [sys.executable, "-c", START.format(name=name)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    modules = process.stdout.splitlines()[-1].split()
    assert len(modules) < 20, modules
    assert not {"sympy", "torch._dynamo"} & set(modules)


class Scripted:
    """A server whose visits take some seconds."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds, self.visits, self.starts = seconds, list[tuple[str, bool]](), 1

    def visit(self, one: Job, rows: list[Row], first: bool) -> str:
        self.visits.append((one.candidate, first))
        time.sleep(self.seconds[one.candidate])
        rows += [row | {"median_s": self.seconds[one.candidate], "ratio": 1.0, "rounds": 3} for row in one.rows("ok")]
        return "ok"

    def restart(self, names: Collection[str]) -> None:
        assert set(names) <= self.seconds.keys()
        self.starts += 1

    def wait(self) -> None:
        pass

    def count(self, name: str) -> int:
        return [candidate for candidate, _ in self.visits].count(name)


def run(seconds: dict[str, float], minutes: float, **options: Any) -> tuple[Scripted, Side]:
    server = Scripted(seconds)
    side = Side(cast(Server, server), options.pop("rows", {}))
    jobs = [job(name, headline=name == "batched_cpu") for name in seconds]
    list(passes([side], jobs, time.time() + 60 * minutes, **options))
    return server, side


def test_the_headline_is_visited_twice_in_a_pass() -> None:
    server, side = run({"batched_cpu": 0.0, "batched": 0.0, "deferred": 0.0}, 1, most=4)
    assert [server.count(name) for name in server.seconds] == [7, 4, 4]
    assert server.starts == 4
    assert [name for name, first in server.visits if first].count("batched") == 1
    assert {row["visits"] for row in side.rows[job("batched")]} == {4}


def test_the_first_pass_always_ends() -> None:
    server, _ = run({"batched": 0.1, "deferred": 0.2}, 0)
    assert [server.count(name) for name in server.seconds] == [1, 1]
    start = time.time()
    server, _ = run({"batched": 0.02, "deferred": 0.3}, 0.01)
    assert server.count("deferred") == 1
    assert server.count("batched") > 3
    assert time.time() - start < 0.75


@pytest.mark.parametrize(("most", "visits"), [(3, 1), (5, 3)])
def test_a_long_visit_waits_for_the_others(most: int, visits: int) -> None:
    server, _ = run({"naive": 0.2, "batched": 0.0}, 0.05, most=most)
    assert [server.count(name) for name in server.seconds] == [visits, most]


def test_readme_gives_a_card_three_visits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every job of the command that README names, in the minutes that it names."""
    text = " ".join((ROOT / "README.md").read_text().split())
    (arguments,) = re.findall(r"`nox -s bench -- (--dtype [^`]*)`", text)
    (minutes,) = re.findall(r"takes about (\d+) minutes on a GPU for each dtype", text)
    options = bench.parser().parse_args([*arguments.split(), "--device", "cuda:0"])
    assert choice.minutes(options) == int(minutes) * len(options.dtype)
    monkeypatch.setattr(choice, "fastest", lambda device, dtype: "deferred")  # which no GPU here tells
    jobs, clock = [job for job in choice.jobs(options) if job.candidate != "batched_cpu"], [0.0]
    assert sum(job.headline for job in jobs) == len({(job.case, job.dtype) for job in jobs})
    monkeypatch.setattr(runner, "time", SimpleNamespace(time=lambda: clock[0]))

    class OnACard(Scripted):
        """A visit starts CUDA and loads libraries, which takes most of it; torch.compile and XLA compile at first."""

        def visit(self, one: Job, rows: list[Row], first: bool) -> str:
            compiles = find(one.candidate).compiles_each_size
            seconds = (100.0 if compiles else 12.0) if first else (40.0 if compiles else 9.0)
            clock[0] += seconds
            figures = {"median_s": 1.0, "ratio": 1.0, "rounds": 3, "first_s": 0.2 * seconds}
            rows += [row | figures for row in one.rows("ok")]
            return "ok"

        def restart(self, names: Collection[str]) -> None:
            clock[0] += 5.0

    side = Side(cast(Server, OnACard({})))
    list(passes([side], jobs, 60 * choice.minutes(options)))
    assert min(row["visits"] for rows in side.rows.values() for row in rows) >= 3
    assert 60 * choice.minutes(options) - 100 < clock[0] < 60 * choice.minutes(options) + 100


def test_a_run_resumes_with_its_rows() -> None:
    _, side = run({"batched": 0.0}, 0)
    server, second = run({"batched": 0.0}, 0, rows=side.rows)
    assert server.visits == [("batched", False)]
    assert {row["visits"] for row in second.rows[job()]} == {2}


def test_an_interrupted_visit_keeps_its_rows() -> None:
    class Interrupted(Scripted):
        def visit(self, one: Job, rows: list[Row], first: bool) -> str:
            rows.append(one.rows("ok")[0] | {"median_s": 1.0})
            raise KeyboardInterrupt

    side = Side(cast(Server, Interrupted({})))
    with pytest.raises(KeyboardInterrupt):
        side.visit(job())
    assert [row["pass"] for row in side.rows[job()]] == ["forward"]
