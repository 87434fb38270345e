"""How checks ended, as the tables of a verification say it, and which of several decides."""

from collections.abc import Sequence
from enum import StrEnum

import pandas as pd


class CaseOutcome(StrEnum):
    """Column `verdict` of verify.csv; of several the last decides."""

    SKIPPED = "skipped"
    PASS = "pass"
    FAIL = "FAIL"

    @classmethod
    def of(cls, *, wrong: bool) -> "CaseOutcome":
        """That of a comparison whose worst judgement is wrong, or right."""
        return cls.FAIL if wrong else cls.PASS


class FaultOutcome(StrEnum):
    """Column `verdict` of faults.csv."""

    REJECTED = "rejected"
    SURVIVED = "SURVIVED"


class CapabilityOutcome(StrEnum):
    """Column `outcome` of capabilities.csv."""

    PASS = "pass"
    #: It is refused with a sentence, or needs too much memory.
    NO = "no"
    FAIL = "FAIL"
    NOT_RUN = "not run"


def ran(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of verify.csv of comparisons that ran, or crashed."""
    those: pd.DataFrame = rows[rows["verdict"] != CaseOutcome.SKIPPED]
    return those


def deciding(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Of the rows of verify.csv with the same columns `by` the one that decides.

    That is a failure, else a comparison that ran, and of these the one with the largest error. A case that only a GPU
    runs is skipped without one, but may have run in Triton's interpreter.
    """
    ranked = rows.assign(rank=rows["verdict"].map([*CaseOutcome].index))
    ranked = ranked.sort_values(["rank", "ratio"], na_position="first", kind="stable")
    return ranked.drop_duplicates([*by], keep="last").drop(columns="rank")
