"""Other HyperLSTM codes that are this definition with other parameters (README, Dialects)."""

from typing import Any

import pytest
import torch
from torch import Tensor

from impls import HyperLSTM
from impls.definition import EPS, Role
from suite.cases.case import Case, Start
from suite.checks.faults.planting import Edited, edits
from suite.comparison.draws import Build
from suite.comparison.tensors import parameter
from suite.comparison.tolerance import compare
from suite.package.documents import CHECKS, table
from suite.package.equations import GATES

CASE = Case(T=7, B=3, I=5, H=8, S=6, Z=3, L=2, layer_norm=True, state=Start.STACKED)
CPU = torch.device("cpu")
#: Of parameters that have no axis of gates, and of those whose second axis that is.
WITHOUT_GATES = (Role.CELL_NORM_WEIGHT, Role.CELL_NORM_BIAS)
GATES_SECOND = (Role.EMBEDDING_WEIGHT, Role.EMBEDDING_BIAS, Role.SCALE_WEIGHT)

#: The gates of supercell and magenta, by their numbers here.
ORDER = [0, 2, 1, 3]
#: Edits that turn `row_scaled` into the dialect.
I_G_F_O = edits(
    "row_scaled.py",
    ("y_i, y_f, y_g, y_o = y", "y_i, y_g, y_f, y_o = y"),
    ("a_i, a_f, a_g, a_o = (", "a_i, a_g, a_f, a_o = ("),
)
ONE_ADDED_AFTER_THE_NORM = edits(
    "row_scaled.py",
    ("torch.sigmoid(y_f)", "torch.sigmoid(y_f + 1)"),
    ("torch.sigmoid(a_f)", "torch.sigmoid(a_f + 1)"),
)
ONE_ADDED_BEFORE_THE_NORM = edits(
    "row_scaled.py",
    ("+ w.bias", "+ w.bias + (w is gates[1])"),
    ("+ w.hyper_bias", "+ w.hyper_bias + (w is gates[1])"),
)


def with_parameters_of_supercell(plain: Build) -> Build:
    """Builder of models that are called with gates in the order i, g, f, o, and 1 less in the bias of f's norms."""

    def reordered(name: str, p: Tensor) -> Tensor:
        role = parameter(name).role
        if role in WITHOUT_GATES:
            return p
        axis = 1 if role in GATES_SECOND else 0
        p = p.index_select(axis, torch.tensor(ORDER))
        if role is Role.GATE_NORM_BIAS:
            p = p - torch.tensor([0, 0, 1, 0]).unsqueeze(1)
        return p

    def build(case: Case, dtype: torch.dtype, device: torch.device) -> HyperLSTM:
        model, inner = (plain(case, dtype, device) for _ in range(2))

        def forward(*inputs: Any) -> Any:
            params = {name: reordered(name, p) for name, p in model.named_parameters()}
            return torch.func.functional_call(inner, params, inputs)

        model.forward = forward  # type: ignore[method-assign, assignment]
        return model

    return build


#: The edits of a dialect, whether its parameters are changed too, and whether it is the same function: supercell's and
#: magenta's, the same with our parameters, and a bias that the norm removes.
DIALECTS = {
    "supercell": (I_G_F_O + ONE_ADDED_AFTER_THE_NORM, True, True),
    "supercell with our parameters": (I_G_F_O + ONE_ADDED_AFTER_THE_NORM, False, False),
    "jihunchoi's forget bias": (ONE_ADDED_BEFORE_THE_NORM, False, True),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_a_dialect_is_a_change_of_parameters(name: str) -> None:
    """By output, states and every gradient."""
    changes, with_parameters, same = DIALECTS[name]
    with Edited(name, changes, "row_scaled").planted() as build:
        build = with_parameters_of_supercell(build) if with_parameters else build
        worst = compare(build, CASE, torch.float64, CPU)[0]
    assert worst.wrong != same, worst


def test_the_page_has_the_gates_and_forget_biases_of_the_dialects_and_of_ours() -> None:
    rows = {what: cells for what, *cells in table(CHECKS, "")}
    theirs, ours = ", ".join(GATES[k] for k in ORDER), ", ".join(GATES)
    assert rows["gate order"] == [theirs, theirs, ours, ours, ours]
    after, before = "1, after the norm", "1, before the norm, which cancels it"
    assert rows["forget bias"] == [after, after, before, "none", "none"]
    assert float(rows["its eps"][-1]) == EPS
    assert rows["stored c"][-1] == "raw"
