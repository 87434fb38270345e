"""An edit before backward is told from other errors by what torch says of it; a copy of an oracle is right."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from impls import Impl, register
from impls.registry import ORACLE, find
from impls.tracing import is_of_an_edit
from suite.checks.equality.catalogue import DROPPED
from suite.checks.equality.changes import CHANGES
from suite.checks.equality.tasks import F64, WIDE_ORACLE, against_wide
from suite.comparison.draws import implementation


def exponential(edited: Tensor) -> Tensor:
    """What saves its result for backward."""
    return edited.exp_()


def product_of_views(edited: Tensor) -> Tensor:
    """What saves views of a tensor."""
    first, second = edited.unbind()
    return first * second


@pytest.mark.parametrize("function", [exponential, product_of_views])
def test_an_edit_of_what_is_saved_is_known(function: Callable[[Tensor], Tensor]) -> None:
    edited = torch.ones(2, 3, requires_grad=True).clone()
    result = function(edited)
    with torch.no_grad():
        edited.mul_(2)
    with pytest.raises(RuntimeError) as error:
        result.sum().backward()
    assert is_of_an_edit(error.value)


def test_another_error_is_none_of_an_edit() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.ones(2, requires_grad=True).backward()
    assert not is_of_an_edit(error.value)


@pytest.mark.usefixtures("_withdrawn")
@pytest.mark.parametrize("name", [ORACLE, WIDE_ORACLE])
def test_a_copy_of_an_oracle_is_right(name: str) -> None:
    """Though a call with that oracle before gives the same bits."""
    register(Impl("copy"), find(name).run)
    worst = against_wide(DROPPED, F64, CHANGES).worst(implementation("copy"), torch.device("cpu"))
    assert not worst.wrong, worst
