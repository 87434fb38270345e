"""One job of a benchmark or a study: what a process that measures is told, and what its rows are about."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from suite.shared import arithmetic, machine
from suite.shared.cases import SHORT, WORKLOADS, Case
from suite.shared.process import Child, Row, read_rows
from suite.shared.rows import PASSES, about, about_pass


def full(case: Case) -> bool:
    """Return whether a case has the T and B of a workload that a run without a GPU shortens."""
    return case.name in SHORT and (case.T, case.B) == (WORKLOADS[case.name].T, WORKLOADS[case.name].B)


@dataclass(frozen=True)
class Job:
    """What a process that measures is told.

    table: the result file that its rows go to, which is also what it is to do. part: its name within a study.
    layer_norms: the benchmark's, whose workload has layer norm off, on, or off and then on.
    limit: the memory study's, the bytes that a training step is to fit in.
    seconds: the text study's, how long to train.
    memory_limit: bytes that the process may take, 0 for no limit. time_limit: seconds that each row may take.
    path: the file that its rows are left in.
    """

    table: str
    part: str
    candidates: tuple[str, ...]
    case: Case
    dtype: str
    device: str
    layer_norms: tuple[bool, ...] = ()
    limit: int = 0
    seconds: float = 0.0
    memory_limit: int = 0
    time_limit: float = 60.0
    path: Path = field(default=Path())

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of its tensors."""
        return arithmetic.dtype_of(self.dtype)

    @property
    def torch_device(self) -> torch.device:
        """The device itself."""
        return torch.device(self.device)

    @property
    def candidate(self) -> str:
        """The first candidate, which is the only one of most."""
        return self.candidates[0]

    @property
    def cases(self) -> list[Case]:
        """The workload once for each of `layer_norms`."""
        return [replace(self.case, layer_norm=layer_norm) for layer_norm in self.layer_norms]

    @property
    def label(self) -> str:
        """How the job is called in lines and file names."""
        if self.layer_norms:
            return f"{self.case.name}{' full' * full(self.case)} {self.dtype} {self.candidate}"
        return f"{self.table} {self.case.name} {'norm' if self.case.layer_norm else 'plain'} {self.dtype} {self.part}"

    def columns(self, case: Case, name: str) -> Row:
        """Columns that say what a row of the benchmark is about; `name` is the pass."""
        return about_pass(case, self.candidate, self.dtype, name)

    def rows(self, cases: Sequence[Case], status: str) -> list[Row]:
        """Return rows of the benchmark without figures, which say why there are none."""
        return [self.columns(case, name) | {"status": status} for case in cases for name in PASSES]

    def row(self, kind: str, implementation: str, case: Case | None = None, **figures: Any) -> Row:
        """Return a row of a study; case: the sizes that it is about, if not the job's own."""
        where = about(case or self.case, implementation, self.dtype)
        return {"part": self.part, "kind": kind} | where | {"status": "ok"} | figures

    def write(self, path: Path) -> None:
        """Write the job for the process that will do it."""
        path.write_text(json.dumps(asdict(self) | {"path": str(self.path)}), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Job":
        """Read a job back."""
        fields = json.loads(path.read_text(encoding="utf-8"))
        fields |= {name: tuple(fields[name]) for name in ("candidates", "layer_norms")}
        case = Case(**fields["case"] | {"lengths": tuple(fields["case"]["lengths"])})
        return cls(**fields | {"case": case, "path": Path(fields["path"])})

    def take_on(self) -> None:
        """Put this process under the job's memory limit and have it compute in the job's arithmetic."""
        if self.memory_limit:
            machine.limit_memory(self.memory_limit, self.torch_device)
        arithmetic.use(self.dtype)


def run(
    job: Job, module: str, *arguments: str, log: Path, environment: Mapping[str, str | None] | None = None
) -> tuple[list[Row], str]:
    """Do a job in `python -m <module> <arguments> JOB.json`; return the rows that it left and how it ended."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.json"
        rows = path.with_suffix(".jsonl")
        replace(job, path=rows).write(path)
        child = Child(module, rows, *arguments, str(path), log=log, environment=environment)
        ended = child.wait(len(job.cases or (job,)) * len(PASSES) * job.time_limit)
        return read_rows(rows), ended
