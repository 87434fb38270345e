"""The error of every implementation stays within the rule as sequences grow; the CSV has the worst tensor."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from impls import names
from impls.definition import EPS, dtype_name
from suite.conftest import Keep, skip_reason
from suite.shared.cases import Case
from suite.shared.compare import FLOOR, MUTATED, OUTPUTS, TIMES, Draw, Results, draw, judge, reference, relative_error

#: Draws for each length of the sequence.
DRAWS = {1: 8, 10: 4, 100: 1, 1000: 1}
#: The longest with layer norm alone, as it takes as long as all others together.
CASES = tuple(
    Case(T=T, B=2, I=5, H=16, S=8, Z=3, layer_norm=layer_norm, state="stacked")
    for T in DRAWS
    for layer_norm in ((True,) if T == 1000 else (False, True))
)
#: Every dtype gets the same numbers, which each can hold, except float16 the smallest, so one oracle serves all.
ROUNDED = torch.bfloat16
ORACLE = "naive"
Array = NDArray[Any]  # of long doubles, which numpy's stubs lose on the way


# The definition in numpy's long double, forward alone: the oracle of float64


def why_no_long_double() -> str | None:
    """None if a long double is wider than a double here, else the reason in a sentence."""
    if np.finfo(np.longdouble).eps < np.finfo(np.float64).eps:
        return None
    return "numpy's long double is no wider than float64 here, so there is nothing to measure float64 against."


def forward(given: Draw) -> dict[str, Array]:
    """Outputs of the definition, in long doubles, for a draw with a single layer and a stacked state."""
    assert given.state is not None
    p = {name.removeprefix("layers.0."): wide(value) for name, value in given.params.items()}
    h, c, h_hat, c_hat = (wide(part)[0] for part in given.state)
    out = []
    for x_t in wide(given.x):
        a = x_t @ t(p["hyper_weight_x"]) + h @ t(p["hyper_weight_h"]) + h_hat @ t(p["hyper_weight_s"])  # [4, B, S]
        h_hat, c_hat = cell(p, "hyper_norm", a + p["hyper_bias"][:, None], c_hat)
        z = h_hat @ t(p["z_weight"])  # [3, 4, B, Z]
        z[:2] += p["z_bias"][:, :, None]
        d_h, d_x, b = z @ t(p["d_weight"])  # [4, B, H] each
        y = d_h * (h @ t(p["weight_h"])) + d_x * (x_t @ t(p["weight_x"])) + b + p["bias"][:, None]
        h, c = cell(p, "norm", y, c)
        out.append(h)
    return dict(zip(OUTPUTS, (np.stack(out), *(part[None] for part in (h, c, h_hat, c_hat))), strict=True))


def error_of(value: Tensor, exact: Array) -> float:
    return float(np.sqrt(np.square(wide(value) - exact).sum() / np.square(exact).sum()))


def wide(value: Tensor) -> Array:
    return value.double().cpu().numpy().astype(np.longdouble)


def t(weight: Array) -> Array:
    return weight.swapaxes(-1, -2)


def cell(p: Mapping[str, Array], norm: str, y: Array, c: Array) -> tuple[Array, Array]:
    """H and c after a step of an LSTM with gates y [4, B, F]."""
    i, f, g, o = normalised(p, norm, y)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(normalised(p, f"{norm}_c", c)), c


def normalised(p: Mapping[str, Array], name: str, y: Array) -> Array:
    if f"{name}_weight" not in p:
        return y
    y = y - y.mean(-1, keepdims=True)
    y = y / np.sqrt(np.square(y).mean(-1, keepdims=True) + EPS)
    return y * p[f"{name}_weight"][..., None, :] + p[f"{name}_bias"][..., None, :]


def sigmoid(y: Array) -> Array:
    return 1 / (1 + np.exp(-y))


# Errors


def made(name: str, case: Case, dtype: torch.dtype, device: torch.device) -> Results:
    results = reference(name, case, dtype, device, ROUNDED, DRAWS[case.T])
    assert not [tensor for tensor in results if tensor.startswith(MUTATED)], "an argument was changed"
    return results


@cache
def exact(case: Case) -> dict[str, Array]:
    """Outputs of the definition in long doubles for a case, stacked over the draws."""
    drawn = [forward(draw(case, seed, ROUNDED, torch.device("cpu"))) for seed in range(DRAWS[case.T])]
    return {tensor: np.stack([results[tensor] for results in drawn]) for tensor in OUTPUTS}


def errors(
    name: str, case: Case, dtype: torch.dtype, device: torch.device
) -> Iterator[tuple[str, float, float, float]]:
    """Tensor, its error, the naive form's, and the allowed one; in float64 of outputs alone."""
    results, naive = (made(each, case, dtype, device) for each in (name, ORACLE))
    if dtype == torch.float64:
        for tensor in OUTPUTS:
            error, own = (error_of(r[tensor], exact(case)[tensor]) for r in (results, naive))
            # The naive form itself has the eps alone.
            yield tensor, error, own, TIMES * own * (name != ORACLE) + FLOOR[dtype] * torch.finfo(dtype).eps
        return
    oracle = made(ORACLE, case, torch.float64, device)
    for v in judge(results, oracle, naive, dtype):
        yield v.tensor, v.error, relative_error(naive[v.tensor], oracle[v.tensor]), v.allowed


@pytest.mark.thorough("errors up to 1000 steps")
@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("dtype", FLOOR, ids=dtype_name)
def test_errors_stay_within_the_rule_as_sequences_grow(
    name: str, dtype: torch.dtype, device: torch.device, keep: Keep
) -> None:
    reason = skip_reason(name, device, dtype) or (why_no_long_double() if dtype == torch.float64 else None)
    if reason:
        for T in DRAWS:
            keep("errors", implementation=name, dtype=dtype_name(dtype), T=T, verdict="not run", reason=reason)
        pytest.skip(reason)
    too_large = []
    for case in CASES:
        tensor, error, naive, allowed = max(errors(name, case, dtype, device), key=lambda row: row[1] / row[3])
        figures = {"error": error, "naive": naive, "allowed": allowed, "multiple": error / naive}
        keep(
            "errors",
            implementation=name,
            dtype=dtype_name(dtype),
            T=case.T,
            layer_norm="on" if case.layer_norm else "off",
            tensor=tensor,
            verdict="pass" if error <= allowed else "FAIL",
            **{column: float(f"{value:.3g}") for column, value in figures.items()},
        )
        too_large += [] if error <= allowed else [f"{case.id}, {tensor}, {figures}"]
    assert not too_large
