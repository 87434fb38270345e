"""The table of the floor model: rows of floor.csv as a page."""

import pandas as pd

from .tables import markdown


def floor_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the model's figures as strings: a step in microseconds, a training step over all T in milliseconds."""
    return pd.DataFrame(
        {
            "workload": rows["workload"],
            "layer norm": rows["layer_norm"],
            "card": rows["card"],
            "phases": [f"{f} + {b}" for f, b in zip(rows["forward_phases"], rows["backward_phases"], strict=True)],
            "multiply-adds, M": (rows["forward_multiply_adds"] / 1e6).map("{:.0f}".format),
            "L2, MB": (rows["forward_bytes"] / 1e6).map("{:.1f}".format),
            "forward, µs": (rows["forward_s"] * 1e6).map("{:.1f}".format),
            "/ LSTM": (rows["forward_s"] / rows["lstm_forward_s"]).map("{:.2f}".format),
            "train, µs": (rows["train_s"] * 1e6).map("{:.1f}".format),
            "train, T steps, ms": (rows["train_s"] * rows["T"] * 1e3).map("{:.2f}".format),
        }
    )


def floor_markdown(rows: pd.DataFrame) -> str:
    """Return floor.md."""
    return f"""# What a step of batched_cuda takes at least: a model

**None of these figures was measured.** They are what the kernels, in the grids and tiles that would be started on a
card, must at least multiply, load and store in bfloat16, at that card's data-sheet rates, with a microsecond between
two phases of a CUDA graph (`suite/floor.py`). *phases* are kernels a step, forward + backward; *multiply-adds*, *L2*
and *forward* are one forward step of the whole batch, *train* one step forward and back with its share of the large
products outside the loop. `/ LSTM` is the forward step against the same model of an LSTM's one phase.

{markdown(floor_table(rows))}

With multiply-adds and bytes of both directions: [floor.csv](floor.csv).
"""
