"""What is known of a benchmark's jobs beforehand: whether they can run, what they rest on, how long they take."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from suite.measure import cost
from suite.measure.jobs import Job
from suite.shared import arithmetic, provenance
from suite.shared.candidates import find
from suite.shared.rows import PASSES, stamp, table

#: What counts as gone wrong. A run that goes on from another does these again: it may have been the machine's fault.
WRONG = ("crashed", "failed", "refused")


@dataclass(frozen=True)
class Planned:
    """A job with what is known of it beforehand.

    instead: the label of its rows if it does not run. seconds: what it took in an earlier run, if there was one, else
        on a GPU as predicted. finished: its rows of this code and environment are there already, and are to be kept.
    """

    job: Job
    verification: provenance.Verification
    instead: str | None
    seconds: float | None
    finished: bool
    predicted: bool = False

    @property
    def runs(self) -> bool:
        """Whether it takes a process."""
        return self.instead is None and not self.finished


def plan(jobs: Sequence[Job], folder: Path, *, resume: bool = False, unverified: bool = False) -> list[Planned]:
    """Return what is known of each job, from what can run here and from the results in a machine's folder.

    resume: keep rows that are there. unverified: run what verification calls red or stale too.
    """
    verify = table("verify").read(folder)
    rows = table("bench").read(folder)
    found = []
    for job in jobs:
        verification = provenance.verification(verify, job.candidate, job.dtype, torch.__version__)
        reason = arithmetic.why_not(job.dtype, job.torch_device)
        reason = reason or find(job.candidate).why_unavailable(job.torch_device, job.torch_dtype)
        instead = f"not run: {reason}" if reason else None
        if not reason and verification.refusal and not unverified:
            instead = f"refused: {verification.refusal}"
        took = rows_of(job, rows).get("job_s", pd.Series(dtype=float)).max()
        finished = resume and _finished(job, rows_of(job, rows))
        predicted = bool(pd.isna(took)) and job.torch_device.type == "cuda"
        seconds = cost.seconds(job) if predicted else None if pd.isna(took) else float(took)
        found.append(Planned(job, verification, instead, seconds, finished, predicted))
    return found


def rows_of(job: Job, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that this job would replace."""
    if rows.empty:
        return rows
    case = job.case
    about = {"workload": case.name, "T": case.T, "B": case.B, "implementation": job.candidate, "dtype": job.dtype}
    norms = ["on" if norm else "off" for norm in job.layer_norms]
    found: pd.DataFrame = rows[(rows[list(about)] == pd.Series(about)).all(axis=1) & rows["layer_norm"].isin(norms)]
    return found


def _finished(job: Job, rows: pd.DataFrame) -> bool:
    """Return whether all rows of the job are there, of this code and environment, and none went wrong."""
    if len(rows) < len(job.layer_norms) * len(PASSES):
        return False
    here = stamp(job.torch_device, job.candidate)
    same = all((rows[column].astype(str) == str(value)).all() for column, value in here.items() if column != "date")
    return same and not rows["status"].str.startswith(WRONG).any()
