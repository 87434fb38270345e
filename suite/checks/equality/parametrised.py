"""How tests of equality are parametrised, and what the fixture `check` is."""

from collections.abc import Collection, Iterable
from typing import Any, Protocol

import pytest

from impls.definition import dtype_name
from suite.checks.equality.tasks import Comparison
from suite.shared.marks import impl_param

#: An implementation, by its name, and a comparison of it.
Compared = tuple[str, Comparison]


class Check(Protocol):
    """Makes a comparison of an implementation, unless there is a reason not to, and keeps a row."""

    def __call__(self, name: str, comparison: Comparison, reason: str = "") -> None: ...


def every(compared: Iterable[Compared], *, left_out: str) -> pytest.MarkDecorator:
    """Parametrisation by `name` and `comparison`; left_out: what a default run leaves out, for people.

    Uses that save less have memory of their own, so their comparisons are marked for the address sanitizer.
    """
    values = []
    for name, comparison in compared:
        marks = [] if comparison.default else [pytest.mark.thorough(left_out)]
        if not all(use.gradient and use.residuals for use in comparison.group.uses):
            marks.append(pytest.mark.address_sanitizer)
        values.append(param_of(name, comparison, marks=marks))
    return pytest.mark.parametrize(("name", "comparison"), values)


def param_of(name: str, *values: Any, marks: Collection[pytest.MarkDecorator] = ()) -> object:
    """A comparison, the first of the values, as parameters of a test."""
    comparison: Comparison = values[0]
    return impl_param(name, *values, id=f"{name}-{comparison.id}-{dtype_name(comparison.dtype)}", marks=marks)
