"""The page of the paper's parameter counts: rows of paper.csv, one line for each model and for each way to count."""

import math

import pandas as pd

from suite.pages.page import Page, Values
from suite.pages.sheets import Columns, Sheet
from suite.shared.format import count, millions

#: Ways to count, each as the parts that it adds to our count, or with a minus takes from it; the first is ours.
BOOKKEEPING: dict[str, dict[str, int]] = {
    "one bias a gate, one-hot input, an output layer with a bias": {},
    "the output layer without a bias": {"output_biases": -1},
    "no output layer": {"output_biases": -1, "output_weights": -1},
    "without the norms": {"norms": -1},
    "without the weights from h_hat to z": {"z_weights": -1},
    "a second bias a gate in an LSTM, as in torch.nn.LSTM": {"second_biases": 1},
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


def bookkeeping_table(rows: pd.DataFrame) -> Sheet:
    """Return a line for each way to count: how many rows it matches, and what it makes of the others."""
    lines = []
    for name, parts in BOOKKEEPING.items():
        ours = (rows["parameters"] + sum(sign * rows[part] for part, sign in parts.items())).map(millions)
        paper = rows["paper_millions"].map("{:.2f}".format)
        missed = [f"{o} for {p}" for o, p in zip(ours, paper, strict=True) if o != p]
        lines.append({"counted": name, "matches": (len(rows) - len(missed), len(rows)), "misses": ", ".join(missed)})
    return Sheet(lines, {"matches": lambda found: f"{found[0]} of {found[1]}"})


def _values(rows: pd.DataFrame) -> Values:
    missed = rows[rows["verdict"] == "missed"]
    known = "\n".join(f"- {model}: {miss}" for model, miss in zip(missed["model"], missed["miss"], strict=True))
    models = Sheet.of(rows.replace({"S": 0, "Z": 0}, math.nan), MODELS)  # an LSTM has neither
    return {"models": models, "missed": known, "ways": bookkeeping_table(rows)}


PAGE = Page("paper", _values)
