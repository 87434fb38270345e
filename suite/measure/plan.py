"""What is known of the benchmark's jobs beforehand: whether they run, their verification, and their earlier rows."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from suite.measure.jobs import Job
from suite.shared import arithmetic, provenance
from suite.shared.candidates import find
from suite.shared.format import ENVIRONMENT
from suite.shared.process import Row
from suite.shared.tables import TABLES, stamp

#: Statuses that mean that something went wrong.
WRONG = ("crashed", "failed", "refused", "time-out")


def plan(jobs: Sequence[Job], folder: Path, *, unverified: bool = False) -> list[Job]:
    """Jobs with what is known of each, from what can run here and from verify.csv in a machine's folder.

    unverified: run what verification calls red or stale too.
    """
    verify, planned = TABLES["verify"].read(folder), list[Job]()
    for job in jobs:
        status, rows = provenance.verification(verify, job.candidate, job.dtype, torch.__version__, job.cases)
        reason = arithmetic.why_not(job.dtype, job.device)
        reason = reason or find(job.candidate).why_unavailable(job.device, job.torch_dtype)
        instead = f"not run: {reason}" if reason else ""
        if not reason and status in ("red", "stale") and not unverified:
            instead = f"refused: verify.csv is {status} for {job.candidate} in {job.dtype}"
        planned.append(replace(job, verify=status, verify_rows=rows, instead=instead))
    return planned


def rows_of(job: Job, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that this job would replace."""
    return rows.merge(pd.DataFrame(job.rows(""))[list(TABLES["bench"].key)]) if len(rows) else rows


def same_code(rows: pd.DataFrame, device: torch.device) -> pd.DataFrame:
    """Rows that were measured with this code in this environment, on whichever day."""
    if rows.empty:
        return rows
    current = stamp(device, "")
    alike = [rows[name].astype(str) == str(current[name]) for name in ENVIRONMENT]
    same: pd.DataFrame = rows[np.logical_and.reduce(alike) & ~provenance.stale(rows)]
    return same


def earlier(jobs: Sequence[Job], rows: pd.DataFrame) -> dict[Job, list[Row]]:
    """Rows of each job that more visits can be added to, without those of a job of which one went wrong."""
    columns, by_job = list(TABLES["bench"].columns), dict[Job, list[Row]]()
    for job in jobs:
        of_job = rows_of(job, rows)
        if len(of_job) == len(job.rows("")) and not of_job["status"].str.startswith(WRONG).any():
            by_job[job] = [row.dropna().to_dict() for _, row in of_job.reindex(columns=columns).iterrows()]
    return by_job
