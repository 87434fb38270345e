"""Processes that measure: what they are told, and the rows that come back."""

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from suite.measure.jobs import Job
from suite.shared.process import Child, Row
from suite.shared.rows import TABLES

_Key = tuple[object, ...]


def tell(path: Path, jobs: Sequence[Job], ends: Sequence[float] = ()) -> None:
    """Write what a process is told; ends: of the benchmark, the times at which first and all rounds end."""
    path.write_text(json.dumps({"jobs": list(map(asdict, jobs)), "ends": ends}, default=str), encoding="utf-8")


def told(path: Path) -> tuple[list[Job], list[float]]:
    """What `tell` wrote."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return list(map(Job.of, found["jobs"])), found["ends"]


@contextmanager
def started(module: str, jobs: Sequence[Job], log: Path, ends: Sequence[float] = ()) -> Iterator[Child]:
    """Start `python -m <module> TOLD ROWS`, see `told`, with an empty cache of torch.compile: first calls compile."""
    with tempfile.TemporaryDirectory() as folder:
        path, rows = Path(folder) / "told.json", Path(folder) / "rows.jsonl"
        tell(path, jobs, ends)
        environment = {"TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor"}
        child = Child(module, rows, str(path), str(rows), log=log, environment=environment)
        try:
            yield child
        finally:
            child.end()


def run(jobs: Sequence[Job], seconds: Sequence[float], limit: float, log: Path) -> Iterator[tuple[Job, list[Row]]]:
    """Measure jobs of one dtype in a process, and yield each with its rows once all of them are there.

    It is yielded again if it had more rounds. If the process ends early, another one does the jobs after the one that
    failed. seconds: time for first and for all rounds. limit: seconds after which the process is killed.
    """
    start, todo = time.time(), list(jobs)
    wanted, found = {job: [_key(row) for row in job.rows("")] for job in jobs}, dict[_Key, Row]()
    while todo:
        with started("suite.measure.bench_step", todo, log, [start + each for each in seconds]) as child:
            for new in child.rows(max(0.0, start + limit - time.time())):
                found |= {_key(row): row for row in new}
                for job in todo:
                    if found.keys() >= set(wanted[job]) and any(_key(row) in wanted[job] for row in new):
                        yield job, [found[key] for key in wanted[job]]
        undone = [job for job in todo if not found.keys() >= set(wanted[job])]
        over = time.time() >= start + limit
        for job in undone if over else undone[:1]:
            status = "time-out: the run's time was over" if over else child.ended.replace("ok", "failed: no row")
            yield job, [found.get(_key(row), row) for row in job.rows(status)]
        todo = [] if over else undone[1:]


def _key(row: Row) -> _Key:
    return tuple(row[column] for column in TABLES["bench"].key)
