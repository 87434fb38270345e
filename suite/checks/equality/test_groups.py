"""A use says whether it has a gradient."""

import pytest
import torch

from impls.definition import LayerParams
from suite.checks.equality.catalogue import GROUPS
from suite.checks.equality.layouts import AT_ONCE
from suite.checks.equality.pairs import COMBINATIONS
from suite.checks.equality.use import Use
from suite.comparison.tensors import OUTPUTS, STATE, Argument, Gradient, Kind, X

#: Uses of all groups, and the parameters that pairs select among.
USES = [use for group in (*GROUPS, AT_ONCE, *(pair.group for pair in COMBINATIONS)) for use in group.uses]
PARAMETERS = [Argument(Kind.PARAMETER, name=name) for name in LayerParams._fields]


@pytest.mark.parametrize("use", USES, ids=lambda use: use.name)
def test_a_use_says_whether_it_has_a_gradient(use: Use) -> None:
    """By what it expects; rows say by this whether only the forward pass was compared."""
    expected = use.expected(dict.fromkeys((*OUTPUTS, *map(Gradient, (X, *STATE, *PARAMETERS))), torch.zeros(())))
    assert any(isinstance(result, Gradient) for result in expected) == use.gradient
