"""Job: what a child of the fork server measures in a visit, and the columns that describe its rows."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from suite.shared import arithmetic
from suite.shared.cases import Case
from suite.shared.process import Row
from suite.shared.tables import PASSES, about, about_pass

#: Share of the machine's memory that one process may take, so that only that process fails if there is too little.
MEMORY_SHARE = 0.6


@dataclass(frozen=True)
class Job:
    """A candidate on a workload of the benchmark, or a part of a study.

    table: name of the table of its rows, and of the module in suite/measure that yields them.
    part: its name within a study.
    layer_norms: of the benchmark: layer norm off, on, or both in turns. answer: the benchmark's answer rests on it.
    verify, verify_rows: its verification, see tables.toml. instead: status of its rows if it does not run.
    memory_limit: bytes that its process may take on a CPU; 0 for MEMORY_SHARE of the machine's.
    """

    table: str
    part: str
    candidates: tuple[str, ...]
    case: Case
    dtype: str
    device: torch.device
    layer_norms: tuple[bool, ...] = ()
    answer: bool = False
    verify: str = ""
    verify_rows: str = ""
    instead: str = ""
    memory_limit: int = 0

    @property
    def torch_dtype(self) -> torch.dtype:
        return arithmetic.dtype_of(self.dtype)

    @property
    def verified(self) -> bool:
        """True if a verification of this code compared it, so that a visit need not."""
        return self.verify == "verified"

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
        if self.table == "bench":
            return f"{self.case.name}{' full' * bool(self.case.short)} {self.dtype} {self.candidate}"
        return f"{self.table} {self.case.name} {'norm' if self.case.layer_norm else 'plain'} {self.dtype} {self.part}"

    def columns(self, case: Case, name: str) -> Row:
        """Columns that describe a row of the benchmark; name: the pass."""
        return about_pass(case, self.candidate, self.dtype, name)

    def rows(self, status: str) -> list[Row]:
        """Rows of the benchmark without figures, in the order that a visit yields them."""
        return [self.columns(case, name) | {"status": status} for name in PASSES for case in self.cases]

    def row(self, kind: str, implementation: str = "", case: Case | None = None, **figures: object) -> Row:
        """Row of a study, by default of the job's first candidate and of its case."""
        where = about(case or self.case, implementation or self.candidate, self.dtype)
        return {"part": self.part, "kind": kind} | where | {"status": "ok"} | figures

    def missing(self, rows: Sequence[Row], ended: str) -> list[Row]:
        """Rows that a visit did not get to; ended: how it did."""
        if ended == "ok":
            return []
        return self.rows(ended)[len(rows) :] if self.table == "bench" else [self.row("end", status=ended)]

    def apply_limits(self) -> None:
        """Limit the memory of this process, on Linux, and set the arithmetic of its products."""
        if sys.platform == "linux" and self.device.type == "cpu":
            import resource

            machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            limit = self.memory_limit or int(MEMORY_SHARE * machine)
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        arithmetic.use(self.dtype)
