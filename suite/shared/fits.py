"""Straight lines through measured points: what stays, what grows, and how far off points are that no line has seen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Line:
    """`constant + slope * n`, with `square * n^2` where that was asked for; fitted for n from low to high."""

    constant: float
    slope: float
    low: float
    high: float
    square: float = 0.0

    def at(self, n: float) -> float:
        """Return the value at n."""
        return self.constant + self.slope * n + self.square * n * n

    def reaches(self, value: float) -> int:
        """Return the last whole n at which a rising straight line is not above the value; ValueError for any other."""
        if self.square or self.slope <= 0:
            raise ValueError(f"slope: expected a rising straight line, got {self}")
        n = (value - self.constant) / self.slope
        # A fitted line that meets the value at a whole n misses it by rounding, on either side.
        return round(n) if math.isclose(n, round(n), rel_tol=1e-9) else math.floor(n)

    def overhead(self, n: float) -> float:
        """Return the share of the value at n that does not grow with n; 0 where the constant came out negative."""
        return max(0.0, self.constant) / self.at(n)


def fit(n: Sequence[float], values: Sequence[float], *, square: bool = False) -> Line:
    """Fit a line, or with a square a parabola, by least squares of the relative errors: small values count as much.

    ValueError if there are fewer different n than coefficients, or a value that is not positive.
    """
    x, y = np.asarray(n, dtype=float), np.asarray(values, dtype=float)
    powers = np.arange(3 if square else 2)
    if len(set(x)) < len(powers):
        raise ValueError(f"n: expected {len(powers)} different ones or more, got {list(n)}")
    if not (y > 0).all():
        raise ValueError(f"values: expected positive ones, got {list(values)}")
    largest = x.max()  # so that powers of n are of one size
    found, *_ = np.linalg.lstsq((x[:, None] / largest) ** powers / y[:, None], np.ones_like(y), rcond=None)
    constant, slope, squared = (*map(float, found / largest**powers), 0.0)[:3]
    return Line(constant, slope, float(x.min()), float(x.max()), squared)


def worst_error(line: Line, n: Sequence[float], values: Sequence[float]) -> float:
    """Return the line's largest relative error on points, which should not be those it was fitted to."""
    return max(abs(line.at(x) / value - 1) for x, value in zip(n, values, strict=True))


def crossing(one: Line, other: Line) -> float | None:
    """Return the n at which two straight lines cross, None if that is outside the range that both were fitted in."""
    if one.square or other.square:
        raise ValueError(f"expected straight lines, got {one} and {other}")
    if one.slope == other.slope:
        return None
    n = (other.constant - one.constant) / (one.slope - other.slope)
    return n if max(one.low, other.low) <= n <= min(one.high, other.high) else None


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
