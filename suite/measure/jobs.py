"""What is measured together, and what its rows are about."""

import os
import sys
from dataclasses import dataclass, replace
from typing import Any

import torch

from suite.shared import arithmetic
from suite.shared.cases import SHORT, WORKLOADS, Case
from suite.shared.process import Row
from suite.shared.rows import PASSES, about, about_pass

#: Of the machine's memory, what one process may take, so that running out is an error in it and not the machine's.
MEMORY_SHARE = 0.6
#: What a job of the benchmark is to its answer, in the order in which jobs are done: the answer rests on it, it is one
#: of the others, or it is slow and says the same on any workload.
ANSWER, OTHER, SLOW = ROLES = ("answer", "other", "slow")


def full(case: Case) -> bool:
    """True if a case has the T and B of a workload that a run without a GPU shortens."""
    return case.name in SHORT and (case.T, case.B) == (WORKLOADS[case.name].T, WORKLOADS[case.name].B)


@dataclass(frozen=True)
class Job:
    """A candidate on a workload of the benchmark, or a part of a study.

    table: the result file that its rows go to. part: its name within a study.
    layer_norms: the benchmark's, whose workload has layer norm off, on, or both in turns. role: the benchmark's.
    limit: a study's own: bytes that a training step is to fit in, or seconds of training.
    memory_limit: bytes that its process may take on a CPU; 0 for MEMORY_SHARE of the machine's.
    """

    table: str
    part: str
    candidates: tuple[str, ...]
    case: Case
    dtype: str
    device: str
    layer_norms: tuple[bool, ...] = ()
    role: str = OTHER
    limit: float = 0.0
    memory_limit: int = 0

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
        """The job in lines and file names."""
        if self.layer_norms:
            return f"{self.case.name}{' full' * full(self.case)} {self.dtype} {self.candidate}"
        return f"{self.table} {self.case.name} {'norm' if self.case.layer_norm else 'plain'} {self.dtype} {self.part}"

    def columns(self, case: Case, name: str) -> Row:
        """Columns that say what a row of the benchmark is about; `name` is the pass."""
        return about_pass(case, self.candidate, self.dtype, name)

    def rows(self, status: str) -> list[Row]:
        """Rows of the benchmark without figures, which say why there are none."""
        return [self.columns(case, name) | {"status": status} for name in PASSES for case in self.cases]

    def row(self, kind: str, implementation: str, case: Case | None = None, **figures: Any) -> Row:
        """Row of a study; case: the sizes that it is about, if not the job's own."""
        where = about(case or self.case, implementation, self.dtype)
        return {"part": self.part, "kind": kind} | where | {"status": "ok"} | figures

    def take_on(self) -> None:
        """Hold this process to its memory, which only Linux can, and have it compute in the job's arithmetic."""
        if sys.platform == "linux" and self.torch_device.type == "cpu":
            import resource

            machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            limit = self.memory_limit or int(MEMORY_SHARE * machine)
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        arithmetic.use(self.dtype)
