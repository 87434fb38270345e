"""What tests of equality share: their parameters, a fixture that compares and keeps a row, and draws."""

from collections.abc import Iterable
from functools import partial
from typing import Protocol

import pytest
import torch

from impls import why_unavailable
from impls.definition import dtype_name
from impls.registry import find
from suite.cases.case import Case
from suite.checks.equality.at_size import at_sizes
from suite.checks.equality.comparison import Comparison, Group, Task
from suite.checks.implementations import skip_unless_checked
from suite.checks.recording import Record
from suite.comparison.draws import Draw, draw, implementation
from suite.comparison.memory import Shortage, memory_of
from suite.results.outcomes import CaseOutcome
from suite.shared.arithmetic import Arithmetic
from suite.shared.marks import impl_param


class Check(Protocol):
    """Compares an implementation, by name, and keeps a row.

    shortage: of memory, for which it is not compared. asked_for: a person named the size.
    """

    def __call__(
        self, name: str, comparison: Comparison, shortage: Shortage | None = None, *, asked_for: bool = False
    ) -> None: ...


def every(tasks: Iterable[Task], *, left_out: str = "nothing") -> pytest.MarkDecorator:
    """Parametrisation by implementation and comparison; left_out: what a default run leaves out.

    Uses that save less have memory of their own, so their comparisons are marked for the address sanitizer.
    """
    values = []
    for task in tasks:
        comparison = task.comparison
        marks = [] if comparison.default else [pytest.mark.thorough(left_out)]
        if saves_less(comparison.group):
            marks.append(pytest.mark.address_sanitizer)
        values.append(impl_param(task.name, comparison, marks=marks, id=id_of(task)))
    return pytest.mark.parametrize(("name", "comparison"), values)


def saves_less(group: Group) -> bool:
    """True if some use saves no residuals: it has no gradient, or its backward pass computes them again."""
    return group.forward_only or not all(use.residuals for use in group.uses)


def id_of(task: Task) -> str:
    """Name of a comparison of an implementation, for people."""
    return f"{task.name}-{task.comparison.id}-{dtype_name(task.comparison.dtype)}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give `sized` what is compared at the sizes of `--size`."""
    if "sized" not in metafunc.fixturenames:
        return
    config = metafunc.config
    tasks: list[Task] = []
    sizes = config.getoption("--size")
    if sizes:
        dtypes = [Arithmetic(name).dtype for name in config.getoption("--dtype")]
        tasks = at_sizes(sizes, dtypes, memory_of(config.getoption("--device")))
    params = []
    for task in tasks:
        mark = pytest.mark.impl(name=task.name)
        params.append(pytest.param(task, marks=mark, id=id_of(task)))
    metafunc.parametrize("sized", params)


@pytest.fixture
def check(device: torch.device, record: Record) -> Check:
    """Function that compares an implementation, by name, and keeps a row of the verification table."""

    def compare_and_record(
        name: str, comparison: Comparison, shortage: Shortage | None = None, *, asked_for: bool = False
    ) -> None:
        group = comparison.group
        keep_row = partial(
            record,
            name,
            comparison.dtype,
            comparison.id,
            oracle=comparison.oracle.name,
            interpreted=find(name).interpreted(device),
            forward_only=group.forward_only,
            asked_for=asked_for,
            defined=group.defined,
            case=comparison.case,
        )
        reason = why_unavailable(name, device, comparison.dtype, comparison.case.options)
        if reason is None and shortage is not None:
            reason = str(shortage)
        if reason is not None:
            keep_row(CaseOutcome.SKIPPED, reason=reason)
            pytest.skip(reason)
        try:
            worst = comparison.worst(implementation(name), device)
        except Exception as error:
            keep_row(CaseOutcome.FAIL, reason=f"{type(error).__name__}: {' '.join(str(error).split())}")
            raise
        keep_row(worst)
        assert not worst.wrong, str(worst)

    return compare_and_record


def sample_or_skip(name: str, dtype: torch.dtype, case: Case, device: torch.device) -> Draw:
    """A draw of a case; skips a test of an implementation that does not run here."""
    skip_unless_checked(name, device, dtype)
    return draw(case, 1, dtype, device)
