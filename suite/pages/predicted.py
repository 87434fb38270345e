"""The page of what passes of `batched_cuda` should take on a card: a line for each row of predicted.csv."""

from suite.pages.page import Page
from suite.pages.sheets import Columns, Sheet
from suite.shared.format import count, three, two

COLUMNS: Columns = {
    "workload": "workload",
    "arithmetic": "arithmetic",
    "layer norm": "layer_norm",
    "card": "card",
    "pass": "pass",
    "groups": ("groups", count),
    "members": ("members", count),
    "meetings per step": ("meetings", count),
    "from L2 per step, MB": (lambda row: row["l2_bytes"] / 1e6, three),
    "per step, µs": ("step_us", three),
    "around the steps, ms": ("around_ms", two),
    "pass, ms": ("pass_ms", three),
}

PAGE = Page("predicted", lambda rows: {"table": Sheet.of(rows[rows["layer_norm"] == "off"], COLUMNS)})
