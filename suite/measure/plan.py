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

#: What counts as gone wrong. A run that goes on from another does these again, since it may have been the machine's
#: fault, and what had no time.
WRONG, AGAIN = ("crashed", "failed", "refused"), ("crashed", "failed", "refused", "time-out")


@dataclass(frozen=True)
class Planned:
    """A job with what is known of it beforehand.

    instead: the status of its rows if it does not run. seconds: what it takes with its first rounds, by prediction.
    finished: its rows of this code and environment are there already, and stay.
    """

    job: Job
    verification: provenance.Verification
    instead: str | None
    seconds: float
    finished: bool

    @property
    def runs(self) -> bool:
        """Whether it takes a process."""
        return self.instead is None and not self.finished

    @property
    def alone(self) -> bool:
        """Whether it has a process of its own, so that what torch.compile does is cold."""
        candidate = find(self.job.candidate)
        return candidate.compiles_each_size and candidate.of_torch

    @property
    def process(self) -> str:
        """Name of the process that it shares: what torch does not compute shares none with other candidates."""
        shared = self.job.dtype if find(self.job.candidate).of_torch else f"{self.job.dtype} {self.job.candidate}"
        return self.job.label if self.alone else shared


def plan(jobs: Sequence[Job], folder: Path, *, resume: bool = False, unverified: bool = False) -> list[Planned]:
    """What is known of each job, from what can run here and from the results in a machine's folder.

    resume: keep rows that are there. unverified: run what verification calls red or stale too.
    """
    verify, rows = table("verify").read(folder), table("bench").read(folder)
    earlier, found = cost.known(rows), []
    for job in jobs:
        verification = provenance.verification(verify, job.candidate, job.dtype, torch.__version__)
        reason = arithmetic.why_not(job.dtype, job.torch_device)
        reason = reason or find(job.candidate).why_unavailable(job.torch_device, job.torch_dtype)
        instead = f"not run: {reason}" if reason else None
        if not reason and verification.refusal and not unverified:
            instead = f"refused: {verification.refusal}"
        finished = resume and _finished(job, rows_of(job, rows))
        found.append(Planned(job, verification, instead, cost.seconds(job, earlier), finished))
    return found


def batches(todo: Sequence[Planned]) -> list[list[Planned]]:
    """What runs in each process: what torch computes in a dtype, then what it does not, and each that is alone."""
    found: dict[str, list[Planned]] = {}
    for p in sorted((p for p in todo if p.runs), key=lambda p: p.alone):
        found.setdefault(p.process, []).append(p)
    return list(found.values())


def first_rounds(batch: Sequence[Planned]) -> float:
    """Seconds of a process with its first rounds."""
    return cost.START[batch[0].job.torch_device.type] + sum(p.seconds for p in batch)


def part(left: Sequence[Sequence[Planned]], seconds: float) -> float:
    """Seconds of the first of the processes that are left, which have so many together.

    It has what its first rounds take, and an even part of what the first rounds of none take.
    """
    needed, shared = list(map(first_rounds, left)), [not batch[0].alone for batch in left]
    further = max(0.0, seconds - sum(needed)) * sum(shared[1:]) / max(1, sum(shared))
    return max(0.0, min(seconds, max(needed[0], seconds - sum(needed[1:]) - further)))


def rows_of(job: Job, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that this job would replace."""
    if rows.empty:
        return rows
    case = job.case
    about = {"workload": case.name, "T": case.T, "B": case.B, "implementation": job.candidate, "dtype": job.dtype}
    norms = ["on" if norm else "off" for norm in job.layer_norms]
    found: pd.DataFrame = rows[(rows[list(about)] == pd.Series(about)).all(axis=1) & rows["layer_norm"].isin(norms)]
    return found


def _finished(job: Job, rows: pd.DataFrame) -> bool:
    """True if all rows of the job are there, of this code and environment, and none is to be done again."""
    if len(rows) < len(job.layer_norms) * len(PASSES):
        return False
    here = stamp(job.torch_device, job.candidate)
    same = all((rows[column].astype(str) == str(value)).all() for column, value in here.items() if column != "date")
    return same and not rows["status"].str.startswith(AGAIN).any()
