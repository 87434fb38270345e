"""The page of the paper's parameter counts: rows of paper.csv, one line for each model and for each way to count."""

import pandas as pd

from suite.pages.sheets import Part, Sheet, page_of
from suite.pages.words import count

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


def in_millions(parameters: float) -> str:
    """Return a count as the paper prints it."""
    return f"{parameters / 1e6:.2f}"


def paper_table(rows: pd.DataFrame) -> Sheet:
    """Return a line for each model: its sizes, the paper's count, ours."""
    lines = [
        {
            "model": row["model"],
            **{size: row[size] or None for size in "IHSZL"},
            "outputs": row["outputs"],
            "paper, M": row["paper_millions"],
            "ours, M": row["parameters"],
            "ours": row["parameters"],
            "verdict": row["verdict"],
        }
        for _, row in rows.iterrows()
    ]
    counts = dict.fromkeys([*"IHSZL", "outputs", "ours"], count)
    return Sheet(lines, counts | {"paper, M": "{:.2f}".format, "ours, M": in_millions})


def bookkeeping_table(rows: pd.DataFrame) -> Sheet:
    """Return a line for each way to count: how many rows it matches, and what it makes of the others."""
    lines = []
    for name, parts in BOOKKEEPING.items():
        ours = (rows["parameters"] + sum(sign * rows[part] for part, sign in parts.items())).map(in_millions)
        paper = rows["paper_millions"].map("{:.2f}".format)
        missed = [f"{o} for {p}" for o, p in zip(ours, paper, strict=True) if o != p]
        lines.append({"counted": name, "matches": (len(rows) - len(missed), len(rows)), "misses": ", ".join(missed)})
    return Sheet(lines, {"matches": lambda found: f"{found[0]} of {found[1]}"})


def paper_page(rows: pd.DataFrame) -> list[Part]:
    """Return the page."""
    missed = rows[rows["verdict"] == "missed"]
    known = "\n".join(f"- {model}: {miss}" for model, miss in zip(missed["model"], missed["miss"], strict=True))
    return page_of("paper", rows, models=paper_table(rows), missed=known, ways=bookkeeping_table(rows))
