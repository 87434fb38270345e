"""What benchmark processes give pytest in place of `suite/conftest.py`, whose imports take a second."""

from pathlib import Path
from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the job."""
    parser.addoption("--job", type=Path, required=True, help="JSON file of one benchmark job, see suite/shared/jobs.py")


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Keep the host's name out of the raw results."""
    machine_info.pop("node", None)
