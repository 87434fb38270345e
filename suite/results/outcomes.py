"""How checks ended, as the tables of a verification say it, and which of several decides."""

from collections.abc import Sequence
from enum import StrEnum

import pandas as pd


class Verdict(StrEnum):
    """How a check ended."""

    PASS = "pass"
    FAIL = "FAIL"
    #: Of a comparison.
    SKIPPED = "skipped"
    #: Of a planted fault.
    REJECTED = "rejected"
    SURVIVED = "SURVIVED"
    #: Of a capability: it is refused with a sentence, or needs too much memory.
    NO = "no"
    #: Of a planted fault or a capability.
    NOT_RUN = "not run"


def ran(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of verify.csv of comparisons that ran, or crashed."""
    those: pd.DataFrame = rows[rows["verdict"] != Verdict.SKIPPED]
    return those


def deciding(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Of the rows of verify.csv with the same columns `by` the one that decides.

    That is a failure, else a comparison that ran, and of these the one with the largest error. A case that only a GPU
    runs is skipped without one, but may have run in Triton's interpreter.
    """
    order = [Verdict.SKIPPED, Verdict.PASS, Verdict.FAIL]
    ranked = rows.assign(rank=rows["verdict"].map(order.index))
    ranked = ranked.sort_values(["rank", "ratio"], na_position="first", kind="stable")
    return ranked.drop_duplicates([*by], keep="last").drop(columns="rank")
