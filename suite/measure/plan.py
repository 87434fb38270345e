"""What is known of the benchmark's jobs beforehand: whether they run, their verification, their time."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from suite.measure import cost
from suite.measure.jobs import Job
from suite.shared import arithmetic, provenance
from suite.shared.candidates import find
from suite.shared.rows import PASSES, TABLES, stamp

#: Statuses that mean that something went wrong. --resume does these again, as the machine may have been the reason, and
#: those that had no time.
WRONG, AGAIN = ("crashed", "failed", "refused"), ("crashed", "failed", "refused", "time-out")


@dataclass(frozen=True)
class Planned:
    """A job with what is known of it beforehand.

    instead: status of its rows if it does not run. seconds: predicted, with its first rounds.
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
    def process(self) -> tuple[int, str]:
        """Place in the order of processes and name of the one that does it; `batches` has the order."""
        candidate = find(self.job.candidate)
        if not candidate.of_torch:
            return 1, f"{self.job.dtype} {self.job.candidate}"  # its threads would compete with torch's
        return (0, self.job.label) if candidate.compiles_each_size else (2, self.job.dtype)


def plan(jobs: Sequence[Job], folder: Path, *, resume: bool = False, unverified: bool = False) -> list[Planned]:
    """What is known of each job, from what can run here and from the results in a machine's folder.

    resume: keep rows that exist. unverified: run what verification calls red or stale too.
    """
    verify, rows, found = TABLES["verify"].read(folder), TABLES["bench"].read(folder), list[Planned]()
    earlier = cost.known(rows)
    for job in jobs:
        verification = provenance.verification(verify, job.candidate, job.dtype, torch.__version__)
        reason = arithmetic.why_not(job.dtype, job.device)
        reason = reason or find(job.candidate).why_unavailable(job.device, job.torch_dtype)
        instead = f"not run: {reason}" if reason else None
        if not reason and verification.status in ("red", "stale") and not unverified:
            instead = f"refused: verify.csv is {verification.status} for {job.candidate} in {job.dtype}"
        finished = resume and _finished(job, rows_of(job, rows))
        found.append(Planned(job, verification, instead, cost.seconds(job, earlier), finished))
    return found


def batches(todo: Sequence[Planned]) -> list[list[Planned]]:
    """What runs in each process: first each job that torch.compile starts cold, then JAX, then torch by dtype.

    So what those before take too long shortens only the extra rounds of the last.
    """
    found: dict[tuple[int, str], list[Planned]] = {}
    for p in sorted((p for p in todo if p.runs), key=lambda p: p.process[0]):
        found.setdefault(p.process, []).append(p)
    return list(found.values())


def first_rounds(batch: Sequence[Planned]) -> float:
    """Predicted seconds of a process with its first rounds."""
    return cost.START[batch[0].job.device.type] + sum(p.seconds for p in batch)


def part(left: Sequence[Sequence[Planned]], seconds: float, latest: float) -> tuple[float, float]:
    """Seconds after which the next process ends its first rounds, and all its rounds.

    First rounds may take what no other process needs, or half as much again as predicted; the others get a share of it.
    left: the processes to come. seconds: of all of them. latest: seconds after which first rounds end, too.
    """
    first, *others = map(first_rounds, left)
    spare = max(0.0, seconds - first - sum(others))
    more = first + spare * first / (first + sum(others))
    return min(latest, first + max(spare, first / 2)), min(seconds, more)


def rows_of(job: Job, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that this job would replace."""
    return rows.merge(pd.DataFrame(job.rows(""))[list(TABLES["bench"].key)]) if len(rows) else rows


def _finished(job: Job, rows: pd.DataFrame) -> bool:
    """True if all rows of the job exist, of this code and environment, and none is to be done again."""
    if len(rows) < len(job.layer_norms) * len(PASSES):
        return False
    here = stamp(job.device, job.candidate)
    same = all((rows[column].astype(str) == str(value)).all() for column, value in here.items() if column != "date")
    return same and not rows["status"].str.startswith(AGAIN).any()
