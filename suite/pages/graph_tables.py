"""The table of what a training step of `batched_cuda` asks of the host: a line for each row of graphs.csv."""

import pandas as pd

from suite.pages.sheets import Part, Sheet
from suite.pages.words import MB, count, made_on, three


def graphs_table(rows: pd.DataFrame) -> Sheet:
    """Return operators, kernels and bytes by workload."""
    lines = [
        {
            "workload": row["workload"],
            "layer norm": row["layer_norm"],
            "dtype": row["dtype"],
            "operators, launched": row["plain_operators"],
            "operators, replayed": row["operators"],
            "kernels, forward": row["forward_kernels"],
            "kernels, backward": row["backward_kernels"],
            "copied, MB": row["moved_bytes"] / MB,
            "memory, launched, MB": row["plain_bytes"] / MB,
            "memory, graphs, MB": row["held_bytes"] / MB,
        }
        for row in rows.to_dict("records")
    ]
    figures = dict.fromkeys(list(lines[0])[3:7], count) | dict.fromkeys(list(lines[0])[7:], three)
    return Sheet(lines, figures)


def graphs_page(rows: pd.DataFrame) -> list[Part]:
    """Return the page."""
    text = f"""# CUDA graphs of batched_cuda

{made_on(rows)}

Counted, not measured, without a GPU: a training step of one layer on a card with 80 GB, for which nothing is computed.

*Operators* are what Python asks torch for in a step, views and empty tensors included: with each kernel launched from
Python, without those launches; and once both passes are replayed from their CUDA graphs, each replay as one. *Kernels*
are Triton's, in a pass; in a replay Python starts none of them. *Copied* is what the step reads and writes outside its
graphs. *Memory, launched* is the most that a step has in memory beside its arguments; *memory, graphs* is what the
graphs hold all the time, their pool as large as its fullest moment."""
    return [text, graphs_table(rows)]
