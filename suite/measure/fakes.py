"""For tests: a tiny job, a server without a process, other processes, and a clock that is told."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import repeat
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch

from suite.cases.case import Case
from suite.cases.examples import CPU, TINY
from suite.cases.workloads import Workload
from suite.measure import other_processes
from suite.measure.job import Job
from suite.measure.timing import Work
from suite.results.columns import Row


def job(candidate: str = "batched", case: Case = TINY, name: str = "small", **changes: Any) -> Job:
    """Job of the benchmark on a tiny case, with layer norm off; name: of the workload."""
    usual = Job(candidate, Workload(name, case), "float32", CPU, (False,))
    return replace(usual, **changes)


def told(work: Work, device: torch.device) -> float:
    """In the place of `seconds_of`: the seconds that a call returns."""
    seconds = work()
    return seconds if isinstance(seconds, float) else 1.0


def beside(monkeypatch: pytest.MonkeyPatch, shares: float | Iterable[float]) -> None:
    """Let other processes have these shares of the cores, or always one."""
    each = repeat(shares) if isinstance(shares, float) else iter(shares)
    monkeypatch.setattr(other_processes, "share_since", lambda children_s=0.0: lambda children_s: next(each))
    monkeypatch.setattr(other_processes, "sleep", lambda seconds: None)


def fake_server(measure: Callable[[Job, bool], list[Row]]) -> MagicMock:
    """A server without a process, whose visits call a function (job, first) -> rows."""
    server = MagicMock(cpu_s=0.0)
    server.__enter__.return_value = server
    server.visit.side_effect = lambda job, of=None, first=True: measure(job, first)
    return server
