"""The page of the paper's parameter counts: rows of paper.csv, one line for each model and for each way to count."""

import pandas as pd

from suite.checks.definition.paper import BOOKKEEPING, MISSES, in_millions
from suite.shared.tables import markdown


def paper_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return, as strings, a line for each model: its sizes, the paper's count, ours."""
    sizes = rows[["model", *"IHSZL", "outputs"]].astype(str)
    table: pd.DataFrame = sizes.replace({"S": {"0": "-"}, "Z": {"0": "-"}})
    table["paper, M"] = rows["paper_millions"].map("{:.2f}".format)
    table["ours, M"] = rows["parameters"].map(in_millions)
    table["ours"] = rows["parameters"].map("{:,}".format)
    table["verdict"] = rows["verdict"]
    return table


def bookkeeping_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return, as strings, a line for each way to count: how many rows it matches, and what it makes of the others."""
    lines = []
    for name, parts in BOOKKEEPING.items():
        ours = rows[list(parts)].sum(axis=1).map(in_millions)
        paper = rows["paper_millions"].map("{:.2f}".format)
        missed = [f"{o} for {p}" for o, p in zip(ours, paper, strict=True) if o != p]
        lines.append(
            {"counted": name, "matches": f"{len(rows) - len(missed)} of {len(rows)}", "misses": ", ".join(missed)}
        )
    return pd.DataFrame(lines)


def paper_markdown(rows: pd.DataFrame) -> str:
    """Return paper.md."""
    missed = rows.loc[rows["verdict"] == "missed", "model"]
    known = "\n".join(f"- {model}: {MISSES.get(model, 'nothing is known of this miss.')}" for model in missed)
    return f"""# The paper's parameter counts

Tables 3 to 5 of the paper (arXiv 1609.09106) against this module, in millions, with the output layer. The LSTM rows are
`torch.nn.LSTM` with one bias for each gate, as in the paper's equations: torch keeps two. Counts depend on no machine.

{markdown(paper_table(rows))}

Missed, and what is known of it:

{known}

What the paper counted shows in how many of its rows come out:

{markdown(bookkeeping_table(rows))}

All parts: [paper.csv](paper.csv).
"""
