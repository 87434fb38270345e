"""Jobs, for tests."""

from dataclasses import replace
from typing import Any

from suite.measure.job import Job
from suite.shared.examples import CPU, TINY


def job(candidate: str = "batched", **changes: Any) -> Job:
    """Job of the benchmark on a tiny case, with layer norm off."""
    return replace(Job("bench", (candidate,), TINY, "float32", CPU, (False,)), **changes)
