"""A fork server ends each visit with its rows and a status."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from suite.cases.examples import CPU
from suite.measure import hardware
from suite.measure import server as server_module
from suite.measure.fakes import job
from suite.measure.job import Job
from suite.measure.server import Server
from suite.results.status import Ended, Status
from suite.shared.devices import DeviceType
from suite.shared.files import ROOT


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder whose `impls` has a `deferred` that first runs the code in the file `planted`."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copytree(ROOT / "impls", folder / "impls", ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "impls" / "deferred.py").open("a") as file:
        file.write(f"\nexec(open({str(folder / 'planted')!r}).read())\n")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    (folder / "raw").mkdir()  # of a run before
    with Server(server_module.new_log(folder / "raw" / "log.txt"), folder, folder) as running:
        yield running


def ends(server: Server, one: Job, **options: Any) -> list[Ended]:
    return [Ended.of(row) for row in server.visit(one, **options)]


def test_a_server_takes_its_own_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the packages of the same names on the user's path."""
    for name in ("impls", "suite"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('of another checkout')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Server(server_module.new_log(tmp_path / "log.txt"), tmp_path) as server:
        assert ends(server, job(), first=False) == [Ended()] * 2


def test_memory_that_is_freed_stays_with_a_visit(server: Server, folder: Path) -> None:
    """A block that is freed and allocated again is not faulted in again."""
    (folder / "planted").write_text("""
from resource import RUSAGE_SELF, getrusage

def faults():
    before = getrusage(RUSAGE_SELF).ru_minflt
    torch.ones(10_000_000)
    return getrusage(RUSAGE_SELF).ru_minflt - before

first, second = faults(), faults()
if second > first / 10:
    raise RuntimeError(f"{first} page faults, then {second}")
""")
    assert ends(server, job("deferred"), first=False) == [Ended()] * 2


def test_a_visit_yields_every_row_of_its_job(server: Server) -> None:
    rows = server.visit(job(layer_norms=(False, True)))
    assert [(row["pass"], row["layer_norm"], row["status"]) for row in rows] == [
        ("forward", False, "ok"), ("forward", True, "ok"), ("train", False, "ok"), ("train", True, "ok"),
    ]  # fmt: skip
    assert all(row["median_s"] > 0 and row["ratio"] > 0 and row["peak_bytes"] > 0 for row in rows)
    later = server.visit(job(), first=False)
    assert len(later) == 2
    assert all(row["median_s"] > 0 and "peak_bytes" not in row for row in later)
    (rates,) = server.visit(hardware.jobs(CPU, ["float32"])[0], hardware.rows)
    assert rates["bytes_per_s"] > 0


def test_running_out_of_memory_is_reported(server: Server, folder: Path) -> None:
    """Of more than a visit may have, and less than the machine has, which would let it allocate that."""
    (folder / "planted").write_text("""
import psutil

whole = run

def run(p, inputs):
    if torch.is_grad_enabled():
        torch.empty(7 * psutil.virtual_memory().total // 10, dtype=torch.uint8)
    return whole(p, inputs)
""")
    assert ends(server, job("deferred"), first=False) == [Ended(), Ended(Status.NO_MEMORY)]
    assert ends(server, job()) == [Ended()] * 2


@pytest.mark.parametrize(
    ("code", "ended"),
    [
        ("import os; os.kill(os.getpid(), 11)", Ended(Status.FAILED, "signal 11")),
        ("import os; os._exit(3)", Ended(Status.FAILED, "exit 3")),
        ("raise RuntimeError('a new\\nline')", Ended(Status.FAILED, "RuntimeError: a new line")),
        ("raise torch.OutOfMemoryError('batched_cpu: not enough memory')", Ended(Status.NO_MEMORY)),
        # As a wait for a GPU, it holds the interpreter, so that no signal's handler runs.
        ("import ctypes; ctypes.PyDLL(None).sleep(60)", Ended(Status.TIME_OUT, "4 s")),
    ],
    ids=["crash", "exit", "error", "memory", "hang"],
)
def test_a_failure_is_the_status_of_its_rows(
    code: str, ended: Ended, server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (folder / "planted").write_text(code)
    server.wait()
    start = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setitem(server_module.LIMIT, DeviceType.CPU, 4.0)
        assert ends(server, job("deferred")) == [ended] * 2
    assert time.monotonic() - start < 9
    if ended.status == Status.TIME_OUT:
        shown = capsys.readouterr().out
        assert shown.startswith("small float32 deferred took more than 4 s, and was here:\n")
        assert 'deferred.py", line ' in shown
    assert ends(server, job()) == [Ended()] * 2


def test_a_server_for_a_gpu_asks_for_no_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child forked from a process that asked CUDA's runtime could use no GPU; what it imports takes long."""
    script = (
        "import atexit, sys, torch\n"
        "def asked(*_): print('asked for a device', flush=True)\n"
        "torch.cuda._lazy_init = torch.cuda.current_device = asked\n"
        "for name in {'_cuda_getDeviceCount', '_cuda_init'} & {*dir(torch._C)}: setattr(torch._C, name, asked)\n"
        "from suite.measure import server\n"
        "frozen = server.gc.freeze\n"
        "server.gc.freeze = lambda: print('imported', *sorted(sys.modules), flush=True) or frozen()\n"
    )
    (tmp_path / "sitecustomize.py").write_text(script)
    monkeypatch.setattr(server_module, "ROOT", f"{tmp_path}{os.pathsep}{ROOT}")
    with Server(tmp_path / "log.txt", tmp_path, device=DeviceType.CUDA) as server:
        server.wait()
    log = (tmp_path / "log.txt").read_text()
    assert "asked for a device" not in log
    imported = log.split("imported ")[1].split()
    assert {"labml_nn.hypernetworks.hyper_lstm", "torch._inductor.compile_fx", "impls.deferred"} <= {*imported}
    assert ("triton" in imported) == (find_spec("triton") is not None)
    assert "jax" not in imported  # it looks for GPUs


def test_ctrl_c_is_the_commands_alone(server: Server) -> None:
    """A terminal sends it to the server too, which the command still needs for what it writes."""
    server.wait()
    os.kill(server.process.pid, signal.SIGINT)
    assert ends(server, job(), first=False) == [Ended()] * 2


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
def test_a_visit_ends_with_a_command_that_is_killed(folder: Path, tmp_path: Path) -> None:
    """Else it would go on beside what is timed next."""
    (folder / "planted").write_text("import os, time\nprint('visit', os.getpid(), flush=True)\ntime.sleep(60)")
    log = tmp_path / "log.txt"
    server = f"Server(*map(Path, {[str(log), str(tmp_path), str(folder)]}))"
    imports = "from pathlib import Path; from suite.measure.fakes import job; from suite.measure.server import Server"
    with subprocess.Popen([sys.executable, "-c", f"{imports}; {server}.visit(job('deferred'))"], cwd=ROOT) as command:
        while not (started := re.search(r"visit (\d+)\n", log.read_text() if log.exists() else "")):
            assert command.poll() is None
            time.sleep(0.1)
        command.kill()
    pid, latest = int(started[1]), time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < latest
        time.sleep(0.1)


def test_the_end_of_a_server_shows_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "ROOT", tmp_path)
    message = r"log\.txt .*\n[\s\S]*No module named 'suite'"
    with Server(tmp_path / "log.txt", tmp_path) as server, pytest.raises(SystemExit, match=message):
        server.wait()


def test_memory_is_limited_on_a_cpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA reserves more addresses than a machine has memory."""
    limits = list[int]()
    monkeypatch.setattr(resource, "setrlimit", lambda resource, limit: limits.append(limit[0]))
    job(device=torch.device("cuda:0")).apply_limits()
    job().apply_limits()
    assert limits == [int(0.6 * psutil.virtual_memory().total)]
