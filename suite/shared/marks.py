"""The mark of tests of an implementation, by which `--impl` and `-m` choose them."""

from collections.abc import Collection, Iterable

import pytest


def implementation_mark(name: str) -> pytest.MarkDecorator:
    """The mark of tests of an implementation."""
    return pytest.mark.impl(name=name)


def impl_param(
    name: str,
    *values: object,
    marks: Collection[pytest.MarkDecorator] = (),
    id: str | None = None,  # noqa: A002, as pytest.param calls it
) -> object:
    """Parameters of a test of an implementation, whose name is the first of them.

    It is marked for `--impl` and for `-m "impl(name='batched')"`. marks, id: as of pytest.param.
    """
    return pytest.param(name, *values, marks=[implementation_mark(name), *marks], id=id)


def impl_params(implementations: Iterable[str]) -> list[object]:
    """Parameters of a test whose one parameter is the name of an implementation."""
    return [impl_param(name) for name in implementations]
