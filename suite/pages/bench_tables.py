"""Figures and tables of the benchmark: times, memory, and their ratios to torch.nn.LSTM."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from impls import names
from impls.registry import find
from suite.pages.page import Format, Sheet
from suite.shared import submission
from suite.shared.cases import ALTERNATIVES, BASELINE, PADDED
from suite.shared.format import MB, NONE, percent, ratio_text, significant3, with_interval
from suite.shared.statistics import FEWEST, interval, quotient
from suite.shared.status import Status
from suite.shared.tables import PASSES, STAMP, TABLES

#: Columns that make a place, at which candidates are compared; and its title, without layer norm and with it.
PLACE = ["dtype", "workload", "T", "B", "layer_norm"]
TITLE = "{workload}, T {T}, B {B}, {dtype}"
HEADING = TITLE + ", layer norm {layer_norm}"
#: Workloads that the headline quotes, without layer norm, and by kind of device its dtype, the first that was timed.
QUOTED = ("medium", "char-ptb")
DTYPES = {"cpu": ("float32",), "cuda": ("bfloat16", "float32")}
#: Names of alternatives in sentences; implementations have their own.
CALLED = {"compiled": "torch.compile", "labml": "labml", "jax": "JAX"}
_FIGURES = ["ratio", "ratio_low", "ratio_high", "median_s", "peak_bytes", "share", "work"]


def compared(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of what can run here, without figures where the status is not ok, and with columns that compare them.

    torch.nn.LSTM, padded or not, has no layer norm and is at both places of a workload, or at the only one.

    floor: the noise floor, how far the interval of torch.nn.LSTM against itself reaches from 1; NaN without one.
    verdict: whether it is faster or slower than torch.nn.LSTM. "/ NAME": ratios of times to the alternatives.
    "/ padded": to torch.nn.LSTM on a padded batch, where that is faster than on packed sequences.
    "MB / LSTM": ratio of the peak memory to that of torch.nn.LSTM.
    """
    rows = rows.reindex(columns=[*TABLES["bench"].columns, *STAMP])
    rows = rows[rows["status"] != Status.NOT_RUN]
    norm, baseline = rows["layer_norm"] == "on", rows["implementation"].isin((BASELINE, PADDED))
    has_norm, has_others = (
        each.groupby([rows[column] for column in PLACE[:-1]]).transform("any") for each in (norm, ~norm & ~baseline)
    )
    alone = rows[~(baseline & has_norm & ~has_others)]
    rows = pd.concat([alone, rows[baseline & has_norm].assign(layer_norm="on")], ignore_index=True)
    rows = rows.astype(dict.fromkeys([*_FIGURES, "busy"], float))
    rows.loc[rows["status"] != Status.OK, _FIGURES] = np.nan
    low, high = (_beside(rows, BASELINE, f"ratio_{end}") for end in ("low", "high"))
    rows["floor"] = np.maximum(high, 1 / low) - 1
    against_itself = _beside(rows, BASELINE, "ratio").notna()
    rows["verdict"] = [_verdict(row, aa) for (_, row), aa in zip(rows.iterrows(), against_itself, strict=True)]
    for name in ALTERNATIVES:
        rows[f"/ {name}"] = rows["ratio"] / _beside(rows, name, "ratio")
    padded = _beside(rows, PADDED, "ratio")
    rows["/ padded"] = (rows["ratio"] / padded).where(padded < 1)
    rows["MB / LSTM"] = rows["peak_bytes"] / _beside(rows, BASELINE, "peak_bytes")
    return rows


def _beside(rows: pd.DataFrame, name: str, column: str) -> pd.Series:
    """For each row, the value of a column in the row of another candidate at the same place and of the same pass."""
    where = [*PLACE, "pass"]
    values = rows[rows["implementation"] == name].set_index(where)[column]
    beside: pd.Series = values.reindex(pd.MultiIndex.from_frame(rows[where])).set_axis(rows.index)
    return beside


def _verdict(row: pd.Series, against_itself: bool) -> str:
    """`faster` or `slower` than the baseline if the whole interval is beyond the noise floor.

    against_itself: whether the baseline was timed against itself at the place of the row.
    """
    if pd.isna(row["ratio"]):
        return NONE
    if pd.isna(row["ratio_low"]):
        return "few visits"
    if pd.isna(row["floor"]):
        return "few A/A visits" if against_itself else "no A/A run"
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
    reasons = rows["detail"][rows["status"] == Status.NOT_RUN].unique() if len(rows) else ()
    return [f"Not timed: {reason}" for reason in reasons]


def time_table(place: pd.DataFrame) -> Sheet:
    """Table of times, ratios and memory, a line for each candidate; place: rows of `compared` at one place."""
    lead, lines = leading(place), []
    for name, own in place.groupby("implementation", sort=False):
        line: dict[str, Any] = {"implementation": name}
        rows = {row["pass"]: row for _, row in own.iterrows()}
        for step, row in rows.items():
            line[f"{step}, ms"] = 1e3 * row["median_s"] if row["status"] == Status.OK else row["status"]
            line[f"{step} / LSTM"] = interval(row)
            if step == lead:  # beside the figure that it judges
                line |= {"verdict": row["verdict"], f"{step} / padded": row["/ padded"]}
        most = "train" if "train" in rows else "forward"
        line |= {f"{most}, MB": rows[most]["peak_bytes"] / MB, "MB / LSTM": rows[most]["MB / LSTM"]}
        line["of roofline"] = rows[lead]["share"], rows[lead]["bound"]
        line["busy"] = rows[lead]["busy"]
        lines.append(line)
    return Sheet(lines, _FORMATS)


