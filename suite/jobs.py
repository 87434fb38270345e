"""One benchmark job: a subject on a workload, in a process of its own with a time and a memory limit."""

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from . import machine
from .cases import WORKLOADS, Case

PASSES = ("forward", "train")


@dataclass(frozen=True)
class Job:
    """What a benchmark process is told; `folder` is where it leaves its rows."""

    subject: str
    case: Case
    dtype: str
    device: str
    memory_limit: int  # bytes
    folder: Path
    passes: tuple[str, ...] = PASSES

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype itself."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    @property
    def torch_device(self) -> torch.device:
        """The device itself."""
        return torch.device(self.device)

    @property
    def label(self) -> str:
        """How the job is called in lines and file names."""
        return f"{self.case.name} {'norm' if self.case.layer_norm else 'plain'} {self.dtype} {self.subject}"

    def columns(self, name: str) -> dict[str, Any]:
        """Return the columns that say what a row is about; `name` is the pass."""
        case, paper = self.case, WORKLOADS[self.case.name]
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

    def write(self, path: Path) -> None:
        """Write the job for the process that will do it."""
        path.write_text(json.dumps(asdict(self) | {"folder": str(self.folder)}), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Job":
        """Read a job back."""
        fields = json.loads(path.read_text(encoding="utf-8"))
        case, folder, passes = Case(**fields["case"]), Path(fields["folder"]), tuple(fields["passes"])
        return cls(**fields | {"case": case, "folder": folder, "passes": passes})

    def limit_memory(self) -> None:
        """Hold this process to the limit, so that running out is an error in it and not the machine's."""
        if self.torch_device.type == "cuda":
            total = torch.cuda.get_device_properties(self.torch_device).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, self.memory_limit / total), self.torch_device)
        elif sys.platform == "linux":
            import resource

            resource.setrlimit(resource.RLIMIT_DATA, (self.memory_limit, self.memory_limit))


def run(job: Job, time_limit: float, raw: Path, log: Path) -> list[dict[str, Any]]:
    """Do a job in a process of its own and return its rows, one a pass; a pass that did not end is labelled why.

    raw: where pytest-benchmark's own JSON goes. log: where the process's output goes.
    """
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "job.json"
        job.write(path)
        command = [sys.executable, "-m", "pytest", str(Path(__file__).with_name("bench_step.py"))]
        command += ["-o", "python_functions=bench_*", "-p", "no:cacheprovider", "--benchmark-disable-gc"]
        command += ["--job", str(path), "--benchmark-json", str(raw)]
        raw.parent.mkdir(parents=True, exist_ok=True)
        try:
            with log.open("ab") as output:
                code = subprocess.run(command, stdout=output, stderr=output, timeout=time_limit, check=False).returncode
            ended = f"crashed: signal {-code}" if code < 0 else f"failed: exit {code}"
        except subprocess.TimeoutExpired:
            ended = f"time-out: {time_limit:.0f} s"
    rows = []
    for name in job.passes:
        left = job.folder / f"{name}.json"
        columns = job.columns(name) | {"status": ended} | machine.environment(job.torch_device)
        rows.append(json.loads(left.read_text(encoding="utf-8")) if left.exists() else columns)
        left.unlink(missing_ok=True)
    return rows
