"""The definition once more, forward alone, in numpy's long double: what float64 itself is measured against."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from impls.definition import EPS
from suite.shared.compare import OUTPUTS, Draw

Array = NDArray[Any]  # of long doubles, which numpy's stubs lose on the way


def why_unavailable() -> str | None:
    """Return None if a long double is wider than a double here, else the reason in a sentence."""
    if np.finfo(np.longdouble).eps < np.finfo(np.float64).eps:
        return None
    return "numpy's long double is no wider than float64 here, so there is nothing to measure float64 against."


def forward(given: Draw) -> dict[str, Array]:
    """Return out [T, B, H] and the last state of a single layer, [1, B, *] each, for a draw with a stacked state."""
    if given.state is None:
        raise ValueError("given: expected a draw with a state, got none")
    p = {name.removeprefix("layers.0."): _wide(value) for name, value in given.params.items()}
    h, c, h_hat, c_hat = (_wide(part)[0] for part in given.state)
    out = []
    for x_t in _wide(given.x):
        a = x_t @ _t(p["hyper_weight_x"]) + h @ _t(p["hyper_weight_h"]) + h_hat @ _t(p["hyper_weight_s"])  # [4, B, S]
        h_hat, c_hat = _cell(p, "hyper_norm", a + p["hyper_bias"][:, None], c_hat)
        z = h_hat @ _t(p["z_weight"])  # [3, 4, B, Z]
        z[:2] += p["z_bias"][:, :, None]
        d_h, d_x, b = z @ _t(p["d_weight"])  # [4, B, H] each
        y = d_h * (h @ _t(p["weight_h"])) + d_x * (x_t @ _t(p["weight_x"])) + b + p["bias"][:, None]
        h, c = _cell(p, "norm", y, c)
        out.append(h)
    return dict(zip(OUTPUTS, (np.stack(out), *(part[None] for part in (h, c, h_hat, c_hat))), strict=True))


def relative_error(value: Tensor, reference: Array) -> float:
    """Return ||value - reference|| / ||reference||."""
    difference = _wide(value) - reference
    return float(np.sqrt(np.square(difference).sum() / np.square(reference).sum()))


def _wide(value: Tensor) -> Array:
    return value.double().cpu().numpy().astype(np.longdouble)


def _t(weight: Array) -> Array:
    return weight.swapaxes(-1, -2)


def _cell(p: Mapping[str, Array], norm: str, y: Array, c: Array) -> tuple[Array, Array]:
    """Return h and c after a step of an LSTM with gates y [4, B, F]."""
    i, f, g, o = _norm(p, norm, y)
    c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
    return _sigmoid(o) * np.tanh(_norm(p, f"{norm}_c", c)), c


def _norm(p: Mapping[str, Array], name: str, y: Array) -> Array:
    if f"{name}_weight" not in p:
        return y
    y = y - y.mean(-1, keepdims=True)
    y = y / np.sqrt(np.square(y).mean(-1, keepdims=True) + EPS)
    return y * p[f"{name}_weight"][..., None, :] + p[f"{name}_bias"][..., None, :]


def _sigmoid(y: Array) -> Array:
    return 1 / (1 + np.exp(-y))