def leading(place: pd.DataFrame) -> str:
    """The pass that counts at a place: forward of one sequence alone, as a model serves it, or without training."""
    return "forward" if place["B"].iloc[0] == 1 or "train" not in set(place["pass"]) else "train"


_FORMATS: dict[str, Format] = {
    **{f"{step}, ms": significant3 for step in PASSES},
    **{f"{step} / LSTM": with_interval for step in PASSES},
    **{f"{step} / padded": ratio_text for step in PASSES},
    **{f"{step}, MB": significant3 for step in PASSES},
    "MB / LSTM": ratio_text,
    "of roofline": lambda value: f"{percent(value[0])} {value[1]}",
    "busy": percent,
}


def bench_summary(rows: pd.DataFrame) -> Sheet:
    """Table of the implementations that train fastest, by workload."""
    ratios = ["work / LSTM", *(f"/ {name}" for name in ALTERNATIVES), "/ padded", "MB / LSTM"]
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


def quoted(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of `fastest` that the headline is about: QUOTED in the dtype of the device; without these, all rows."""
    ours = fastest(rows)
    if ours.empty:
        return ours
    ours = ours.assign(order=ours["dtype"].map({dtype: n for n, dtype in enumerate(DTYPES[rows["device"].iloc[0]])}))
    chosen = ours[ours["workload"].isin(QUOTED) & (ours["layer_norm"] == "off") & ours["order"].notna()]
    return chosen[chosen["order"] == chosen["order"].min()] if len(chosen) else ours


def headline(rows: pd.DataFrame) -> list[str]:
    """Training time relative to the LSTM and speedup over the fastest alternative, a sentence for each row of `quoted`.

    Rows without an interval, or from a busy machine, have none.
    """
    every = compared(rows)
    return [
        f"{_where(row)}: a training step of `{row['implementation']}` takes {_slowdown(row, every)}, "
        f"and {_speedup(row, every)}."
        for _, row in quoted(rows).iterrows()
        if _known(row)
    ]


def summary(rows: pd.DataFrame) -> list[str]:
    """The headline, or a sentence that says why there is none."""
    if sentences := headline(rows):
        return sentences
    ours = quoted(rows)
    if ours.empty:
        return ["No implementation was timed in training."]
    if ours["busy"].notna().any():
        return ["No headline: other processes kept the machine busy."]
    return [f"No headline: an interval takes {FEWEST} visits."]


def _known(row: pd.Series) -> bool:
    """True if a row may be quoted: it has an interval, and the machine was not busy."""
    return bool(pd.notna(row["ratio_low"]) and pd.isna(row["busy"]))


def _where(row: pd.Series) -> str:
    norm = ", layer norm" if row["layer_norm"] == "on" else ""
    return f"{row['workload']} (T {row['T']}, B {row['B']}, {row['dtype']}{norm})"


def _slowdown(row: pd.Series, every: pd.DataFrame) -> str:
    """Time relative to the LSTM: on a padded batch where that is faster than on packed sequences."""
    padded = _trained(row, every, [PADDED])
    if pd.notna(row["/ padded"]) and _known(padded.iloc[0]):
        ratio = quotient(interval(row), interval(padded.iloc[0]))
        end = f"one of `{BASELINE}` on the padded batch, which is faster than on packed sequences"
        return f"{with_interval(ratio)} times as long as {end}"
    return f"{with_interval(interval(row))} times as long as one of `{BASELINE}`"


def _speedup(row: pd.Series, every: pd.DataFrame) -> str:
    """Speedup over the fastest of what a user could take instead: our forms under autograd, and what others wrote."""
    forms = [name for name in names() if not (find(name).hand_written or name in submission.files())]
    timed = _trained(row, every, [name for name in (*forms, *ALTERNATIVES) if name != row["implementation"]])
    if timed.empty:
        return "no alternative was timed"
    best = timed.loc[timed["ratio"].idxmin()]
    called = [CALLED.get(name, f"`{name}`") for name in timed["implementation"]]
    name = CALLED.get(best["implementation"], f"`{best['implementation']}`")
    what = f"the fastest alternative timed there (of {', '.join(called)})" if len(called) > 1 else "the only one timed"
    if not _known(best):
        return f"has no interval yet of its speedup over {name}, {what}"
    return f"is {with_interval(quotient(interval(best), interval(row)))} times as fast as with {name}, {what}"


def _trained(row: pd.Series, every: pd.DataFrame, candidates: Sequence[str]) -> pd.DataFrame:
    """Training rows of candidates at the place of a row, which have a figure; every: of `compared`."""
    here = (every[[*PLACE, "pass"]] == row[[*PLACE, "pass"]]).all(axis=1)
    timed: pd.DataFrame = every[here & every["implementation"].isin(candidates) & every["ratio"].notna()]
    return timed


def bench_view(rows: pd.DataFrame) -> dict[str, Sheet]:
    """Tables of a run with the columns that fit a terminal of 80 columns."""
    views = {}
    for _, place in compared(rows).groupby(PLACE, sort=False):
        lead = leading(place)
        times = [f"{step}, ms" for step in PASSES]
        columns = ["implementation", *times, f"{lead} / LSTM", "verdict", f"{lead} / padded", "MB / LSTM", "busy"]
        views[HEADING.format_map(place.iloc[0])] = time_table(place).only(columns)
    return views
