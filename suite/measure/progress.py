"""What a benchmark shows while it runs: a line for each job, under a heading per workload, and the time left."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from suite.measure.jobs import Job
from suite.shared.format import status, three
from suite.shared.rows import PASSES

#: Characters of a line's name, of each of its figures and of the time left: 80 in all.
NAME, FIGURE, LEFT = 16, 14, 8
COLUMNS = [(norm, name) for norm in ("off", "on") for name in PASSES]


class Progress:
    """Prints a line for each of some jobs; until: the time at which the run ends, as `time.time` counts."""

    def __init__(self, jobs: Iterable[Job], until: float) -> None:
        self.left, self.until, self.title = set(jobs), until, ""

    def show(self, job: Job, rows: Sequence[Mapping[str, Any]]) -> None:
        """Print a job's medians in milliseconds, once; without rows it has them already."""
        if job not in self.left:
            return
        self.left.remove(job)
        title = f"{job.case.name}, T {job.case.T}, B {job.case.B}, {job.dtype}, ms"
        if title != self.title:
            self.title = title
            heads = "".join(f"{name}{', norm' * (norm == 'on')}".rjust(FIGURE) for norm, name in COLUMNS)
            print(f"\n{title}\n{'':{NAME}}{heads}{'left':>{LEFT}}")
        figures = [three(1e3 * row["median_s"]) if row["status"] == "ok" else status(row) for row in rows]
        found = {(row["layer_norm"], row["pass"]): figure for row, figure in zip(rows, figures, strict=True)}
        cells = "".join(found.get(place, "").rjust(FIGURE) for place in COLUMNS)
        seconds = max(0, round(self.until - time.time()))
        left = f"{seconds // 60}:{seconds % 60:02}"
        print(f"{job.candidate:{NAME}}{cells if rows else 'has its rows':{4 * FIGURE}}{left:>{LEFT}}", flush=True)
        if job.dtype not in {other.dtype for other in self.left}:
            print(f"\nAll of {job.dtype} have their first rounds: more rounds, for {left} at most.", flush=True)
