"""How far every implementation is from the oracle, tensor by tensor, as sequences grow."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from suite.checks.equality import longdouble
from suite.shared.cases import Case
from suite.shared.compare import FLOOR, OUTPUTS, TIMES, TOUCHED, Results, draw, judge, reference, relative_error

#: Lengths of the sequence, and how many draws of each: a long one says much in one.
DRAWS = {1: 8, 10: 4, 100: 1, 1000: 1}
#: The longest with layer norm alone, as it takes as long as all others together.
CASES = tuple(
    Case(T=T, B=2, I=5, H=16, S=8, Z=3, layer_norm=layer_norm, state="stacked")
    for T in DRAWS
    for layer_norm in ((True,) if T == 1000 else (False, True))
)
#: Every dtype sees the same numbers, which all of them can hold but for float16's smallest, so one oracle serves all.
ROUNDED = torch.bfloat16
ORACLE = "naive"


@dataclass(frozen=True)
class Error:
    """The relative L2 error of one tensor, that of the naive form in the same dtype, and how large it may be."""

    tensor: str
    error: float
    naive: float
    allowed: float

    @property
    def multiple(self) -> float:
        """The error as a multiple of the naive form's."""
        return self.error / self.naive


def errors(name: str, case: Case, dtype: torch.dtype, device: torch.device) -> list[Error]:
    """Return the error of every tensor that an implementation makes of a case; in float64 of what a forward pass makes.

    ValueError if it wrote to what it was given.
    """
    draws = DRAWS[case.T]
    oracle = reference(ORACLE, case, torch.float64, device, ROUNDED, draws)
    if dtype == torch.float64:
        return list(_forward_errors(_results(name, case, dtype, device), oracle, case, TIMES * (name != ORACLE)))
    yardstick = _results(ORACLE, case, dtype, device)
    verdicts = judge(_results(name, case, dtype, device), oracle, yardstick, dtype)
    return [
        Error(v.tensor, v.error, relative_error(yardstick[v.tensor], oracle[v.tensor]), v.allowed) for v in verdicts
    ]


def _results(name: str, case: Case, dtype: torch.dtype, device: torch.device) -> Results:
    results = reference(name, case, dtype, device, ROUNDED, DRAWS[case.T])
    touched = [tensor for tensor in results if tensor.startswith(TOUCHED)]
    if touched:
        raise ValueError(f"{name}: expected what it is given to stay as it is, but it wrote to {', '.join(touched)}")
    return results


def _forward_errors(results: Results, naive: Results, case: Case, times: float) -> Iterator[Error]:
    """Yield the errors in float64, whose oracle is a long double; the naive form itself has the eps alone."""
    floor = FLOOR[torch.float64] * torch.finfo(torch.float64).eps
    exact = _exact(case)
    for tensor in OUTPUTS:
        error, own = (longdouble.relative_error(r[tensor], exact[tensor]) for r in (results, naive))
        yield Error(tensor, error, own, times * own + floor)


@cache
def _exact(case: Case) -> dict[str, longdouble.Array]:
    drawn = [longdouble.forward(draw(case, seed, ROUNDED, torch.device("cpu"))) for seed in range(DRAWS[case.T])]
    return {tensor: np.stack([results[tensor] for results in drawn]) for tensor in OUTPUTS}
