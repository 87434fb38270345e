"""Rows of a benchmark beside one another: at which place they are compared, and what the comparison says.

A place is a setting (a workload at a T and a B, in a dtype) with layer norm or without.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from impls import names
from suite.candidates.names import BASELINE, BASELINES, PADDED
from suite.cases.workloads import QUOTED, Pass
from suite.results.names import TableName
from suite.results.status import Status
from suite.results.tables import TABLES, Table
from suite.shared.arithmetic import Arithmetic
from suite.shared.devices import DeviceType


class Setting(NamedTuple):
    """A workload at a T and a B, in a dtype, as tables name it."""

    workload: str
    T: int
    B: int
    dtype: str

    @classmethod
    def of(cls, row: pd.Series) -> "Setting":
        """The setting of a row."""
        return cls(row["workload"], row["T"], row["B"], row["dtype"])

    def __str__(self) -> str:
        return f"{self.workload}, T {self.T}, B {self.B}, {self.dtype}"


class Verdict(StrEnum):
    """Whether a candidate is faster or slower than `torch.nn.LSTM`, or why that is not known."""

    FASTER = "faster"
    SLOWER = "slower"
    #: The interval reaches into the noise floor.
    UNDECIDED = "undecided"
    FEW_VISITS = "few visits"
    #: Of `torch.nn.LSTM` against itself.
    FEW_BASELINE_VISITS = "few A/A visits"
    NO_BASELINE = "no A/A run"


class Unable(NamedTuple):
    """An implementation that cannot run here, and why, in a sentence."""

    implementation: str
    reason: str


#: Layer norm in words.
NORM = {False: "off", True: "on"}
#: Dtypes to quote on each type of device, by preference: the first that was timed.
QUOTED_DTYPES = {
    DeviceType.CPU: (Arithmetic.FLOAT32,),
    DeviceType.CUDA: (Arithmetic.BFLOAT16, Arithmetic.FLOAT32),
}
#: Columns without a value where a row has no figures.
_FIGURES = ["ratio", "ratio_low", "ratio_high", "median_s", "peak_bytes", "share", "work"]


def heading(row: pd.Series) -> str:
    """Title of the place of a row."""
    return f"{Setting.of(row)}, layer norm {NORM[row['layer_norm']]}"


def decisive_pass(rows: pd.DataFrame) -> Pass:
    """The pass whose ratio is judged: forward if all rows have B = 1, as a model serves, or none is of training."""
    alone = (rows["B"] == 1).all()
    trains = (rows["pass"] == Pass.TRAIN).any()
    return Pass.TRAIN if trains and not alone else Pass.FORWARD


@dataclass(frozen=True)
class Place:
    """Rows of a `Benchmark` at one place: of one workload, T, B, dtype and layer norm, which are compared directly."""

    rows: pd.DataFrame

    @property
    def row(self) -> pd.Series:
        """The first row."""
        first: pd.Series = self.rows.iloc[0]
        return first

    @property
    def heading(self) -> str:
        return heading(self.row)

    @property
    def decisive(self) -> Pass:
        """The pass whose ratio is judged."""
        return decisive_pass(self.rows)


@dataclass(frozen=True)
class Benchmark:
    """Rows of a benchmark, beside one another.

    rows: of what can run here, without figures where the status is not ok, and with columns that compare them.
        The rows of `torch.nn.LSTM`, padded or not, which has no layer norm, are repeated at the place with layer norm
        wherever candidates were timed there.

        - floor: the noise floor, how far the interval of `torch.nn.LSTM` against itself reaches from 1; NaN without it.
        - verdict: a `Verdict`; None where the row has no figures.
        - to_padded: ratio of the time to that of `torch.nn.LSTM` on a padded batch, where that is faster than on packed
          sequences.
        - memory_ratio: of the peak memory to that of `torch.nn.LSTM`.
    unable: what cannot run here, an implementation once for each of its reasons.
    device: type of device; None without rows.
    table: of the rows.
    """

    rows: pd.DataFrame
    unable: Sequence[Unable]
    device: DeviceType | None
    table: Table

    @classmethod
    def of(cls, rows: pd.DataFrame, table: Table = TABLES[TableName.BENCH]) -> "Benchmark":
        """The benchmark of rows of bench.csv, or of another table that has its columns."""
        rows = table.filled(rows)
        device = DeviceType(rows["device"].iloc[0]) if len(rows) else None
        not_run = rows["status"] == Status.NOT_RUN
        unable = [Unable(row["implementation"], row["detail"]) for _, row in rows[not_run].iterrows()]
        rows = _at_places(rows[~not_run], table)
        rows = rows.astype(dict.fromkeys([*_FIGURES, "busy"], float))
        rows.loc[rows["status"] != Status.OK, _FIGURES] = np.nan
        place = table.place
        rows = _with_verdicts(_with_floor(rows, place), place)
        return cls(_with_ratios(rows, place), list(dict.fromkeys(unable)), device, table)

    @cached_property
    def dtypes(self) -> list[str]:
        """The dtypes that its device quotes, first the one in which ours trained a workload of the headline."""
        dtypes = QUOTED_DTYPES[self.device] if self.device else ()
        trained = set(self.of_headline["dtype"])
        return sorted(dtypes, key=lambda dtype: dtype not in trained)

    def places(self) -> Iterator[Place]:
        """The places, in the order of the rows."""
        for _, rows in self.rows.groupby(self.table.place, sort=False):
            yield Place(rows)

    @cached_property
    def fastest(self) -> pd.DataFrame:
        """The training row of our fastest implementation at each place."""
        ours = self.rows["implementation"].isin(names())
        trains = self.rows["pass"] == Pass.TRAIN
        timed = self.rows[ours & trains & self.rows["ratio"].notna()]
        first: pd.DataFrame = timed.loc[timed.groupby(self.table.place, sort=False)["ratio"].idxmin()]
        return first

    @property
    def of_headline(self) -> pd.DataFrame:
        """The rows of `fastest` of workloads that the headline quotes, without layer norm, in every dtype."""
        ours = self.fastest
        without_norm: pd.DataFrame = ours[ours["workload"].isin(QUOTED) & ~ours["layer_norm"]]
        return without_norm

    def trained(self, beside: pd.Series, candidates: Sequence[str]) -> pd.DataFrame:
        """Training rows of candidates at the place of a training row, which have a figure."""
        where = [*self.table.place, "pass"]
        of_candidates = self.rows["implementation"].isin(candidates)
        timed = self.rows[of_candidates & self.rows["ratio"].notna()]
        there: pd.DataFrame = timed[(timed[where] == beside[where]).all(axis=1)]
        return there


def _with_floor(rows: pd.DataFrame, place: Sequence[str]) -> pd.DataFrame:
    low = _beside(rows, place, BASELINE, "ratio_low")
    high = _beside(rows, place, BASELINE, "ratio_high")
    return rows.assign(floor=np.maximum(high, 1 / low) - 1)


def _with_verdicts(rows: pd.DataFrame, place: Sequence[str]) -> pd.DataFrame:
    has_baseline = _beside(rows, place, BASELINE, "ratio").notna()
    verdicts = [_verdict(row, has_baseline[at]) for at, row in rows.iterrows()]
    return rows.assign(verdict=verdicts)


def _with_ratios(rows: pd.DataFrame, place: Sequence[str]) -> pd.DataFrame:
    padded = _beside(rows, place, PADDED, "ratio")
    to_padded = (rows["ratio"] / padded).where(padded < 1)
    memory_ratio = rows["peak_bytes"] / _beside(rows, place, BASELINE, "peak_bytes")
    return rows.assign(to_padded=to_padded, memory_ratio=memory_ratio)


def _at_places(rows: pd.DataFrame, table: Table) -> pd.DataFrame:
    """Rows with those of the baselines, which have no layer norm, at each place of their setting."""
    stay = []
    with_norm = []
    for _, of_setting in rows.groupby(table.setting, sort=False):
        is_baseline = of_setting["implementation"].isin(BASELINES)
        baselines = of_setting[is_baseline]
        candidates = of_setting[~is_baseline]
        norms = set(candidates["layer_norm"])
        if True in norms:
            with_norm.append(baselines.assign(layer_norm=True))
        stay.append(candidates if norms == {True} else of_setting)
    return pd.concat([*stay, *with_norm], ignore_index=True) if stay else rows


def _beside(rows: pd.DataFrame, place: Sequence[str], name: str, column: str) -> pd.Series:
    """For each row, the value of a column in the row of another candidate at the same place and of the same pass."""
    where = [*place, "pass"]
    of_other = rows.loc[rows["implementation"] == name, [*where, column]]
    beside: pd.Series = rows[where].merge(of_other, how="left", on=where, validate="many_to_one")[column]
    return beside.set_axis(rows.index)


def _verdict(row: pd.Series, has_baseline: bool) -> Verdict | None:
    """Faster or slower than the baseline if the whole interval is beyond the noise floor.

    has_baseline: whether the baseline was timed against itself at the place of the row.
    """
    if pd.isna(row["ratio"]):
        return None
    if pd.isna(row["ratio_low"]):
        return Verdict.FEW_VISITS
    if pd.isna(row["floor"]):
        return Verdict.FEW_BASELINE_VISITS if has_baseline else Verdict.NO_BASELINE
    if row["ratio_high"] < 1 / (1 + row["floor"]):
        return Verdict.FASTER
    if row["ratio_low"] > 1 + row["floor"]:
        return Verdict.SLOWER
    return Verdict.UNDECIDED
