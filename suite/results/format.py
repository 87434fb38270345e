"""How figures and names are written in tables and plots."""

import re
from collections.abc import Sequence

import pandas as pd

from suite.results.columns import WHOLE
from suite.results.run import Run
from suite.results.statistics import Interval
from suite.shared.devices import DeviceType
from suite.shared.machine import without_trademarks

#: Shown where there is no figure.
NONE = "-"
MB = 1e6
#: Layer norm in words.
NORM = {False: "off", True: "on"}


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


def setting(row: pd.Series) -> str:
    """A workload at a T and a B, in a dtype, as tables name it."""
    return f"{row['workload']}, T {row['T']}, B {row['B']}, {row['dtype']}"


def heading(row: pd.Series) -> str:
    """Title of the place of a row."""
    return f"{setting(row)}, layer norm {NORM[row['layer_norm']]}"


def machine(run: Run) -> str:
    """Name of the machine of a run, such as "two cores of an AMD EPYC (Zen 4)"."""
    name = re.sub(" Processor", "", without_trademarks(run.processor), flags=re.IGNORECASE)
    if run.device != DeviceType.CPU:
        return name
    cores = {1: "one core", 2: "two cores"}.get(run.threads, f"{run.threads} cores")
    article = "an" if name[0] in "AEIOUaeiou" else "a"
    return f"{cores} of {article} {name}"


def origin(run: Run) -> str:
    """Where, when and with which code a run was made, a sentence."""
    of_code = f"commit {run.commit or 'unknown'}{' with changes' if run.dirty else ''}"
    versions = "".join(f", {name} {version}" for name, version in run.versions.items())
    return (
        f"Made on {machine(run)}, {run.date}, by {of_code}: torch {run.torch}, Python {run.python}, CPU "
        f"instructions {run.cpu_capability}{versions}."
    )
