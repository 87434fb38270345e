"""Rows of a benchmark beside one another: at which place they are compared, and what the comparison says.

A place is a setting (a workload at a T and a B, in a dtype) with layer norm or without.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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

#: Layer norm in words.
NORM = {False: "off", True: "on"}
#: Dtypes to quote on each type of device, by preference.
QUOTED_DTYPES = {
    DeviceType.CPU: (Arithmetic.FLOAT32,),
    DeviceType.CUDA: (Arithmetic.BFLOAT16, Arithmetic.FLOAT32),
}
#: Columns without a value where a row has no figures.
_FIGURES = ["ratio", "ratio_low", "ratio_high", "median_s", "peak_bytes", "share", "work"]


def setting(row: pd.Series) -> str:
    """A workload at a T and a B, in a dtype, as tables name it."""
    return f"{row['workload']}, T {row['T']}, B {row['B']}, {row['dtype']}"


def heading(row: pd.Series) -> str:
    """Title of the place of a row."""
    return f"{setting(row)}, layer norm {NORM[row['layer_norm']]}"


def decisive_pass(rows: pd.DataFrame) -> Pass:
    """The pass whose ratio is judged: forward if all rows have B = 1, as a model serves, or none is of training."""
    alone = (rows["B"] == 1).all()
    trains = (rows["pass"] == Pass.TRAIN).any()
    return Pass.TRAIN if trains and not alone else Pass.FORWARD


@dataclass(frozen=True)
class Benchmark:
    """Rows of a benchmark, beside one another.

    rows: of what can run here, without figures where the status is not ok, and with columns that compare them.
        The rows of `torch.nn.LSTM`, padded or not, which has no layer norm, are repeated at the place with layer norm
        wherever candidates were timed there.

        - floor: the noise floor, how far the interval of `torch.nn.LSTM` against itself reaches from 1; NaN without it.
        - verdict: of `_verdict`; None where the row has no figures.
        - to_padded: ratio of the time to that of `torch.nn.LSTM` on a padded batch, where that is faster than on packed
          sequences.
        - memory_ratio: of the peak memory to that of `torch.nn.LSTM`.
    unable: what cannot run here, and why in a sentence.
    """

    rows: pd.DataFrame
    unable: Sequence[tuple[str, str]]

    @classmethod
    def of(cls, rows: pd.DataFrame) -> "Benchmark":
        """The benchmark of rows of bench.csv."""
        not_run = rows["status"] == Status.NOT_RUN
        unable = rows.loc[not_run, ["implementation", "detail"]].drop_duplicates()
        rows = _at_places(rows[~not_run]).astype(dict.fromkeys(_FIGURES, float))
        rows.loc[rows["status"] != Status.OK, _FIGURES] = np.nan
        high, low = _column_of(rows, BASELINE, "ratio_high"), _column_of(rows, BASELINE, "ratio_low")
        rows = rows.assign(floor=np.maximum(high, 1 / low) - 1)
        padded = _column_of(rows, PADDED, "ratio")
        rows = rows.assign(
            verdict=[_verdict(row) for _, row in rows.iterrows()],
            to_padded=(rows["ratio"] / padded).where(padded < 1),
            memory_ratio=rows["peak_bytes"] / _column_of(rows, BASELINE, "peak_bytes"),
        )
        return cls(rows, list(unable.itertuples(index=False, name=None)))

    def places(self) -> Iterator[pd.DataFrame]:
        """The rows of each place, in the order of the rows."""
        for _, rows in self.rows.groupby(list(PLACE), sort=False):
            yield rows

    def fastest(self) -> pd.DataFrame:
        """The training row of our fastest implementation at each place."""
        ours = self.rows["implementation"].isin(names())
        trains = self.rows["pass"] == Pass.TRAIN
        timed = self.rows[ours & trains & self.rows["ratio"].notna()]
        first: pd.DataFrame = timed.loc[timed.groupby(list(PLACE), sort=False)["ratio"].idxmin()]
        return first

    def quoted(self, device: str) -> pd.DataFrame:
        """Of these the rows of the headline: its workloads, without layer norm, in the dtype that a device quotes."""
        ours = self.fastest()
        of_headline = ours[ours["workload"].isin(QUOTED) & ~ours["layer_norm"]]
        in_dtype = in_quoted_dtype(of_headline, device)
        return in_dtype if len(in_dtype) else ours

    def next_best(self, row: pd.Series) -> pd.Series | None:
        """Row of the fastest alternative at the place and of the pass of a row; None if none was timed."""
        timed = self.at_same_place(row, [name for name in alternatives() if name != row["implementation"]])
        return None if timed.empty else timed.loc[timed["ratio"].idxmin()]

    def at_same_place(self, row: pd.Series, candidates: Sequence[str]) -> pd.DataFrame:
        """Rows with figures of candidates at the place and of the pass of a row."""
        where = [*PLACE, "pass"]
        timed = self.rows[self.rows["implementation"].isin(candidates) & self.rows["ratio"].notna()]
        there: pd.DataFrame = timed[(timed[where] == row[where]).all(axis=1)]
        return there


def in_quoted_dtype(rows: pd.DataFrame, device: str) -> pd.DataFrame:
    """Rows in the first dtype that a device quotes and any row is in."""
    for dtype in QUOTED_DTYPES[DeviceType(device)]:
        in_dtype: pd.DataFrame = rows[rows["dtype"] == dtype]
        if len(in_dtype):
            return in_dtype
    none: pd.DataFrame = rows.iloc[:0]
    return none


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
        return "few visits"
    if pd.isna(row["floor"]):
        return "no noise floor"
    if row["ratio_high"] < 1 / (1 + row["floor"]):
        return "faster"
    if row["ratio_low"] > 1 + row["floor"]:
        return "slower"
    return "undecided"
