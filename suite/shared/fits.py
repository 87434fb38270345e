"""Straight lines through measured points: what stays, what grows, and where one overtakes another."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.polynomial import Polynomial


def fit(n: Sequence[float], values: Sequence[float], *, square: bool = False) -> Polynomial:
    """Fit a line, or with a square a parabola, by least squares of the relative errors: small values count as much.

    Its coefficients are those of powers of n, the constant first; its domain is the range of n.
    ValueError if there are fewer different n than coefficients, or a value that is not positive.
    """
    x, y, degree = np.asarray(n, dtype=float), np.asarray(values, dtype=float), 2 if square else 1
    if len(set(x)) <= degree:
        raise ValueError(f"n: expected {degree + 1} different ones or more, got {list(n)}")
    if not (y > 0).all():
        raise ValueError(f"values: expected positive ones, got {list(values)}")
    span = x.min(), x.max()
    return Polynomial.fit(x, y, degree, domain=span, window=span, w=1 / y)


def reaches(line: Polynomial, value: float) -> int:
    """Return the last whole n at which a rising straight line is not above the value; ValueError for any other."""
    constant, slope, *square = map(float, line.coef)
    if square or slope <= 0:
        raise ValueError(f"slope: expected a rising straight line, got {line}")
    n = (value - constant) / slope
    # A fitted line that meets the value at a whole n misses it by rounding, on either side.
    return round(n) if math.isclose(n, round(n), rel_tol=1e-9) else math.floor(n)


def crossing(one: Polynomial, other: Polynomial) -> float | None:
    """Return the n at which two straight lines cross, None if that is outside the range that both were fitted in."""
    start, end = max(one.domain[0], other.domain[0]), min(one.domain[1], other.domain[1])
    roots = (Polynomial(one.coef) - Polynomial(other.coef)).roots()  # none of lines that are parallel
    return next((float(n) for n in roots if start <= n <= end), None)


def steps_to_pay(first: float, step: float, other_first: float, other_step: float) -> float | None:
    """Return after how many steps something with a costlier start has taken less time in all than another.

    first: what the first step takes, step: each later one. 1 if it is ahead from the first step on; None if it never
    gets ahead.
    """
    if first <= other_first and step <= other_step:
        return 1.0
    if step >= other_step:
        return None
    return 1 + max(0.0, first - other_first) / (other_step - step)
