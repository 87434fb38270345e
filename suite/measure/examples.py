"""Jobs, a server that only notes its visits, and a clock that is told, for tests."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from itertools import repeat
from typing import Any

import torch

from suite.cases.case import Case
from suite.cases.examples import CPU, TINY
from suite.cases.workloads import Workload
from suite.measure import bench as visit
from suite.measure.job import Job
from suite.measure.server import Server
from suite.measure.timing import Work
from suite.results.columns import Row
from suite.results.status import Ended


def job(candidate: str = "batched", case: Case = TINY, name: str = "small", **changes: Any) -> Job:
    """Job of the benchmark on a tiny case, with layer norm off; name: of the workload."""
    usual = Job("bench", candidate, Workload(name, case), "float32", CPU, (False,))
    return replace(usual, **changes)


def rows(visited: Job, first: bool) -> list[Row]:
    """Rows of a visit in this process."""
    return [*visit.rows(visited, first)]


def told(work: Work, device: torch.device) -> float:
    """In the place of `seconds_of`: the seconds that a call returns."""
    seconds = work()
    return seconds if isinstance(seconds, float) else 1.0


def others(shares: float | Iterator[float]) -> Any:
    """In the place of `share_since`: other processes have these shares of the cores, or always one."""
    each = repeat(shares) if isinstance(shares, float) else shares
    return lambda children_s: lambda children_s: next(each)


class FakeServer(Server):
    """A server without a process, whose visits call a function (job, rows, first) -> how it ended, and are noted."""

    def __init__(self, measure: Callable[[Job, list[Row], bool], Ended]) -> None:
        self.measure = measure
        self.visits = list[tuple[str, bool]]()
        self.starts = 1
        self.cpu_s = 0.0

    def visit(self, job: Job, rows: list[Row], *, first: bool = True, limit: float | None = None) -> Ended:
        self.visits.append((job.candidate, first))
        return self.measure(job, rows, first)

    def restart(self, names: Collection[str]) -> None:
        self.starts += 1

    def wait(self) -> None:
        pass

    def end(self) -> None:
        pass

    def count(self, name: str) -> int:
        """Number of visits of a candidate."""
        return [candidate for candidate, _ in self.visits].count(name)
