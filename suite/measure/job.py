"""Job: what a visit measures, whether it runs here, and the columns that describe its rows."""

import sys
from dataclasses import dataclass, replace

import psutil
import torch

from suite.candidates.catalogue import find
from suite.cases.case import Case
from suite.cases.workloads import Workload
from suite.results.columns import Row, about_pass
from suite.results.run import Run, red
from suite.results.status import Ended, Status
from suite.shared.arithmetic import Arithmetic
from suite.shared.devices import DeviceType

#: Share of the machine's memory that one process may take, so that too little memory ends only that process.
MEMORY_SHARE = 0.6


class RefusedError(Exception):
    """What was measured is no figure of the candidate; the message says why."""


@dataclass(frozen=True)
class Job:
    """A candidate on a workload of the benchmark.

    layer_norms: off, on, or both in turns.
    skipped: why it does not run; None if it does.
    """

    candidate: str
    workload: Workload
    dtype: str
    device: torch.device
    layer_norms: tuple[bool, ...] = ()
    skipped: Ended | None = None

    @property
    def torch_dtype(self) -> torch.dtype:
        return Arithmetic(self.dtype).dtype

    @property
    def case(self) -> Case:
        """That of the workload."""
        return self.workload.case

    @property
    def cases(self) -> list[Case]:
        """The case once for each of `layer_norms`."""
        return [replace(self.case, layer_norm=layer_norm) for layer_norm in self.layer_norms]

    @property
    def label(self) -> str:
        full = " full" if self.workload.short else ""
        return f"{self.workload.name}{full} {self.dtype} {self.candidate}"

    def planned(self, verify: Run | None) -> "Job":
        """The job, with the reason if it does not run here; verify: the last verification of this machine."""
        reason = Arithmetic(self.dtype).why_not(self.device)
        if reason is None:
            reason = find(self.candidate).why_unavailable(self.device, self.torch_dtype)
        if reason is not None:
            return replace(self, skipped=Ended(Status.NOT_RUN, reason))
        if red(verify, self.candidate, self.dtype):
            detail = f"verify.csv is red for {self.candidate} in {self.dtype}"
            return replace(self, skipped=Ended(Status.REFUSED, detail))
        return self

    def rows(self, ended: Ended) -> list[Row]:
        """Rows of the benchmark without figures, in the order that a visit yields them."""
        return [
            about_pass(self.workload, case, self.candidate, self.dtype, timed) | ended.columns
            for timed in self.workload.passes
            for case in self.cases
        ]

    def apply_limits(self) -> None:
        """Limit the memory of this process, on Linux, and set the arithmetic of its products."""
        if sys.platform == "linux" and self.device.type == DeviceType.CPU:
            import resource

            limit = int(MEMORY_SHARE * psutil.virtual_memory().total)
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        Arithmetic(self.dtype).use()
