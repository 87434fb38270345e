"""Results in bfloat16 and in the oracle, at values whose digits a careless sum or norm would lose."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from impls.gradient.chunks import limited
from suite.cases.case import Case
from suite.checks.equality.comparisons import WIDE_ORACLE
from suite.checks.equality.extremes import with_cells_far_from_0
from suite.comparison.draws import Draw, draw, implementation, with_values
from suite.comparison.runs import plain
from suite.comparison.tensors import Results
from suite.comparison.tolerance import relative_error

CASE = Case(T=340, B=1, I=5, H=8, S=8, Z=1, state="stacked")
WIDER = replace(CASE, H=24, S=16, Z=3)


def results_of(name: str, case: Case, sample: Draw) -> Results:
    """Output, final states and every gradient of one call."""
    build = implementation(name)
    model = build(case, sample.x.dtype, sample.x.device)
    model.load_state_dict(sample.params)
    return plain(model, case, sample)


def results_and_expected(name: str, case: Case, sample: Draw, limit: int) -> tuple[Results, Results]:
    """Results in the dtype of the numbers, and those of the oracle in float64; limit: bytes of a chunk."""
    with limited(sample.x.device.type, forward=limit, backward=limit):
        results = results_of(name, case, sample)
    wide: Draw = tree_map_only(Tensor, Tensor.double, sample)
    return results, results_of(WIDE_ORACLE, case, wide)


def error_of_cells_far_from_0(name: str, device: torch.device) -> float:
    """Relative error of out where cells are near 100: numbers of bfloat16 are half a deviation of the cells apart."""
    case = replace(WIDER, T=5, layer_norm=True)
    sample = with_values(draw(case, 1, torch.bfloat16, device), with_cells_far_from_0)
    results, expected = results_and_expected(name, case, sample, 1)
    return relative_error(results["out"], expected["out"])
