"""A group of uses says which module defines it, on whose file its rows depend."""

import importlib

import pytest

from suite.checks.equality.catalogue import GROUPS
from suite.checks.equality.layouts import AT_ONCE
from suite.checks.equality.pairs import COMBINATIONS, OF_A_LAYER
from suite.checks.equality.tasks import Group
from suite.results.use_modules import UseModule
from suite.shared.files import ROOT


@pytest.mark.parametrize("group", [*GROUPS, AT_ONCE], ids=lambda group: group.name)
def test_a_group_says_which_module_defines_it(group: Group) -> None:
    assert group.defined is not None
    module = importlib.import_module(f"suite.checks.equality.{group.defined}")
    assert any(value is group for value in vars(module).values())


def test_pairs_say_that_their_module_defines_them() -> None:
    assert {pair.group.defined for pair in (*COMBINATIONS, *OF_A_LAYER)} == {UseModule.PAIRS}


@pytest.mark.parametrize("defined", UseModule)
def test_every_module_of_uses_has_a_file(defined: UseModule) -> None:
    assert [file for file in defined.files if not (ROOT / file).is_file()] == []
