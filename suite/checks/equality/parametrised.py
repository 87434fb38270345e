"""How tests of equality are parametrised, and what the fixture `check` is."""

from collections.abc import Callable, Iterable

import pytest

from impls.definition import dtype_name
from suite.checks.equality.comparisons import Comparison
from suite.shared.marks import impl_param

#: Makes a comparison of an implementation, unless there is a reason not to, and keeps a row.
Check = Callable[[str, Comparison], None]


def every(compared: Iterable[tuple[str, Comparison]], *, left_out: str) -> pytest.MarkDecorator:
    """Parametrisation by `name` and `comparison`; left_out: what a default run leaves out, for people."""
    return pytest.mark.parametrize(("name", "comparison"), params(compared, left_out))


def params(compared: Iterable[tuple[str, Comparison]], left_out: str = "") -> list[object]:
    """Comparisons as parameters of a test.

    Uses that save less have memory of their own, so their comparisons are marked for the address sanitizer.
    """
    values = []
    for name, comparison in compared:
        marks = [] if comparison.default else [pytest.mark.thorough(left_out)]
        if not all(use.gradient and use.residuals for use in comparison.uses):
            marks.append(pytest.mark.address_sanitizer)
        name_in_tests = f"{name}-{comparison.id}-{dtype_name(comparison.dtype)}"
        values.append(impl_param(name, comparison, id=name_in_tests, marks=marks))
    return values
