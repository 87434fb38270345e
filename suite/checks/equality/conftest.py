"""What tests of equality share: the comparisons of `--size`, and a fixture that compares and keeps a row."""

from functools import partial

import pytest
import torch

from impls.registry import find
from suite.checks.equality.at_size import at_sizes
from suite.checks.equality.parametrised import Check, param_of
from suite.checks.equality.tasks import Comparison
from suite.checks.recording import Record
from suite.comparison.draws import implementation
from suite.comparison.memory import memory_of
from suite.results.outcomes import Verdict
from suite.shared.arithmetic import Arithmetic
from suite.shared.text import in_one_line


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test of `sized` what is compared at the sizes of `--size`, and why it is not."""
    if "sized" not in metafunc.fixturenames:
        return
    config = metafunc.config
    values = []
    if sizes := config.getoption("--size"):
        dtypes = [Arithmetic(name).dtype for name in config.getoption("--dtype")]
        for name, comparison, reason in at_sizes(sizes, dtypes, memory_of(config.getoption("--device"))):
            values.append(param_of(name, comparison, reason))
    metafunc.parametrize(("name", "sized", "reason"), values)


@pytest.fixture
def check(device: torch.device, record: Record) -> Check:
    """Function that compares an implementation and keeps a row of the verification table."""

    def compare_and_record(name: str, comparison: Comparison, reason: str = "") -> None:
        keep_row = partial(
            record,
            name,
            comparison.dtype,
            comparison.id,
            oracle=comparison.oracle.name,
            interpreted=find(name).interpreted(device),
            forward_only=comparison.group.forward_only,
            case=comparison.case,
        )
        case = comparison.case
        reason = find(name).why_unavailable(device, comparison.dtype, case.options, case.sizes) or reason
        if reason:
            keep_row(Verdict.SKIPPED, reason=reason)
            pytest.skip(reason)
        try:
            worst = comparison.worst(implementation(name), device)
        except Exception as error:
            said = " ".join([in_one_line(error), *getattr(error, "__notes__", [])])
            keep_row(Verdict.FAIL, reason=f"{type(error).__name__}: {said}")
            raise
        keep_row(worst)
        assert not worst.wrong, str(worst)

    return compare_and_record
