"""The page of what a training step of `batched_cuda` asks of the host: a line for each row of graphs.csv."""

from suite.pages.page import Page
from suite.pages.sheets import Columns, Sheet
from suite.shared.words import MB, count, three

COLUMNS: Columns = {
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

PAGE = Page("graphs", lambda rows: {"table": Sheet.of(rows, COLUMNS)})
