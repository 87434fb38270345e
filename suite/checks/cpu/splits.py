"""Runs of `batched_cpu` with a batch split among threads as a test wants it."""

import torch

from impls import batched_cpu
from suite.cases.case import Case, Start
from suite.comparison.draws import implementation
from suite.comparison.tensors import Results
from suite.comparison.tolerance import evaluate

#: Several panels of units in each LSTM, with edges, on any CPU; rows for groups of different sizes.
CASES = [Case(T=5, B=5, I=4, H=150, S=70, Z=2, layer_norm=norm, state=Start.STACKED) for norm in (False, True)]


def of_split(case: Case, split: tuple[int, int] | None, dtype: torch.dtype = torch.float32) -> Results:
    """Results of a case, with a split that later calls keep."""
    batched_cpu.SPLIT = split
    cpu = torch.device("cpu")
    return evaluate(implementation("batched_cpu"), case, dtype, cpu, rounded=dtype, draws=1).results
