"""What a process of a study does: one job, `python -m suite.measure.study_step TOLD ROWS`, see `processes.py`."""

import pickle
import sys
from importlib import import_module
from pathlib import Path

from suite.measure.jobs import Job
from suite.measure.load import Others
from suite.measure.work import is_out_of_memory
from suite.shared.process import append_row


def main(told: Path, rows: Path) -> None:
    """Do the job, and append each row once it is measured."""
    job: Job = pickle.loads(told.read_bytes())
    job.take_on()
    others = Others()
    try:
        for row in import_module(f"suite.measure.{job.table}").rows(job):
            append_row(rows, row | {"taken_cores": others.taken(job.torch_device)})
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        append_row(rows, job.row("end", job.candidate, status="out of memory"))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
