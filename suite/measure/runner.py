"""Passes: every job is visited in each, in an order and by servers of its own, and intervals are between visits."""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from suite.measure.jobs import Job
from suite.measure.server import Server
from suite.shared.process import Row
from suite.shared.statistics import FEWEST, merged

#: A job whose first visit takes more than this share of the time, first calls apart, waits until all others have an
#: interval. What a first call compiles, later visits find compiled.
LONG = 1 / 30
#: Fewest and most visits in a pass of a job that is part of the answer.
ANSWER = 2, 3


@dataclass
class Side:
    """A fork server and the rows of its visits so far, by job."""

    server: Server
    rows: dict[Job, list[Row]] = field(default_factory=dict)

    def visit(self, job: Job) -> None:
        """Visit a job, and merge its rows with those of earlier visits, also where the visit is interrupted."""
        earlier, new = self.rows.get(job, []), list[Row]()
        measured = [row for row in earlier if "visits" in row or row["status"] == "out of memory"]
        try:
            new += self.server.visit(job, first=not earlier or len(measured) < len(earlier))
            new += job.missing(new, self.server.ended)
        finally:
            if new:
                self.rows[job] = merged(earlier, new)


class Visit(NamedTuple):
    """A visit that has ended, of every side; number: of its pass. place: in the order of the pass, of so many."""

    number: int
    place: int
    of: int
    job: Job


def passes(
    sides: Sequence[Side], jobs: Sequence[Job], until: float = float("inf"), most: int = 1_000_000
) -> Iterator[Visit]:
    """Yield visits until the time is up; the first pass always ends. until: as `time.time` counts. most: passes.

    After the first, a job that is part of the answer is visited twice in a pass; after FEWEST passes, three times if it
    is shorter than others, since its time varies more.
    """
    seconds, long, late = dict[Job, float](), LONG * (until - time.time()), set[Job]()
    for number in range(1, most + 1):
        waits = late if number <= FEWEST and len(late) < len(jobs) else set()
        answer = {job: seconds[job] for job in jobs if job.answer and number > 1}
        longest, limit = max(answer.values(), default=0.0), ANSWER[number > FEWEST]
        repeats = {job: min(round(ANSWER[0] * longest / one), limit) for job, one in answer.items()}
        order = [job for job in jobs for _ in range(repeats.get(job, 1)) if job not in waits]
        random.shuffle(order)
        for side in sides if number > 1 else ():
            side.server.restart({job.candidate for job in order})
        for side in sides:
            side.server.wait()
        visited = 0
        for place, job in enumerate(order, 1):
            start = time.time()
            if number > 1 and start + seconds[job] > until:
                continue
            for side in sides if random.random() < 0.5 else sides[::-1]:
                side.visit(job)
            seconds[job] = min(time.time() - start, seconds.get(job, float("inf")))
            visited += 1
            first_calls = sum(row.get("first_s", 0.0) for row in sides[0].rows.get(job, ()))
            if number == 1 and seconds[job] - first_calls > long:
                late.add(job)
            yield Visit(number, place, len(order), job)
        if not visited:
            return
