"""The page of the paper's parameter counts: each model of its tables, and each way to count."""

import math

import pandas as pd

from suite.pages.page import Others, Page
from suite.pages.sheets import Columns, Part, Sheet
from suite.shared.format import count, millions

#: Ways to count, each as the parts that it adds to our count, or with a minus takes from it; the first is ours.
BOOKKEEPING: dict[str, dict[str, int]] = {
    "one bias per gate, one-hot input, an output layer with a bias": {},
    "the output layer without a bias": {"output_biases": -1},
    "no output layer": {"output_biases": -1, "output_weights": -1},
    "without the norms": {"norms": -1},
    "without the weights from h_hat to z": {"z_weights": -1},
    "a second bias per gate in an LSTM, as in torch.nn.LSTM": {"second_biases": 1},
    "an embedding of the input's classes": {"embedding": 1},
}

MODELS: Columns = {
    "model": "model",
    **{size: (size, count) for size in "IHSZL"},
    "outputs": ("outputs", count),
    "paper, M": ("paper_millions", "{:.2f}".format),
    "ours, M": ("parameters", millions),
    "ours": ("parameters", count),
    "verdict": "verdict",
}

LEAD = """Parameters of the models in Tables 3 to 5 of the paper (arXiv 1609.09106), and of the same models built with
this module, in millions, output layer included. An LSTM is counted with one bias per gate, as in the paper's equations;
torch has two. Counts do not depend on the machine."""


def bookkeeping_table(rows: pd.DataFrame) -> Sheet:
    """Rows of the paper that each way to count matches, and what it gives for the others."""
    lines = []
    for name, parts in BOOKKEEPING.items():
        ours = (rows["parameters"] + sum(sign * rows[part] for part, sign in parts.items())).map(millions)
        paper = rows["paper_millions"].map("{:.2f}".format)
        missed = [f"{o} for {p}" for o, p in zip(ours, paper, strict=True) if o != p]
        lines.append({"counted": name, "matches": (len(rows) - len(missed), len(rows)), "misses": ", ".join(missed)})
    return Sheet(lines, {"matches": lambda found: f"{found[0]} of {found[1]}"})


def _parts(rows: pd.DataFrame, others: Others) -> list[Part]:
    missed = rows[rows["verdict"] == "missed"]
    known = [f"- {model}: {miss}" for model, miss in zip(missed["model"], missed["miss"], strict=True)]
    models = Sheet.of(rows.replace({"S": 0, "Z": 0}, math.nan), MODELS)  # an LSTM has neither
    text = "How many of the paper's rows each way of counting reproduces:"
    misses = ["\n".join(["Known about the rows that do not match:\n", *known])] * bool(known)
    return [LEAD, models, *misses, text, bookkeeping_table(rows)]


PAGE = Page("paper", "The paper's parameter counts", _parts)
