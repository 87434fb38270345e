"""A group of uses says which module defines it, on whose file its rows depend."""

import importlib

import pytest
import torch

from impls.definition import LayerParams
from suite.checks.equality.catalogue import GROUPS
from suite.checks.equality.layouts import AT_ONCE
from suite.checks.equality.pairs import COMBINATIONS, OF_A_LAYER
from suite.checks.equality.tasks import Group
from suite.checks.equality.use import Use
from suite.comparison.tensors import OUTPUTS, STATE, Argument, Gradient, Kind, X
from suite.results.use_modules import UseModule
from suite.shared.files import ROOT

#: Uses of all groups, and the parameters that pairs select among.
USES = [use for group in (*GROUPS, AT_ONCE, *(pair.group for pair in COMBINATIONS)) for use in group.uses]
PARAMETERS = [Argument(Kind.PARAMETER, name=name) for name in LayerParams._fields]


@pytest.mark.parametrize("group", [*GROUPS, AT_ONCE], ids=lambda group: group.name)
def test_a_group_says_which_module_defines_it(group: Group) -> None:
    assert group.defined is not None
    module = importlib.import_module(f"suite.checks.equality.{group.defined}")
    assert any(value is group for value in vars(module).values())


def test_pairs_say_that_their_module_defines_them() -> None:
    assert {pair.group.defined for pair in (*COMBINATIONS, *OF_A_LAYER)} == {UseModule.PAIRS}


@pytest.mark.parametrize("use", USES, ids=lambda use: use.name)
def test_a_use_says_whether_it_has_a_gradient(use: Use) -> None:
    """By what it expects; rows say by this whether only the forward pass was compared."""
    expected = use.expected(dict.fromkeys((*OUTPUTS, *map(Gradient, (X, *STATE, *PARAMETERS))), torch.zeros(())))
    assert any(isinstance(result, Gradient) for result in expected) == use.gradient


@pytest.mark.parametrize("defined", UseModule)
def test_every_module_of_uses_has_a_file(defined: UseModule) -> None:
    assert [file for file in defined.files if not (ROOT / file).is_file()] == []
