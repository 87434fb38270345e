"""What tests of equality share: the comparisons of `--size`, and a fixture that compares and keeps a row."""

from functools import partial

import pytest
import torch

from impls.registry import find
from suite.checks.equality.catalogue import at_sizes
from suite.checks.equality.comparisons import Comparison
from suite.checks.equality.parametrised import Check, params
from suite.checks.recording import Keep, verify_row
from suite.comparison.draws import implementation
from suite.comparison.memory import most_bytes
from suite.results.outcomes import Verdict
from suite.shared.arithmetic import Arithmetic
from suite.shared.text import in_one_line


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test of `sized` what is compared at the sizes of `--size`."""
    if "sized" in metafunc.fixturenames:
        option = metafunc.config.option
        dtypes = [Arithmetic(name).dtype for name in option.dtype]
        compared = at_sizes(option.size, dtypes, most_bytes(option.device))
        metafunc.parametrize(("name", "sized"), params(compared))


@pytest.fixture
def check(device: torch.device, keep: Keep) -> Check:
    """Function that compares an implementation and keeps a row of the verification table."""

    def compare_and_record(name: str, comparison: Comparison) -> None:
        case = comparison.case
        row = partial(
            verify_row,
            name,
            comparison.dtype,
            comparison.id,
            oracle=comparison.oracle,
            interpreted=find(name).interpreted(device),
            forward_only=not any(use.gradient for use in comparison.uses),
            case=case,
        )
        reason = find(name).why_unavailable(device, comparison.dtype, case.options, case.sizes) or comparison.too_large
        if reason:
            keep("verify", row(Verdict.SKIPPED, reason=reason))
            pytest.skip(reason)
        try:
            worst = comparison.worst(implementation(name), device)
        except Exception as error:
            said = " ".join([in_one_line(error), *getattr(error, "__notes__", [])])
            keep("verify", row(Verdict.FAIL, reason=f"{type(error).__name__}: {said}"))
            raise
        keep("verify", row(worst))
        assert not worst.wrong, str(worst)

    return compare_and_record
