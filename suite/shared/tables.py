"""The tables of a machine's results, as `tables.toml` declares them: CSV files, read and written by pandas."""

import platform
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from suite.shared import machine, provenance, submission
from suite.shared.cases import ORDER, WORKLOADS, Case
from suite.shared.files import ResultsError, write_whole

#: Names of what is timed.
PASSES = ("forward", "train")
_DECLARED = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
#: Columns that `put` adds to every row: where and when it was made, and with which code.
STAMP: Sequence[str] = _DECLARED["stamp"]
#: By column, what a column means whose name does not say it.
MEANING: Mapping[str, str] = _DECLARED["meaning"]
#: Columns of hexadecimal digits, which would be read as numbers where all are below ten or one is an e.
_HASHES = ("commit", "sources")
#: By column of a key, its values in order. Rows with other values are about what no longer exists, and are dropped.
#: `suite/conftest.py` adds those that only the checks know.
VALUES: dict[str, Sequence[str]] = {
    "implementation": ORDER,
    "dtype": ("float64", "float32", "tf32", "bfloat16", "float16"),
    "layer_norm": ("off", "on"),
    "pass": PASSES,
    "workload": list(WORKLOADS),
}


@dataclass(frozen=True)
class Table:
    """A result file of a machine, `<name>.csv`; see `tables.toml` for the fields."""

    name: str
    key: Sequence[str]
    columns: Sequence[str]

    def path(self, folder: Path) -> Path:
        return folder / f"{self.name}.csv"

    def read(self, where: Path) -> pd.DataFrame:
        """Rows of a file, or of a machine's folder, none without a file; ResultsError if it is damaged."""
        path = where if where.is_file() else self.path(where)
        if not path.exists():
            return pd.DataFrame()
        try:
            rows = pd.read_csv(path, dtype=dict.fromkeys(_HASHES, str))
            columns = [*self.columns, *STAMP]
            if missing := [column for column in (*self.key, *STAMP) if column not in rows]:
                raise ValueError(f"expected the column {missing[0]}, got {', '.join(rows) or 'none'}")
            if unknown := [column for column in rows if column not in columns]:
                raise ValueError(f"expected columns that tables.toml lists, got {', '.join(unknown)}")
        except (OSError, ValueError) as error:  # errors of decoding and of pandas are ValueErrors
            reason = " ".join(str(error).split()).rstrip(".")
            advice = "it is damaged or of an earlier format, so move it away; nothing was written over it"
            raise ResultsError(f"{path}, {reason}: {advice}.") from error
        return rows.reindex(columns=columns)

    def put(self, folder: Path, rows: Iterable[Mapping[str, Any]], device: torch.device) -> None:
        """Stamp rows that this process or its child made, and `replace`."""
        self.replace(folder, [{**row, **stamp(device, row.get("implementation", ""))} for row in rows])

    def replace(self, folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
        """Put stamped rows into the file, in which they replace the rows of the same key.

        ValueError names undeclared columns, or the key of two rows.
        """
        columns, new, old = [*self.columns, *STAMP], pd.DataFrame(list(rows)), self.read(folder)
        if new.empty:
            return
        if unknown := [column for column in new if column not in columns]:
            raise ValueError(f"{self.name}: expected columns that tables.toml lists, got {', '.join(unknown)}")
        new, key = new.reindex(columns=columns), list(self.key)
        if len(twice := new[new.duplicated(key)]):
            raise ValueError(f"{self.name}: expected one row of each key, got two of {twice[key].iloc[0].to_dict()}")
        for column in set(VALUES) & set(self.key) if len(old) else ():
            known = [*VALUES[column], *submission.files()]
            old = old[old[column].isin(known) | old[column].isna()]  # rows of what did not run may lack it
        filled = [each.dropna(axis=1, how="all") for each in (old, new)]
        both = pd.concat(filled, ignore_index=True).reindex(columns=columns).drop_duplicates(key, keep="last")
        ranked = both.sort_values(key, key=_ranks, kind="stable")
        written = [column for column in columns if column in self.key or ranked[column].notna().any()]
        write_whole(self.path(folder), ranked.to_csv(columns=written, index=False))


def _ranks(column: pd.Series) -> pd.Series:
    """Numbers to sort a column by: its own, or the places of its values, of which those without one come last."""
    if pd.api.types.is_numeric_dtype(column):
        return column
    order = dict.fromkeys([*VALUES.get(str(column.name), ()), *column])
    return column.map({value: rank for rank, value in enumerate(order)})


def about_pass(case: Case, implementation: str, dtype: str, name: str) -> dict[str, Any]:
    """Columns that describe a row of the benchmark; name: the pass."""
    paper = WORKLOADS[case.name]
    cut = [f"{n} {getattr(case, n)} of {getattr(paper, n)}" for n in "TB" if getattr(case, n) != getattr(paper, n)]
    return {
        "workload": case.name,
        **{n: getattr(case, n) for n in "TBIHSZL"},
        "layer_norm": "on" if case.layer_norm else "off",
        "implementation": implementation,
        "dtype": dtype,
        "shortened": ", ".join(cut),
        "tokens": case.tokens,
        "pass": name,
    }


def stamp(device: torch.device, implementation: str) -> dict[str, Any]:
    """Columns that say where and when a row was made, and with which code."""
    return {
        "device": device.type,
        "processor": machine.name(device),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": provenance.commit(),
        "sources": provenance.sources(implementation),
    }


def folder_of(results: Path, device: torch.device) -> Path:
    """Folder of this machine's results; ResultsError if one of its files is damaged."""
    folder = results / machine.slug(device)
    for each in TABLES.values():
        each.read(folder)
    return folder


TABLES = {name: Table(name, **declared) for name, declared in _DECLARED["tables"].items()}
