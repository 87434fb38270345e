"""Result files of a machine, as `rows.toml` declares them."""

import platform
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from suite.shared import cases, machine, provenance
from suite.shared.cases import ORDER, TRAINING, WORKLOADS, Case
from suite.shared.results import read, write_whole

#: Names of what is timed.
PASSES = ("forward", "train")
#: Rows made while other processes used more cores than this are marked, and in no summary.
BUSY = 0.25

#: Cases of rows about a way to multiply bfloat16, see `test_bfloat16.py`.
MULTIPLIED = [f"multiplied by {way}" for way in ("float32", "avx512_bf16", "amx")]
_CASES = (*cases.VERIFY, *cases.RAGGED, *cases.DROPOUT, *cases.VERIFY_TINY, *cases.VERIFY_TILES, cases.LONG)
_DECLARED = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
#: What `put` adds to every row: where and when it was made, and with which code.
STAMP: dict[str, str] = _DECLARED["stamp"]
#: Order of values, by column; others come after these, numbers by size and the rest in order of appearance. A command
#: that puts rows into a table whose `listed` columns are not here adds them.
VALUES: dict[str, Sequence[str]] = {
    "implementation": ORDER,
    "part": ORDER,
    "dtype": ("float64", "float32", "tf32", "bfloat16", "float16"),
    "layer_norm": ("off", "on"),
    "pass": PASSES,
    "case": [TRAINING, *MULTIPLIED, *(case.id for case in _CASES)],
    "workload": list(WORKLOADS),
}


@dataclass(frozen=True)
class Table:
    """A result file of a machine, `<name>.csv`; see `rows.toml` for the fields."""

    name: str
    key: Sequence[str]
    columns: Mapping[str, str]
    listed: Sequence[str] = ()
    newest_last: Sequence[str] = ()
    rests_on: str = ""
    optional: Sequence[str] = ()

    def path(self, folder: Path) -> Path:
        return folder / f"{self.name}.csv"

    def read(self, folder: Path) -> pd.DataFrame:
        """Rows in a machine's folder, none without a file; ResultsError if it is damaged."""
        return self.load(self.path(folder))

    def load(self, path: Path) -> pd.DataFrame:
        """Rows of a file with all columns; empty without a file."""
        columns = [*self.columns, *STAMP]
        rows = read(path, [column for column in columns if column not in self.optional])
        return rows.reindex(columns=dict.fromkeys([*columns, *rows])) if len(rows) else rows

    def put(self, folder: Path, rows: Iterable[Mapping[str, Any]], device: torch.device) -> None:
        """Stamp rows that this process or its child made, and `replace`; ValueError names undeclared columns."""
        copies = [dict(row) for row in rows]
        unknown = {column for row in copies for column in row} - set(self.columns)
        if unknown:
            raise ValueError(f"{self.name}: expected columns declared in suite/shared/rows.toml, got {sorted(unknown)}")
        self.replace(folder, [row | stamp(device, row.get("implementation", self.rests_on)) for row in copies])

    def replace(self, folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
        """Put rows that have their stamp in place of those with the same key."""
        new, old = pd.DataFrame(list(rows)), self.read(folder)
        if new.empty:
            return
        new = new.reindex(columns=[*dict.fromkeys([*new, *self.key])])  # rows of what did not run may have no key
        if len(old):
            for column in self.listed:
                old = old[old[column].astype(str).isin(list(VALUES[column]))]
            keys = [pd.MultiIndex.from_frame(each[list(self.key)].astype(str)) for each in (old, new)]
            old = old[~keys[0].isin(keys[1])]
        new = pd.concat([old, new], ignore_index=True) if len(old) else new
        columns = [c for c in (*self.columns, *STAMP) if c not in self.optional or (c in new and new[c].notna().any())]
        ordered = new.sort_values(list(self.key), key=self._ranks, kind="stable", ignore_index=True)
        write_whole(self.path(folder), ordered.reindex(columns=columns).to_csv(index=False))

    def _ranks(self, values: pd.Series) -> pd.Series:
        column, words = str(values.name), values.astype(str)
        if column in self.newest_last:
            order = list(words[::-1].drop_duplicates())[::-1]
        elif column not in VALUES and pd.api.types.is_numeric_dtype(values):
            return values
        else:
            order = list(dict.fromkeys([*VALUES.get(column, ()), *words]))
        return words.map({value: place for place, value in enumerate(order)})


def about(case: Case, implementation: str, dtype: str) -> dict[str, Any]:
    """Columns that describe the case of a row of the benchmark or of a study."""
    return {
        "workload": case.name,
        **{n: getattr(case, n) for n in "TBIHSZL"},
        "layer_norm": "on" if case.layer_norm else "off",
        "implementation": implementation,
        "dtype": dtype,
    }


def about_pass(case: Case, implementation: str, dtype: str, name: str) -> dict[str, Any]:
    """Columns that describe a row of the benchmark; name: the pass."""
    paper = WORKLOADS[case.name]
    cut = [f"{n} {getattr(case, n)} of {getattr(paper, n)}" for n in "TB" if getattr(case, n) != getattr(paper, n)]
    return about(case, implementation, dtype) | {"shortened": ", ".join(cut), "tokens": case.tokens, "pass": name}


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


def _table(name: str, declared: dict[str, Any]) -> Table:
    columns: dict[str, str] = {}
    for group in declared.pop("groups", ()):
        columns |= _DECLARED["groups"][group]
    return Table(name, **declared | {"columns": columns | declared["columns"]})


#: In the order that their pages are listed in.
TABLES = {name: _table(name, declared) for name, declared in _DECLARED["tables"].items()}
