"""Figures and tables of the benchmark: times, memory, and their ratios to torch.nn.LSTM."""

from typing import Any

import numpy as np
import pandas as pd

from impls import names
from suite.pages.page import Format, Sheet
from suite.shared.cases import ALTERNATIVES, BASELINE
from suite.shared.format import MB, NONE, percent, ratio_text, reason, significant3, with_interval
from suite.shared.statistics import interval
from suite.shared.tables import PASSES, STAMP, TABLES

#: Columns that make a place, at which candidates are compared; and its title, without layer norm and with it.
PLACE = ["dtype", "workload", "T", "B", "layer_norm"]
TITLE = "{workload}, T {T}, B {B}, {dtype}"
HEADING = TITLE + ", layer norm {layer_norm}"
#: How the status of what cannot run on a machine begins; tables leave it out.
NOT_RUN = "not run: "
#: Workloads that the headline quotes, in float32 without layer norm, and its names for the alternatives.
QUOTED = ("medium", "char-ptb")
CALLED = {"compiled": "torch.compile", "labml": "labml", "jax": "JAX"}
_FIGURES = ["ratio", "ratio_low", "ratio_high", "median_s", "peak_bytes", "share", "work"]


def compared(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of what can run here, without figures where the status is not ok, and with columns that compare them.

    torch.nn.LSTM, which has no layer norm, is at both places of a workload.

    floor: the noise floor, how far the interval of torch.nn.LSTM against itself reaches from 1; NaN without one.
    verdict: whether it is faster or slower than torch.nn.LSTM. "/ NAME": ratios of times to the alternatives.
    "MB / LSTM": ratio of the peak memory to that of torch.nn.LSTM.
    """
    rows = rows.reindex(columns=[*TABLES["bench"].columns, *STAMP])
    rows = rows[~rows["status"].astype(str).str.startswith(NOT_RUN)]
    has_norm = (rows["layer_norm"] == "on").groupby([rows[column] for column in PLACE[:-1]]).transform("any")
    baselines = rows[(rows["implementation"] == BASELINE) & has_norm].assign(layer_norm="on")
    rows = pd.concat([rows, baselines], ignore_index=True)
    rows.loc[rows["status"] != "ok", _FIGURES] = np.nan
    low, high = (_beside(rows, BASELINE, f"ratio_{end}") for end in ("low", "high"))
    rows["floor"] = np.maximum(high, 1 / low) - 1
    rows["verdict"] = [_verdict(row) for _, row in rows.iterrows()]
    for name in ALTERNATIVES:
        rows[f"/ {name}"] = rows["ratio"] / _beside(rows, name, "ratio")
    rows["MB / LSTM"] = rows["peak_bytes"] / _beside(rows, BASELINE, "peak_bytes")
    return rows


def _beside(rows: pd.DataFrame, name: str, column: str) -> pd.Series:
    """For each row, the value of a column in the row of another candidate at the same place and of the same pass."""
    where = [*PLACE, "pass"]
    values = rows[rows["implementation"] == name].set_index(where)[column]
    beside: pd.Series = values.reindex(pd.MultiIndex.from_frame(rows[where])).set_axis(rows.index)
    return beside


def _verdict(row: pd.Series) -> str:
    """`faster` or `slower` than the baseline if the whole interval is beyond the noise floor."""
    if pd.isna(row["ratio"]):
        return NONE
    if pd.isna(row["ratio_low"]):
        return "few visits"
    if pd.isna(row["floor"]):
        return "no A/A run"
    if row["ratio_high"] < 1 / (1 + row["floor"]):
        return "faster"
    return "slower" if row["ratio_low"] > 1 + row["floor"] else "undecided"


def fastest(rows: pd.DataFrame) -> pd.DataFrame:
    """The training row of our fastest implementation at each place, as `compared` gives it."""
    rows = compared(rows)
    ours = rows[(rows["pass"] == "train") & rows["implementation"].isin(names()) & rows["ratio"].notna()]
    first: pd.DataFrame = ours.loc[ours.groupby(PLACE, sort=False)["ratio"].idxmin()]
    return first


def not_run(rows: pd.DataFrame) -> list[str]:
    """Why something cannot run here, a sentence for each reason."""
    reasons = rows["status"][rows["status"].str.startswith(NOT_RUN)].unique() if len(rows) else ()
    return [f"Not timed: {each.removeprefix(NOT_RUN)}" for each in reasons]


def time_table(place: pd.DataFrame) -> Sheet:
    """Table of times, ratios and memory, a line for each candidate; place: rows of `compared` at one place."""
    lead = "forward" if place["B"].iloc[0] == 1 else "train"
    lines = []
    for name, own in place.groupby("implementation", sort=False):
        line: dict[str, Any] = {"implementation": name}
        rows = {row["pass"]: row for _, row in own.iterrows()}
        for step, row in rows.items():
            line[f"{step}, ms"] = 1e3 * row["median_s"] if row["status"] == "ok" else reason(row)
            line[f"{step} / LSTM"] = interval(row)
        line["verdict"] = rows[lead]["verdict"]
        line |= {"train, MB": rows["train"]["peak_bytes"] / MB, "MB / LSTM": rows["train"]["MB / LSTM"]}
        line["of roofline"] = rows[lead]["share"], rows[lead]["bound"]
        lines.append(line)
    return Sheet(lines, _FORMATS)


_FORMATS: dict[str, Format] = {
    **{f"{step}, ms": significant3 for step in PASSES},
    **{f"{step} / LSTM": with_interval for step in PASSES},
    "train, MB": significant3,
    "MB / LSTM": ratio_text,
    "of roofline": lambda value: f"{percent(value[0])} {value[1]}",
}


def bench_summary(rows: pd.DataFrame) -> Sheet:
    """Table of the implementations that train fastest, by workload."""
    ratios = ["work / LSTM", *(f"/ {name}" for name in ALTERNATIVES), "MB / LSTM"]
    lines = [
        {
            "workload": TITLE.format_map(row),
            "layer norm": row["layer_norm"],
            "fastest": row["implementation"],
            "train, ms": 1e3 * row["median_s"],
            "/ LSTM": interval(row),
            **row.rename({"work": "work / LSTM"})[ratios],
        }
        for _, row in fastest(rows).iterrows()
    ]
    return Sheet(lines, {"train, ms": significant3, "/ LSTM": with_interval, **dict.fromkeys(ratios, ratio_text)})


def headline(rows: pd.DataFrame) -> list[str]:
    """Training time relative to the LSTM and speedup over the fastest alternative timed, a sentence for each workload.

    Covers `QUOTED` in float32 without layer norm; if none of these was timed, all workloads.
    """
    ours = fastest(rows)
    quoted = ours[ours["workload"].isin(QUOTED) & (ours["dtype"] == "float32") & (ours["layer_norm"] == "off")]
    sentences = []
    for _, row in (quoted if len(quoted) else ours).iterrows():
        norm = ", layer norm" if row["layer_norm"] == "on" else ""
        alternatives = row[[f"/ {name}" for name in ALTERNATIVES]].dropna().astype(float)
        speedup = ", and no alternative was timed"
        if len(alternatives):
            name, fast = CALLED[alternatives.idxmax().removeprefix("/ ")], ratio_text(1 / alternatives.max())
            speedup = f", and is {fast} times as fast as with {name}, the fastest alternative timed"
        sentences.append(
            f"{row['workload']} (T {row['T']}, B {row['B']}, {row['dtype']}{norm}): a training step of "
            f"`{row['implementation']}` takes {ratio_text(row['ratio'])} times as long as one of `{BASELINE}`"
            f"{speedup}."
        )
    return sentences


def bench_view(rows: pd.DataFrame) -> dict[str, Sheet]:
    """Tables of a run with the columns that fit a terminal of 80 columns."""
    columns = ["implementation", "forward, ms", "train, ms", "train / LSTM", "verdict", "MB / LSTM"]
    return {
        HEADING.format_map(place.iloc[0]): time_table(place).only(columns)
        for _, place in compared(rows).groupby(PLACE, sort=False)
    }
