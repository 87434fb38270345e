"""Other HyperLSTM codes that are this definition with other parameters (README, Dialects)."""

import random

import pytest
import torch
from torch import Tensor

from impls import HyperLSTM
from suite.checks.equality.properties import Params, call, rewritten
from suite.checks.faults.faults import Edit, Edited, edits
from suite.shared.cases import Case
from suite.shared.compare import compare
from suite.shared.oracle import Output, State

CASE = Case(T=7, B=3, I=5, H=8, S=6, Z=3, L=2, layer_norm=True, state="stacked")
CPU = torch.device("cpu")

#: Edits that turn `row_scaled` into the dialect.
I_G_F_O = edits(
    "row_scaled",
    *("y_i, y_f, y_g, y_o = y", "y_i, y_g, y_f, y_o = y"),
    *("a_i, a_f, a_g, a_o = (", "a_i, a_g, a_f, a_o = ("),
)
ONE_ADDED_AFTER_THE_NORM = edits(
    "row_scaled",
    *("torch.sigmoid(y_f)", "torch.sigmoid(y_f + 1)"),
    *("torch.sigmoid(a_f)", "torch.sigmoid(a_f + 1)"),
)
ONE_ADDED_BEFORE_THE_NORM = edits(
    "row_scaled",
    *("+ p.bias[k]", "+ p.bias[k] + (k == 1)"),
    *("+ p.hyper_bias[k]", "+ p.hyper_bias[k] + (k == 1)"),
)


def for_supercell(params: Params) -> Params:
    """Parameters with gates in the order i, g, f, o, and 1 less in the bias of f's norms."""

    def reordered(name: str, p: Tensor) -> Tensor:
        kind = name.rsplit(".", 1)[1]
        if "norm_c" in kind:
            return p
        p = p.index_select(int(kind in ("z_weight", "z_bias", "d_weight")), torch.tensor([0, 2, 1, 3]))
        if kind in ("norm_bias", "hyper_norm_bias"):
            p = p - torch.tensor([0, 0, 1, 0]).unsqueeze(1)
        return p

    return {name: reordered(name, p) for name, p in params.items()}


def with_parameters_of_supercell(
    model: HyperLSTM, params: Params, x: Tensor, state: State | None, chance: random.Random
) -> Output:
    return call(model, for_supercell(params), x, state)


def test_supercell_and_magenta_are_a_change_of_parameters() -> None:
    """Under both edits and the changed parameters, output, states and every gradient are the definition's."""
    dialect = Edited("supercell's order and forget bias", "dialect", I_G_F_O + ONE_ADDED_AFTER_THE_NORM, "row_scaled")
    with dialect.planted() as build:
        worst = compare(rewritten(build, with_parameters_of_supercell), CASE, torch.float64, CPU)[0]
        unchanged = compare(build, CASE, torch.float64, CPU)[0]
    assert worst.ratio <= 1 < unchanged.ratio, worst


def test_a_forget_bias_before_the_norm_cancels() -> None:
    """As in jihunchoi's code: the norm removes a constant that is added to every unit."""
    dialect = Edited("jihunchoi's forget bias", "dialect", ONE_ADDED_BEFORE_THE_NORM, "row_scaled")
    with dialect.planted() as build:
        worst = compare(build, CASE, torch.float64, CPU)[0]
    assert worst.ratio <= 1, worst


@pytest.mark.parametrize("changed", [I_G_F_O, ONE_ADDED_AFTER_THE_NORM], ids=["order", "forget-bias"])
def test_either_alone_is_another_function(changed: tuple[Edit, ...]) -> None:
    with Edited("half of supercell", "dialect", changed, "row_scaled").planted() as build:
        worst = compare(rewritten(build, with_parameters_of_supercell), CASE, torch.float64, CPU)[0]
    assert worst.ratio > 1
