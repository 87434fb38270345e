"""Straight lines through measured points: what stays, what grows, and how far off points are that no line has seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Line:
    """`constant + slope * n`, fitted for n from low to high."""

    constant: float
    slope: float
    low: float
    high: float

    def at(self, n: float) -> float:
        """Return the line's value."""
        return self.constant + self.slope * n

    def reaches(self, value: float) -> int:
        """Return the last whole n at which a rising line is not above the value; ValueError if it does not rise."""
        if self.slope <= 0:
            raise ValueError(f"slope: expected a rising line, got {self.slope}")
        return int((value - self.constant) // self.slope)

    def overhead(self, n: float) -> float:
        """Return the share of the value at n that does not grow with n; 0 where the constant came out negative."""
        return max(0.0, self.constant) / self.at(n)


def fit(n: Sequence[float], values: Sequence[float]) -> Line:
    """Fit a line by least squares of the relative errors, so that small values count as much as large ones.

    ValueError if there are fewer than two different n, or a value that is not positive.
    """
    x, y = np.asarray(n, dtype=float), np.asarray(values, dtype=float)
    if len(set(x)) < 2:
        raise ValueError(f"n: expected two different ones or more, got {list(n)}")
    if not (y > 0).all():
        raise ValueError(f"values: expected positive ones, got {list(values)}")
    (constant, slope), *_ = np.linalg.lstsq(np.stack([1 / y, x / y], axis=1), np.ones_like(y), rcond=None)
    return Line(float(constant), float(slope), float(x.min()), float(x.max()))


def worst_error(line: Line, n: Sequence[float], values: Sequence[float]) -> float:
    """Return the line's largest relative error on points, which should not be those it was fitted to."""
    return max(abs(line.at(x) / value - 1) for x, value in zip(n, values, strict=True))


def crossing(one: Line, other: Line) -> float | None:
    """Return the n at which two lines cross, None if that is outside the range that both were fitted in."""
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
