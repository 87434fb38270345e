"""Jobs, and a server that only notes its visits, for tests."""

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from suite.measure.job import Job
from suite.measure.server import Server
from suite.shared.examples import CPU, TINY
from suite.shared.process import Row


def job(candidate: str = "batched", **changes: Any) -> Job:
    """Job of the benchmark on a tiny case, with layer norm off."""
    return replace(Job("bench", candidate, TINY, "float32", CPU, (False,)), **changes)


class FakeServer(Server):
    """A server without a process, whose visits call a function (job, rows, first) -> status, and are noted."""

    def __init__(self, measure: Callable[[Job, list[Row], bool], str]) -> None:
        self.measure, self.visits, self.starts = measure, list[tuple[str, bool]](), 1

    def visit(self, job: Job, rows: list[Row], *, first: bool = True, limit: float = 0.0) -> str:
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
