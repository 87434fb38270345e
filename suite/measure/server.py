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
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, suppress
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import torch

from impls import registry
from suite.candidates import submission
from suite.candidates.catalogue import candidates
from suite.candidates.ours import BASE
from suite.measure import timing, work
from suite.measure.guard import guard
from suite.measure.job import Job, RefusedError
from suite.measure.visit import rows
from suite.results.columns import Row
from suite.results.status import Ended, Status
from suite.shared.devices import DeviceType
from suite.shared.files import ROOT, write_whole
from suite.shared.process import killed_with
from suite.shared.text import in_one_line

#: What a visit does: (job, first) -> rows. first: also what does not vary between visits.
Measure = Callable[[Job, bool], Iterator[Row]]
#: By kind of device, seconds after which a visit prints where it is, and ends.
LIMIT = {DeviceType.CPU: 900.0, DeviceType.CUDA: 300.0}


def new_log(log: Path) -> Path:
    """Path of an empty log, for what visits print; ResultsError if it cannot be written."""
    write_whole(log, "")
    return log


class Server(AbstractContextManager["Server"]):
    """A running fork server, which ends its children with itself.

    log: file for the output of all children. scratch: folder for what compilers cache in a run.
    base: folder whose `impls` is timed instead of this checkout's.
    device: kind of device that children measure on. The server must not look for GPUs: if it asked CUDA's runtime, no
        child could use one.
    """

    def __init__(self, log: Path, scratch: Path, base: Path | None = None, device: DeviceType = DeviceType.CPU) -> None:
        self.log = log
        self.device = device
        caches = {"TORCHINDUCTOR_CACHE_DIR": f"{scratch}/inductor", "JAX_COMPILATION_CACHE_DIR": f"{scratch}/jax"}
        caches["TORCH_WARM_POOL"] = "0"  # else its import starts processes beside the visits
        # NVML counts GPUs without a context, which a forked child could not use.
        self.environment = {"PYTHONPATH": str(ROOT), "PYTORCH_NVML_BASED_CUDA_CHECK": "1", **caches}
        self.environment |= {name: str(size) for name, size in timing.KEEP.items()}
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
        self.cpu_s = 0.0
        self.connection, theirs = Pipe()
        of_server = f"{theirs.fileno()}, {os.getpid()}, {sorted(names)}, {str(self.device)!r}"
        code = f"from suite.measure.server import serve; serve({of_server})"
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

    def visit(self, job: Job, measure: Measure = rows, *, first: bool = True) -> list[Row]:
        """Run a job in a new child, and return its rows; those that it did not reach say how it ended.

        If it is refused, all rows say so. first: also measure what does not vary between visits. After LIMIT the child
        prints where it is, into the log and here, and ends.
        """
        self.wait()
        limit = LIMIT[DeviceType(job.device.type)]
        measured, ended = list[Row](), Ended()
        start = time.monotonic()
        printed = self.log.stat().st_size
        self.connection.send((measure, job, first, limit))
        while isinstance(message := self._receive(), (dict, Ended)):
            if isinstance(message, Ended):
                ended = message
            else:
                measured.append(message)
        code, self.cpu_s = message
        if ended.refused:
            return job.rows(ended)
        if code and time.monotonic() - start >= limit:
            where = self.log.read_bytes()[printed:].decode(errors="replace")
            print(f"{job.label} took more than {limit:.0f} s, and was here:\n{where}", flush=True)
            ended = Ended(Status.TIME_OUT, f"{limit:.0f} s")
        elif code and ended.status == Status.OK:  # before it could say more
            ended = Ended(Status.FAILED, f"signal {-code}" if code < 0 else f"exit {code}")
        if ended.status != Status.OK:
            measured += job.rows(ended)[len(measured) :]
        return measured

    def wait(self) -> None:
        """Return once its imports are done, beside which no visit should be timed."""
        if not self.ready:
            _, self.cpu_s = self._receive()
            self.ready = True

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


def serve(descriptor: int, parent: int, names: Collection[str], device: str) -> NoReturn:
    """Fork a child for each job received.

    After a child's own messages, and once when imports are done, send its exit code, 0 for imports, and the processor
    time so far, of children too.
    """
    killed_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its server
    connection = Connection(descriptor)
    server = os.getpid()
    preload(names, device)
    gc.freeze()  # a child's collections look at its own objects alone
    code = 0
    while True:
        connection.send((code, sum(os.times()[:4])))
        measure, job, first, limit = connection.recv()
        child = os.fork()
        if child == 0:
            killed_with(server)
            _run(connection, measure, job, first, limit)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)


def preload(names: Collection[str], device: str) -> None:
    """Import what most children need.

    No torch operator may run, as a forked child would wait for its threads forever, and no GPU may be asked for.
    """
    for name in work.REFERENCES:  # before any file is loaded
        _ = registry.find(name).run  # which imports it
    for candidate in candidates():  # of another revision: an error ends the server
        # JAX looks for GPUs when it is imported where there is one.
        if candidate.name in names and device in candidate.devices and (candidate.of_torch or device == DeviceType.CPU):
            for module in candidate.modules:
                with suppress(ImportError):  # the row of the child says so
                    import_module(module)


def _run(connection: Connection, measure: Measure, job: Job, first: bool, limit: float) -> NoReturn:
    """Run a job in this process, which ends: send its rows, and how it ended."""
    # In a thread of the interpreter, because a signal's handler would not run during a wait for a GPU.
    faulthandler.dump_traceback_later(limit, exit=True)
    ended = Ended()
    try:
        job.apply_limits()
        gc.disable()  # no round should pay for it
        check = guard() if submission.files() else submission.nothing
        files = submission.inherit(check)
        ran = f"{job.candidate}.py" if job.candidate in files else "a file of --impl"
        for row in measure(job, first):
            check(ran)
            connection.send(row)
        check(ran)
    except RefusedError as error:
        ended = Ended(Status.REFUSED, str(error))
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {in_one_line(error)}"
        ended = Ended(Status.NO_MEMORY) if is_of_memory(error) else Ended(Status.FAILED, reason)
    connection.send(ended)
    sys.stdout.flush()
    os._exit(0)  # without the server's exit handlers


def is_of_memory(error: Exception) -> bool:
    """True for an error of too little memory, of which only the text tells that of torch's allocator on a CPU."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)
