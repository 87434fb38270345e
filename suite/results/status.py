"""Whether a row of the benchmark has figures, and if not, why."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import pandas as pd


class Status(StrEnum):
    """Column `status` of the benchmark; pages show figures of rows that are OK alone."""

    OK = "ok"
    #: It cannot run on this machine.
    NOT_RUN = "not run"
    #: It needs more memory at this size than a process may take.
    TOO_LARGE = "too large"
    #: The figures would not be those of a candidate that is right.
    REFUSED = "refused"
    NO_MEMORY = "out of memory"
    TIME_OUT = "time-out"
    FAILED = "failed"


#: Statuses that are errors, which running out of memory is not.
WRONG = (Status.REFUSED, Status.TIME_OUT, Status.FAILED)
#: Most characters of a detail.
LONGEST = 200


class Ended(NamedTuple):
    """How a visit ended, or why there was none; detail: a sentence for people, in the column of this name."""

    status: Status = Status.OK
    detail: str = ""

    @classmethod
    def of(cls, row: Mapping[Any, Any] | pd.Series) -> "Ended":
        """How the visits of a row of the benchmark ended."""
        return cls(Status(row["status"]), row.get("detail", ""))

    @property
    def refused(self) -> bool:
        return self.status == Status.REFUSED

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of a row that ended so."""
        return {"status": self.status, "detail": self.detail[:LONGEST]}

    def __str__(self) -> str:
        return f"{self.status}: {self.detail}" if self.detail else str(self.status)
