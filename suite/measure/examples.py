"""Jobs, a server without a process, and a clock that is told, for tests."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import repeat
from typing import Any
from unittest.mock import MagicMock

import torch

from suite.cases.case import Case
from suite.cases.examples import CPU, TINY
from suite.cases.workloads import Workload
from suite.measure import bench as visit
from suite.measure.job import Job
from suite.measure.timing import Work
from suite.results.columns import Row
from suite.results.status import Ended


def job(candidate: str = "batched", case: Case = TINY, name: str = "small", **changes: Any) -> Job:
    """Job of the benchmark on a tiny case, with layer norm off; name: of the workload."""
    usual = Job(candidate, Workload(name, case), "float32", CPU, (False,))
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


def fake_server(measure: Callable[[Job, list[Row], bool], Ended]) -> MagicMock:
    """A server without a process, whose visits call a function (job, rows, first) -> how it ended."""
    server = MagicMock(cpu_s=0.0)
    server.__enter__.return_value = server
    server.visit.side_effect = lambda job, rows, of=None, first=True: measure(job, rows, first)
    return server
