"""A run of the benchmark that times implementations in files outside the project, `--impl`, beside what there is."""

import argparse
from pathlib import Path

from suite.measure.choice import fastest
from suite.shared import provenance, submission
from suite.shared.cases import BASELINE
from suite.shared.files import RESULTS, write_whole
from suite.shared.tables import TABLES

#: Minutes that a run may take.
MINUTES = 2.0
#: By kind of device, the alternatives that were the fastest so far; none was timed on a GPU yet.
ALTERNATIVES = {"cpu": ("jax",), "cuda": ("jax", "compiled")}


def registered(options: argparse.Namespace) -> argparse.Namespace:
    """Register the files' implementations, and return options to time them; SubmissionError says what is wrong."""
    files = [path.resolve() for path in options.impl]
    submission.try_all(files, options.device)
    dtypes = options.dtype or ["float32"]
    ours = {fastest(options.device, dtype): None for dtype in dtypes}
    names = [*(submission.load(file).name for file in files), BASELINE, *filter(None, ours)]
    defaults = {
        "implementation": options.implementation or [*names, *ALTERNATIVES[options.device.type]],
        "dtype": dtypes,
        "minutes": MINUTES if options.minutes is None else options.minutes,
        "results": submission.results_of(files[0]) if options.results == RESULTS else options.results,
    }
    return argparse.Namespace(**vars(options) | defaults)


def keep_previous(folder: Path) -> str:
    """Copy the benchmark in a folder if it timed other code of a file; return how to compare the two, or ""."""
    rows, previous = TABLES["bench"].read(folder), folder / "previous"
    own = rows[rows["implementation"].isin(list(submission.files()))] if len(rows) else rows
    if own.empty or not provenance.stale(own).any():
        return ""
    write_whole(previous / "bench.csv", (folder / "bench.csv").read_text(encoding="utf-8"))
    return f"Compare with the code before: nox -s compare -- {previous} {folder}"
