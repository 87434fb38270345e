"""How tests of equality are parametrised, and what the fixture `check` is."""

from collections.abc import Iterable
from typing import Protocol

import pytest

from impls.definition import dtype_name
from suite.checks.equality.comparison import Comparison, Group, Task
from suite.comparison.memory import Shortage
from suite.shared.marks import impl_param


class Check(Protocol):
    """Compares an implementation, by name, and keeps a row.

    shortage: of memory, for which it is not compared. asked_for: a person named the size.
    """

    def __call__(
        self, name: str, comparison: Comparison, shortage: Shortage | None = None, *, asked_for: bool = False
    ) -> None: ...


def every(tasks: Iterable[Task], *, left_out: str) -> pytest.MarkDecorator:
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
