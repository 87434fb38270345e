"""The process of one job of a study: `python -m suite.measure.study_step JOB.json`."""

import sys
from importlib import import_module
from pathlib import Path

from suite.measure.jobs import Job
from suite.measure.work import is_out_of_memory
from suite.shared.process import append_row


def main(path: Path) -> None:
    """Do the job, and leave each row once it is measured."""
    job = Job.read(path)
    job.take_on()
    try:
        for row in import_module(f"suite.measure.{job.table}").rows(job):
            append_row(job.path, row)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        append_row(job.path, job.row("end", job.candidate, status="out of memory"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
