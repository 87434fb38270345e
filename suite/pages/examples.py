"""Rows of a benchmark for tests of its pages."""

from typing import Any

import pandas as pd

from suite.candidates.names import BASELINE
from suite.cases.workloads import WORKLOADS
from suite.pages.bench import PAGE
from suite.pages.page import page_text
from suite.results.examples import runs

Rows = list[dict[str, Any]]


def at(workload: str, rows: Rows, **changes: Any) -> Rows:
    whole = WORKLOADS[workload].case
    return [row | {"workload": workload, "whole_T": whole.T, "whole_B": whole.B} | changes for row in rows]


def page(rows: Rows) -> str:
    return page_text(PAGE.content(pd.DataFrame(rows)))


LSTM = runs(BASELINE, 0.05)
OURS, NORM = runs("batched_cpu", 0.1), runs("batched_cpu", 0.2, layer_norm=True)
