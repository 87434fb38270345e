"""How tests of equality are parametrised, and what the fixture `check` is."""

from collections.abc import Collection, Iterable
from typing import Protocol

import pytest

from impls.definition import dtype_name
from suite.checks.equality.tasks import Group, Task
from suite.shared.marks import implementation_mark


class Check(Protocol):
    """Makes a comparison of an implementation, and keeps a row."""

    def __call__(self, task: Task) -> None: ...


def every(tasks: Iterable[Task], *, left_out: str) -> pytest.MarkDecorator:
    """Parametrisation by `task`; left_out: what a default run leaves out, for people.

    Uses that save less have memory of their own, so their comparisons are marked for the address sanitizer.
    """
    values = []
    for task in tasks:
        marks = [] if task.comparison.default else [pytest.mark.thorough(left_out)]
        if saves_less(task.comparison.group):
            marks.append(pytest.mark.address_sanitizer)
        values.append(param_of(task, marks))
    return pytest.mark.parametrize("task", values)


def param_of(task: Task, marks: Collection[pytest.MarkDecorator] = ()) -> object:
    """The task as the parameter of a test."""
    return pytest.param(task, marks=[implementation_mark(task.name), *marks], id=id_of(task))


def saves_less(group: Group) -> bool:
    """True if some use saves no residuals: it has no gradient, or its backward pass computes them again."""
    return not all(use.gradient and use.residuals for use in group.uses)


def id_of(task: Task) -> str:
    """Name of a comparison of an implementation, for people."""
    return f"{task.name}-{task.comparison.id}-{dtype_name(task.comparison.dtype)}"
