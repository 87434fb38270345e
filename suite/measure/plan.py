"""What is known of the benchmark's jobs beforehand: whether they run, their verification, their time."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from suite.measure.jobs import Job
from suite.shared import arithmetic, provenance
from suite.shared.candidates import find
from suite.shared.rows import PASSES, stamp, table

#: Statuses that mean that something went wrong. --resume does these again, as the machine may have been the reason, and
#: those that had no time.
WRONG, AGAIN = ("crashed", "failed", "refused"), ("crashed", "failed", "refused", "time-out")
#: Seconds of a process from its start to its first job, and of a job that has no row of an earlier run; the latter of
#: what compiles too.
START, ASSUMED, COMPILED = 10.0, 6.0, {"compiled": 40.0, "jax": 15.0}


@dataclass(frozen=True)
class Planned:
    """A job with what is known of it beforehand.

    instead: status of its rows if it does not run. seconds: about how long it takes with its first rounds.
    finished: its rows of this code and environment exist already, and are kept.
    """

    job: Job
    verification: provenance.Verification
    instead: str | None
    seconds: float
    finished: bool

    @property
    def runs(self) -> bool:
        """True if a process does it."""
        return self.instead is None and not self.finished

    @property
    def process(self) -> tuple[bool, str]:
        """Key of the process that does it; what torch.compile compiles has one per job, so that it starts cold."""
        candidate = find(self.job.candidate)
        if candidate.of_torch:
            return candidate.compiles_each_size, self.job.label if candidate.compiles_each_size else self.job.dtype
        return False, f"{self.job.dtype} {self.job.candidate}"  # its threads would compete with torch's


def plan(jobs: Sequence[Job], folder: Path, *, resume: bool = False, unverified: bool = False) -> list[Planned]:
    """What is known of each job, from what can run here and from the results in a machine's folder.

    resume: keep rows that exist. unverified: run what verification calls red or stale too.
    """
    verify, rows, found = table("verify").read(folder), table("bench").read(folder), []
    for job in jobs:
        verification = provenance.verification(verify, job.candidate, job.dtype, torch.__version__)
        reason = arithmetic.why_not(job.dtype, job.torch_device)
        reason = reason or find(job.candidate).why_unavailable(job.torch_device, job.torch_dtype)
        instead = f"not run: {reason}" if reason else None
        if not reason and verification.status in ("red", "stale") and not unverified:
            instead = f"refused: verify.csv is {verification.status} for {job.candidate} in {job.dtype}"
        earlier = rows_of(job, rows)
        seconds = earlier["job_s"].max() if "job_s" in earlier else float("nan")
        seconds = COMPILED.get(job.candidate, ASSUMED) if pd.isna(seconds) else seconds
        found.append(Planned(job, verification, instead, seconds, resume and _finished(job, earlier)))
    return found


def batches(todo: Sequence[Planned]) -> list[list[Planned]]:
    """What runs in each process: candidates of torch by dtype, then others by dtype, then each that starts cold."""
    found: dict[tuple[bool, str], list[Planned]] = {}
    for p in sorted((p for p in todo if p.runs), key=lambda p: p.process[0]):
        found.setdefault(p.process, []).append(p)
    return list(found.values())


def needed(left: Sequence[Sequence[Planned]]) -> float:
    """About how many seconds processes take with their first rounds."""
    return sum(START + sum(p.seconds for p in batch) for batch in left)


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
    """True if all rows of the job exist, of this code and environment, and none is to be done again."""
    if len(rows) < len(job.layer_norms) * len(PASSES):
        return False
    here = stamp(job.torch_device, job.candidate)
    same = all((rows[column].astype(str) == str(value)).all() for column, value in here.items() if column != "date")
    return same and not rows["status"].str.startswith(AGAIN).any()
