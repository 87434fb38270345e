"""How figures and names are written in tables and plots."""

import re
from collections.abc import Sequence

import pandas as pd

from suite.results.statistics import Interval
from suite.results.tables import WHOLE
from suite.shared.devices import DeviceType
from suite.shared.machine import without_trademarks

#: Columns that say where rows were measured; the rows of a page are grouped by them.
ENVIRONMENT = ("device", "processor", "cpu_capability", "threads", "torch", "python")
#: Columns of what only some rows use, and what pages call them.
SOFTWARE = {"compiler": "compiler", "triton": "Triton", "driver": "driver", "cudnn": "cuDNN"}
#: Shown where there is no figure.
NONE = "-"
MB = 1e6


def significant3(value: float) -> str:
    """Figure with three digits, or all digits of its whole part."""
    return f"{value:#.3g}" if 0 < abs(value) < 99.95 else count(value)


def count(value: float) -> str:
    """Whole number with commas between thousands."""
    return f"{value:,.0f}"


def ratio_text(ratio: float) -> str:
    """Ratio with two decimals; with three below 0.1, with one from 10, with none from 100."""
    if ratio >= 10:
        return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.1f}"
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.3f}"


def percent(share: float) -> str:
    """Share in per cent; below 10 % with a decimal."""
    return f"{share:.0%}" if abs(share) >= 0.1 else f"{share:.1%}"


def with_interval(interval: Interval) -> str:
    """Ratio, with its interval if there is one."""
    ratio = ratio_text(interval.ratio)
    if pd.isna(interval.ratio_low):
        return ratio
    return f"{ratio} ({ratio_text(interval.ratio_low)}-{ratio_text(interval.ratio_high)})"


def sizes(row: pd.Series, dims: Sequence[str]) -> str:
    """Sizes of a row, such as "T 50, B 32"."""
    return ", ".join(f"{n} {row[n]:.0f}" for n in dims)


def size_of_whole(row: pd.Series, size: str) -> str:
    """Size of a row of the benchmark, such as "T 10 of 100" where the run shortened the workload, else "T 100"."""
    text = sizes(row, (size,))
    whole = row[WHOLE[size]]
    return text if pd.isna(whole) else f"{text} of {whole:.0f}"


def shortened(row: pd.Series) -> list[str]:
    """The sizes of a row that the run shortened, such as "T 10 of 100"."""
    return [size_of_whole(row, size) for size, column in WHOLE.items() if pd.notna(row[column])]


def machine(row: pd.Series) -> str:
    """Name of the machine of a row, such as "two cores of an AMD EPYC (Zen 4)"."""
    name = re.sub(" Processor", "", without_trademarks(row["processor"]), flags=re.IGNORECASE)
    if row["device"] != DeviceType.CPU:
        return name
    cores = {1: "one core", 2: "two cores"}.get(row["threads"], f"{row['threads']} cores")
    article = "an" if name[0] in "AEIOUaeiou" else "a"
    return f"{cores} of {article} {name}"


def dates(rows: pd.DataFrame) -> str:
    """Day on which rows were measured, or the first and the last of several."""
    first = min(rows["date"])
    last = max(rows["date"])
    return first if first == last else f"{first} to {last}"
