"""The processes of the benchmark: one a job, and another for the cases that one left undone."""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

from suite.measure import jobs
from suite.measure.jobs import Job
from suite.shared.files import ROOT
from suite.shared.process import Row

_PYTEST = (
    str(ROOT / "suite" / "measure" / "bench_step.py"),
    *("--noconftest", "-p", "suite.measure.plugin", "-o", "python_functions=bench_*"),
    *("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:xdist"),
    *("--benchmark-disable-gc", "--benchmark-timer", "suite.measure.stopwatch.measured"),
)
#: pytest-benchmark measures nothing where this tells that several processes share the tests.
_WORKER: dict[str, str | None] = {"PYTEST_XDIST_WORKER": None}


def run(job: Job, raw: Path, log: Path) -> list[Row]:
    """Do a job in a process of its own and return its rows, one a case and pass; what did not end is labelled why.

    A process that ended before its time takes no later case with it: another does those. What torch.compile makes is
    made anew in each, so that its first call says what it takes.
    raw: where pytest-benchmark's own JSON goes. log: where the process's output goes.
    """
    started, rows, remaining = time.monotonic(), list[Row](), job.layer_norms
    while remaining:
        part = replace(job, layer_norms=remaining)
        again = "" if remaining == job.layer_norms else "-again"
        to = str(raw.with_stem(f"{raw.stem}{again}"))
        with tempfile.TemporaryDirectory() as fresh:
            environment = _WORKER | {"TORCHINDUCTOR_CACHE_DIR": fresh}
            arguments = (*_PYTEST, "--benchmark-json", to, "--job")
            found, ended = jobs.run(part, "pytest", *arguments, log=log, environment=environment)
        measured = {(row["layer_norm"], row["pass"]): row for row in found}
        for case in part.cases:
            label = "failed: no row" if ended == "ok" else ended
            places = {(row["layer_norm"], row["pass"]): row for row in part.rows([case], label)}
            rows += [measured.get(place, row) for place, row in places.items()]
            remaining = remaining[1:]
            if not measured.keys() >= places.keys():
                break
    seconds = round(time.monotonic() - started, 1)
    return [row | {"job_s": seconds} for row in rows]
