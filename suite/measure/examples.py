"""Jobs, for tests."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from suite.measure.jobs import Job
from suite.shared.examples import TINY


def job(folder: Path, candidate: str = "batched", **changes: Any) -> Job:
    """Return a job of the benchmark on a tiny case, with layer norm off."""
    made = Job("bench", candidate, (candidate,), TINY, "float32", "cpu", (False,), path=folder / "rows.jsonl")
    return replace(made, **changes)
