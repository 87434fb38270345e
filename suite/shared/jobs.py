"""One benchmark job: a subject on a workload, in a process of its own with a time and a memory limit."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from suite.shared.arithmetic import dtype_of
from suite.shared.cases import WORKLOADS, Case
from suite.shared.files import ROOT

PASSES = ("forward", "train")
#: How often to look whether the process has ended, in seconds: seldom, since looking takes time from what is timed.
POLL = 0.1


@dataclass(frozen=True)
class Job:
    """What a benchmark process is told: a subject, and a workload with layer norm off, on, or off and then on.

    time_limit: seconds for each of `layer_norms`. folder: where the process leaves its rows.
    """

    subject: str
    case: Case
    dtype: str
    device: str
    memory_limit: int  # bytes
    time_limit: float
    folder: Path
    layer_norms: tuple[bool, ...] = (False, True)
    passes: tuple[str, ...] = PASSES

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype itself."""
        return dtype_of(self.dtype)

    @property
    def torch_device(self) -> torch.device:
        """The device itself."""
        return torch.device(self.device)

    @property
    def cases(self) -> list[Case]:
        """The workload as it is timed, once for each of `layer_norms`."""
        return [replace(self.case, layer_norm=layer_norm) for layer_norm in self.layer_norms]

    @property
    def label(self) -> str:
        """How the job is called in lines and file names."""
        return f"{self.case.name} {self.dtype} {self.subject}"

    def columns(self, case: Case, name: str) -> dict[str, Any]:
        """Return the columns that say what a row is about; `name` is the pass."""
        paper = WORKLOADS[case.name]
        changed = [
            f"{n} {getattr(case, n)} of {getattr(paper, n)}" for n in "TB" if getattr(case, n) != getattr(paper, n)
        ]
        return {
            "workload": case.name,
            **{n: getattr(case, n) for n in "TBIHSZL"},
            "shortened": ", ".join(changed),
            "layer_norm": "on" if case.layer_norm else "off",
            "implementation": self.subject,
            "dtype": self.dtype,
            "pass": name,
        }

    def rows(self, cases: Sequence[Case], status: str) -> list[dict[str, Any]]:
        """Return rows without figures, which say why there are none."""
        return [self.columns(case, name) | {"status": status} for case in cases for name in self.passes]

    def left(self, case: Case, name: str) -> Path:
        """Return where the process leaves the row of a pass."""
        return self.folder / f"{'norm' if case.layer_norm else 'plain'}-{name}.json"

    def complete(self) -> int:
        """Return how many of the cases, from the first on, have left all of their rows."""
        for number, case in enumerate(self.cases):
            if not all(self.left(case, name).exists() for name in self.passes):
                return number
        return len(self.cases)

    def write(self, path: Path) -> None:
        """Write the job for the process that will do it."""
        path.write_text(json.dumps(asdict(self) | {"folder": str(self.folder)}), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Job":
        """Read a job back."""
        fields = json.loads(path.read_text(encoding="utf-8"))
        fields |= {name: tuple(fields[name]) for name in ("layer_norms", "passes")}
        return cls(**fields | {"case": Case(**fields["case"]), "folder": Path(fields["folder"])})


def run(job: Job, raw: Path, log: Path) -> list[dict[str, Any]]:
    """Do a job in a process of its own and return its rows, one a case and pass; what did not end is labelled why.

    A process that ended before its time takes no later case with it: another does those.
    raw: where pytest-benchmark's own JSON goes. log: where the process's output goes.
    """
    started, rows, remaining = time.monotonic(), [], job.layer_norms
    while remaining:
        part = replace(job, layer_norms=remaining)
        again = "" if remaining == job.layer_norms else "-again"
        ended = _process(part, raw.with_stem(f"{raw.stem}{again}"), log)
        done = part.complete() + 1
        for case in part.cases[:done]:
            for name, row in zip(part.passes, part.rows([case], ended), strict=True):
                left = part.left(case, name)
                rows.append(json.loads(left.read_text(encoding="utf-8")) if left.exists() else row)
                left.unlink(missing_ok=True)
        remaining = remaining[done:]
    seconds = round(time.monotonic() - started, 1)
    return [row | {"job_s": seconds} for row in rows]


def _process(job: Job, raw: Path, log: Path) -> str:
    """Run the process until it ends, or until a case takes longer than it may; return the label of what is missing."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "job.json"
        job.write(path)
        command = [sys.executable, "-m", "pytest", str(ROOT / "suite" / "timing" / "step.py")]
        command += ["-o", "python_functions=bench_*", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
        command += ["--benchmark-disable-gc", "--benchmark-timer", "suite.shared.stopwatch.measured"]
        command += ["--job", str(path), "--benchmark-json", str(raw)]
        with log.open("ab") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
            try:
                return _wait(job, process)
            finally:
                process.kill()


def _wait(job: Job, process: "subprocess.Popen[bytes]") -> str:
    since, complete = time.monotonic(), 0
    while (code := process.poll()) is None:
        if job.complete() > complete:
            since, complete = time.monotonic(), job.complete()
        if time.monotonic() - since > job.time_limit:
            return f"time-out: {job.time_limit:.0f} s"
        time.sleep(POLL)
    return f"crashed: signal {-code}" if code < 0 else f"failed: exit {code}"
