"""A fork server: one process imports torch and the suite, and forks a child for each job, which starts in 0.03 s.

The one of multiprocessing runs the command's own module in every child, and imports from one checkout alone.
"""

import faulthandler
import gc
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import torch

from suite.measure import bench, hardware
from suite.measure.job import Job
from suite.shared import submission
from suite.shared.candidates import BASE, candidates, find
from suite.shared.files import ROOT, write_whole
from suite.shared.process import Row, killed_with

#: What measures a job, by the table of its rows: (job, first) -> rows. first: also what does not vary between visits.
MEASURES: Mapping[str, Callable[[Job, bool], Iterator[Row]]] = {"bench": bench.rows, "hardware": hardware.rows}
#: By kind of device, seconds after which a visit prints where it is, and ends.
LIMIT = {"cpu": 900.0, "cuda": 300.0}


def new_log(folder: Path, name: str) -> Path:
    """Path of an empty log in a machine's folder, for what visits print; ResultsError if it cannot be written."""
    log = folder / "raw" / name
    write_whole(log, "")
    return log


class Server(AbstractContextManager["Server"]):
    """A running fork server, which ends its children with itself.

    log: file for the output of all children. scratch: folder for what compilers cache in a run.
    base: folder whose `impls` is timed instead of this checkout's.
    device: kind of device that children measure on. The server must not look for GPUs: if it asked CUDA's runtime, no
        child could use one.
    """

    def __init__(self, log: Path, scratch: Path, base: Path | None = None, device: str = "cpu") -> None:
        self.log, self.device = log, device
        caches = {"TORCHINDUCTOR_CACHE_DIR": f"{scratch}/inductor", "JAX_COMPILATION_CACHE_DIR": f"{scratch}/jax"}
        # NVML counts GPUs without a context, which a forked child could not use.
        self.environment = {"PYTHONPATH": str(ROOT), "PYTORCH_NVML_BASED_CUDA_CHECK": "1", **caches}
        if base is not None:
            self.environment[BASE] = str(base)
        self._start([candidate.name for candidate in candidates()])  # the first visits need most of their packages

    def restart(self, names: Collection[str]) -> None:
        """End the server and start it again, since all its children share the memory layout of one start.

        names: candidates whose packages it imports, so that no child has to.
        """
        self.end()
        self._start(names)

    def _start(self, names: Collection[str]) -> None:
        self.ready = False
        self.connection, theirs = Pipe()
        packages = sorted(names) if self.device == "cpu" else []
        code = f"from suite.measure.server import serve; serve({theirs.fileno()}, {os.getpid()}, {packages})"
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", code],
                env=os.environ | self.environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        theirs.close()

    def visit(self, job: Job, rows: list[Row], *, first: bool = True, limit: float = 0.0) -> str:
        """Run a job in a new child, add its rows as they are measured, and return "ok" or the status of missing ones.

        first: also measure what does not vary between visits. limit: seconds after which the child prints where it is,
        into the log and here, and ends; by default LIMIT.
        """
        self.wait()
        limit, status = limit or LIMIT[job.device.type], "ok"
        start, printed = time.monotonic(), self.log.stat().st_size
        self.connection.send((job, first, limit))
        while not isinstance(message := self._receive(), int):  # the exit code, which comes last
            if isinstance(message, str):
                status = message
            else:
                rows.append(message)
        if message and time.monotonic() - start >= limit:
            where = self.log.read_bytes()[printed:].decode(errors="replace")
            print(f"{job.label} took more than {limit:.0f} s, and was here:\n{where}", flush=True)
            return f"time-out: {limit:.0f} s"
        if message and status == "ok":
            return f"crashed: signal {-message}" if message < 0 else f"failed: exit {message}"
        return status

    def wait(self) -> None:
        """Return once its imports are done, beside which no visit should be timed."""
        self.ready = self.ready or self._receive()

    def _receive(self) -> Any:
        """Next message; SystemExit shows the end of the log if the server has ended, as when an import fails."""
        try:
            return self.connection.recv()
        except EOFError:
            ending = self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise SystemExit(f"The fork server ended, and its log {self.log} ends with\n{ending}") from None

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.connection.close()

    def __exit__(self, *_: object) -> None:
        self.end()


def serve(descriptor: int, parent: int, names: Collection[str]) -> NoReturn:
    """Fork a child for each job received, and send its exit code after its own messages."""
    killed_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its server
    connection, own = Connection(descriptor), os.getpid()
    preload(names)
    gc.freeze()  # a child's collections look at its own objects alone
    connection.send(True)
    while True:
        job, first, limit = connection.recv()
        if (child := os.fork()) == 0:
            killed_with(own)
            _run(connection, job, first, limit)
        connection.send(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def preload(names: Collection[str]) -> None:
    """Import what most children need. No torch operator may run: a forked child would wait for its threads forever."""
    candidates()  # of another revision: an error ends the server
    for name in set(names).difference(submission.files()):  # which may run operators, so only children import them
        find(name).why_unavailable(torch.device("cpu"), torch.float32)  # which imports its packages


def _run(connection: Connection, job: Job, first: bool, limit: float) -> NoReturn:
    """Run a job in this process, which ends: send its rows, and "ok" or why some are missing."""
    # In a thread of the interpreter, because a signal's handler would not run during a wait for a GPU.
    faulthandler.dump_traceback_later(limit, exit=True)
    status = "ok"
    try:
        submission.inherit()
        job.apply_limits()
        gc.disable()  # no round should pay for it
        for row in MEASURES[job.table](job, first):
            connection.send(row)
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        no_memory = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in reason
        status = "out of memory" if no_memory else f"failed: {reason}"[:200]
    connection.send(status)
    sys.stdout.flush()
    os._exit(0)  # without the server's exit handlers
