"""The comparison finds every planted fault, by the tensor that it damages."""

from collections.abc import Iterator

import pytest
import torch

from suite.checks.faults.faults import FAULTS, about, assert_rejected, caught, why_not_run
from suite.checks.faults.planting import Fault
from suite.checks.recording import Keep
from suite.results.outcomes import Verdict
from suite.shared.arithmetic import Arithmetic


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    """Undo what faults leave behind."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    Arithmetic.FLOAT32.use()


@pytest.mark.parametrize(
    "fault", [fault for fault in FAULTS if not fault.interpreted], ids=lambda fault: fault.name.replace(" ", "-")
)
def test_rejects_and_names_what_is_damaged(fault: Fault, keep: Keep) -> None:
    if reason := why_not_run(fault):
        keep("faults", about(fault) | {"verdict": Verdict.NOT_RUN})
        pytest.skip(reason)
    assert_rejected(fault, *caught(fault), keep)
