"""One process of a study: `python -m suite.measure.study_step TOLD ROWS`, see `processes.py`."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from suite.measure import processes
from suite.measure.jobs import Job
from suite.measure.load import Others
from suite.measure.work import is_out_of_memory, refusal
from suite.shared.candidates import find
from suite.shared.process import Row, append_row


def rows(job: Job) -> Iterator[Row]:
    """Yield a row for each candidate that is refused, then those of the study about the others."""
    going = []
    for name in job.candidates:
        candidate = find(name.split(",")[0])  # what follows a comma names a variant
        if reason := refusal(candidate, job.case, job.torch_dtype, job.device):
            yield job.row("end", name, status=f"refused: {reason}")
        else:
            going.append(name)
    if going:
        yield from import_module(f"suite.measure.{job.table}").rows(replace(job, candidates=tuple(going)))


def main(told: Path, path: Path) -> None:
    """Do the job, and append each row once it is measured."""
    (job,), _ = processes.told(told)
    job.take_on()
    others = Others()
    try:
        for row in rows(job):
            append_row(path, row | {"taken_cores": others.taken(job.device)})
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        append_row(path, job.row("end", job.candidate, status="out of memory"))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
