"""A model and numbers for checks of the module, and how their results are compared."""

import torch
from torch import Tensor

from impls import HyperLSTM
from impls.registry import ORACLE
from suite.cases.case import Case, Start
from suite.comparison.draws import model_and_draw
from suite.comparison.tensors import Results
from suite.comparison.tolerance import judge

L, T, B, I, H, S, Z = 2, 6, 3, 4, 6, 5, 2
CASE = Case(T=T, B=B, I=I, H=H, S=S, Z=Z, L=L, layer_norm=True, state=Start.STACKED)
#: The probabilities of `DROPPED`.
P = 0.25
DROPPED = Case(T=4, B=3, I=4, H=16, S=6, Z=2, L=2, layer_norm=True, state=Start.STACKED, dropout=P, recurrent_dropout=P)


def model_and_input(name: str, device: torch.device, case: Case = CASE) -> tuple[HyperLSTM, Tensor, tuple[Tensor, ...]]:
    """Draw 0 of a case, without a state an empty one."""
    model, sample = model_and_draw(name, case, torch.float32, device)
    return model, sample.x, sample.state or ()


def assert_same(a: Results, b: Results) -> None:
    """By the tolerance rule in float32 with b as the oracle, and the floor as the only error allowed."""
    worst = judge(ORACLE, a, b, b, torch.float32)[0]
    assert not worst.wrong, worst
