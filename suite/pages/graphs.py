"""The page of what a training step of `batched_cuda` asks of the host: a line for each row of graphs.csv."""

import pandas as pd

from suite.pages.page import Page, Values
from suite.pages.sheets import Columns, Sheet
from suite.shared.words import MB, count, three


def _values(rows: pd.DataFrame) -> Values:
    columns: Columns = {
        "workload": "workload",
        "layer norm": "layer_norm",
        "dtype": "dtype",
        "operators, launched": ("plain_operators", count),
        "operators, replayed": ("operators", count),
        "the most": ("most_operators", count),
        "kernels, forward": ("forward_kernels", count),
        "kernels, backward": ("backward_kernels", count),
        "copied, MB": (lambda row: row["moved_bytes"] / MB, three),
        "memory, launched, MB": (lambda row: row["plain_bytes"] / MB, three),
        "memory, graphs, MB": (lambda row: row["held_bytes"] / MB, three),
    }
    return {"table": Sheet.of(rows, columns)}


PAGE = Page("graphs", _values)
