"""How rows of a benchmark compare: with `torch.nn.LSTM` beside them, with one another, and which of them are quoted.

A place is a setting (a workload at a T and a B, in a dtype) with layer norm or without; rows of one place are compared.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from impls import names
from suite.candidates.catalogue import alternatives
from suite.candidates.names import BASELINE, BASELINES, PADDED
from suite.cases.workloads import QUOTED, Pass
from suite.results.columns import PLACE, SETTING
from suite.results.status import Status
from suite.shared.arithmetic import Arithmetic
from suite.shared.devices import DeviceType

#: Dtypes to quote on each type of device, by preference.
QUOTED_DTYPES = {
    DeviceType.CPU: (Arithmetic.FLOAT32,),
    DeviceType.CUDA: (Arithmetic.BFLOAT16, Arithmetic.FLOAT32),
}
#: The verdict of a row without an interval.
FEW_VISITS = "few visits"
#: Columns without a value where a row has no figures.
_FIGURES = ["ratio", "ratio_low", "ratio_high", "median_s", "peak_bytes", "share", "work"]


def ranked(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of bench.csv that can run here, without figures where the status is not ok, with columns that compare them.

    - floor: the noise floor, how far the interval of `torch.nn.LSTM` against itself reaches from 1; NaN without it.
    - verdict: of `_verdict`; None where the row has no figures.
    - to_padded: ratio of the time to that of `torch.nn.LSTM` on a padded batch, where that is faster than on packed
      sequences.
    - memory_ratio: of the peak memory to that of `torch.nn.LSTM`.

    The rows of `torch.nn.LSTM`, padded or not, which has no layer norm, are repeated at the place with layer norm
    wherever candidates were timed there.
    """
    rows = _at_places(rows[rows["status"] != Status.NOT_RUN]).astype(dict.fromkeys(_FIGURES, float))
    rows.loc[rows["status"] != Status.OK, _FIGURES] = np.nan
    high, low = _column_of(rows, BASELINE, "ratio_high"), _column_of(rows, BASELINE, "ratio_low")
    rows = rows.assign(floor=np.maximum(high, 1 / low) - 1)
    padded = _column_of(rows, PADDED, "ratio")
    return rows.assign(
        verdict=[_verdict(row) for _, row in rows.iterrows()],
        to_padded=(rows["ratio"] / padded).where(padded < 1),
        memory_ratio=rows["peak_bytes"] / _column_of(rows, BASELINE, "peak_bytes"),
    )


def unable(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Candidates among rows of bench.csv that cannot run here, and why in a sentence."""
    not_run = rows.loc[rows["status"] == Status.NOT_RUN, ["implementation", "detail"]].drop_duplicates()
    return list(not_run.itertuples(index=False, name=None))


def places(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The rows of each place, in the order of the rows."""
    for _, of_place in rows.groupby(list(PLACE), sort=False):
        yield of_place


def decisive_pass(rows: pd.DataFrame) -> Pass:
    """The pass whose ratio is judged: forward if all rows have B = 1, as a model serves, or none is of training."""
    alone = (rows["B"] == 1).all()
    trains = (rows["pass"] == Pass.TRAIN).any()
    return Pass.TRAIN if trains and not alone else Pass.FORWARD


def fastest(rows: pd.DataFrame) -> pd.DataFrame:
    """The training row of our fastest implementation at each place."""
    ours = rows["implementation"].isin(names())
    timed = rows[ours & (rows["pass"] == Pass.TRAIN) & rows["ratio"].notna()]
    first: pd.DataFrame = timed.loc[timed.groupby(list(PLACE), sort=False)["ratio"].idxmin()]
    return first


def quoted(rows: pd.DataFrame, device: str, workloads: Sequence[str] = QUOTED) -> pd.DataFrame:
    """Training rows of workloads without layer norm, in the first dtype that the device quotes and one of them has."""
    rows = rows[rows["workload"].isin(workloads) & ~rows["layer_norm"] & (rows["pass"] == Pass.TRAIN)]
    timed = [dtype for dtype in QUOTED_DTYPES[DeviceType(device)] if (rows["dtype"] == dtype).any()]
    in_dtype: pd.DataFrame = rows[rows["dtype"].isin(timed[:1])]
    return in_dtype


def next_best(row: pd.Series, rows: pd.DataFrame) -> pd.Series | None:
    """Row of the fastest alternative at the place and of the pass of a row; None if none was timed."""
    timed = at_same_place(row, [name for name in alternatives() if name != row["implementation"]], rows)
    return None if timed.empty else timed.loc[timed["ratio"].idxmin()]


def at_same_place(row: pd.Series, candidates: Sequence[str], rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with figures of candidates at the place and of the pass of a row."""
    where = [*PLACE, "pass"]
    timed = rows[rows["implementation"].isin(candidates) & rows["ratio"].notna()]
    there: pd.DataFrame = timed[(timed[where] == row[where]).all(axis=1)]
    return there


def _at_places(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with those of the baselines, which have no layer norm, at each place of their setting."""
    stay = []
    with_norm = []
    for _, of_setting in rows.groupby(list(SETTING), sort=False):
        is_baseline = of_setting["implementation"].isin(BASELINES)
        baselines = of_setting[is_baseline]
        candidates = of_setting[~is_baseline]
        norms = set(candidates["layer_norm"])
        if True in norms:
            with_norm.append(baselines.assign(layer_norm=True))
        stay.append(candidates if norms == {True} else of_setting)
    return pd.concat([*stay, *with_norm], ignore_index=True) if stay else rows


def _column_of(rows: pd.DataFrame, name: str, column: str) -> pd.Series:
    """For each row, the value of a column in the row of another candidate at the same place and of the same pass."""
    where = [*PLACE, "pass"]
    of_other = rows.loc[rows["implementation"] == name, [*where, column]]
    of_rows: pd.Series = rows[where].merge(of_other, how="left", on=where, validate="many_to_one")[column]
    return of_rows.set_axis(rows.index)


def _verdict(row: pd.Series) -> str | None:
    """Faster or slower than the baseline if the whole interval is beyond the noise floor, or why that is not known."""
    if pd.isna(row["ratio"]):
        return None
    if pd.isna(row["ratio_low"]):
        return FEW_VISITS
    if pd.isna(row["floor"]):
        return "no noise floor"
    if row["ratio_high"] < 1 / (1 + row["floor"]):
        return "faster"
    if row["ratio_low"] > 1 + row["floor"]:
        return "slower"
    return "undecided"
