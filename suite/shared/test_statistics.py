"""An interval between visits holds the ratio, whatever states the host is in, and a verdict takes more than noise."""

import pytest

from suite.shared.statistics import student


@pytest.mark.parametrize(("freedom", "coverage", "quantile"), [(2, 0.95, 4.303), (9, 0.95, 2.262), (9, 0.99, 3.250)])
def test_quantiles_are_those_of_students_table(freedom: int, coverage: float, quantile: float) -> None:
    assert student(freedom, coverage) == pytest.approx(quantile, abs=5e-4)
