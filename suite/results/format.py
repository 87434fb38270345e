"""How figures and names are written in tables and plots."""

import re
from collections.abc import Mapping, Sequence

import pandas as pd

from suite.results.provenance import stale
from suite.results.statistics import Interval
from suite.results.tables import STAMP, WHOLE

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
    name = re.sub(r"\((R|TM)\)| Processor", "", row["processor"], flags=re.IGNORECASE)
    if row["device"] != "cpu":
        return name
    cores = {1: "one core", 2: "two cores"}.get(row["threads"], f"{row['threads']} cores")
    article = "an" if name[0] in "AEIOU" else "a"
    return f"{cores} of {article} {name}"


def dates(rows: pd.DataFrame) -> str:
    """Day on which rows were measured, or the first and the last of several."""
    first = min(rows["date"])
    last = max(rows["date"])
    return first if first == last else f"{first} to {last}"


def origin(tables: Mapping[str, pd.DataFrame]) -> str:
    """Where and when rows were made, a line for each environment, and which depend on code that has changed since.

    tables: rows by the name of their table.
    """
    columns = [*STAMP, "implementation", "stale"]  # which some tables lack
    parts = []
    for name, rows in tables.items():
        marked = rows.assign(stale=stale(name, rows))
        parts.append(marked.reindex(columns=columns, fill_value=""))
    every = pd.concat(parts, ignore_index=True)
    lines = []
    for _, group in every.groupby(list(ENVIRONMENT), sort=False):
        row = group.iloc[0]
        versions = "torch {torch}, Python {python}, CPU instructions {cpu_capability}".format_map(row)
        commits = _commits(group)
        word = "commit" if len(commits) == 1 else "commits"
        of_commits = f"{word} {' and '.join(commits)}"
        lines.append(f"Made on {machine(row)}, {dates(group)}: {versions}{_used(group)}, {of_commits}.")
    old = every[every["stale"]]
    if len(old):
        names = ", ".join(filter(None, old["implementation"].unique()))
        which = f" (of {names})" if names else ""
        lines.append(f"**Stale**: {len(old)} of {len(every)} rows{which} depend on code that has changed since.")
    return "\n".join(lines)


def _commits(rows: pd.DataFrame) -> list[str]:
    """The commits of rows, and which had changes."""
    made_by = rows[["commit", "dirty"]].drop_duplicates()
    return [
        f"`{commit or 'unknown'}`{' with changes' if dirty else ''}"
        for commit, dirty in made_by.itertuples(index=False)
    ]


def _used(rows: pd.DataFrame) -> str:
    """What some of the rows used, such as ", compiler c++ 12.2"."""
    text = ""
    for column, name in SOFTWARE.items():
        versions = [version for version in rows[column].unique() if version]
        if versions:
            text += f", {name} {' and '.join(versions)}"
    return text
