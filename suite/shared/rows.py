"""Every result file of a machine, as `rows.toml` declares it, and the one way to put rows into it."""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from suite.shared import cases, machine, provenance
from suite.shared.cases import ORDER, TRAINING, WORKLOADS, Case
from suite.shared.results import ResultsError, read, write_whole

#: What is timed, by the names that rows have.
PASSES = ("forward", "train")
#: More cores taken by other processes than this mark a row, which no answer rests on.
BUSY = 0.25

_CASES = (*cases.VERIFY, *cases.RAGGED, *cases.DROPOUT, *cases.VERIFY_TINY, *cases.VERIFY_TILES, cases.LONG)
_DECLARED = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
#: What `put` adds to every row: where and when it was made, and with which code.
STAMP: dict[str, str] = _DECLARED["stamp"]
#: The order of values, by column; others come after these, numbers by size and all else as they came.
VALUES: Mapping[str, Sequence[str]] = {
    "implementation": ORDER,
    "part": ORDER,
    "dtype": ("float64", "float32", "tf32", "bfloat16", "float16"),
    "layer_norm": ("off", "on"),
    "pass": PASSES,
    "case": [TRAINING, *(case.id for case in _CASES)],
    "workload": list(WORKLOADS),
}


@dataclass(frozen=True)
class Table:
    """One result file of a machine: `<name>.csv`.

    key: the columns whose values a row is replaced by, in the order that rows are sorted by.
    columns: by name, what it holds. A row may lack some; a file has those that any of its rows has, and the stamp.
    listed: the columns whose values must still exist: in `VALUES`, or where that says nothing, in what `put` is told.
    newest_last: columns of the key that are sorted by when a value was put last.
    rests_on: whose sources rows without a column `implementation` rest on, by default none of ours.
    """

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, str]
    listed: tuple[str, ...] = ()
    newest_last: tuple[str, ...] = ()
    rests_on: str = ""

    @property
    def is_study(self) -> bool:
        """True if a study writes it."""
        return "kind" in self.columns and "part" in self.columns

    def path(self, folder: Path) -> Path:
        """File in a machine's folder."""
        return folder / f"{self.name}.csv"

    def read(self, folder: Path) -> pd.DataFrame:
        """Rows in a machine's folder, none without a file; ResultsError if it is damaged or of two machines."""
        return self.load(self.path(folder))

    def load(self, path: Path) -> pd.DataFrame:
        """Rows of a file of this kind, see `read`."""
        rows = read(path, [*self.key, *STAMP])
        _of_one_machine(path, rows)
        return rows

    def put(
        self,
        folder: Path,
        rows: Iterable[Mapping[str, Any]],
        device: torch.device,
        listed: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Stamp rows that this process or a child of it made, and put them in place of those with the same key.

        listed: the values that exist, by column, of `listed` columns that `VALUES` does not know.
        ValueError names a column that is not declared; ResultsError what differs if the file is another machine's.
        """
        given = [dict(row) for row in rows]
        unknown = {column for row in given for column in row} - set(self.columns)
        if unknown:
            raise ValueError(f"{self.name}: expected columns declared in suite/shared/rows.toml, got {sorted(unknown)}")
        stamped = [row | stamp(device, row.get("implementation", self.rests_on)) for row in given]
        self.replace(folder, stamped, listed)

    def replace(
        self,
        folder: Path,
        rows: Iterable[Mapping[str, Any]],
        listed: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Put rows that have their stamp in place of those with the same key; see `put`."""
        path, new = self.path(folder), pd.DataFrame(list(rows))
        if new.empty:
            return
        old, order = self.read(folder), {**VALUES, **(listed or {})}
        _of_one_machine(path, pd.concat([old, new]))
        if missing := set(self.listed) - set(order):
            raise ValueError(f"{self.name}: expected the values that there are of {sorted(missing)}, got none")
        for column in self.listed if len(old) else ():
            old = old[old[column].astype(str).isin(list(order[column]))]
        if len(old):
            fresh = set(new[list(self.key)].astype(str).itertuples(index=False, name=None))
            kept = [row not in fresh for row in old[list(self.key)].astype(str).itertuples(index=False, name=None)]
            new = pd.concat([old[kept], new], ignore_index=True) if any(kept) else new
        columns = [column for column in (*self.columns, *STAMP) if column in new]
        write_whole(path, self.ordered(new, listed)[columns].to_csv(index=False))

    def ordered(self, rows: pd.DataFrame, listed: Mapping[str, Sequence[str]] | None = None) -> pd.DataFrame:
        """Rows as a file has them: by the columns of the key, implementations as in ORDER."""
        order: dict[str, Sequence[str]] = {**VALUES, **(listed or {})}

        def ranks(values: pd.Series) -> pd.Series:
            column, words = str(values.name), values.astype(str)
            if column in self.newest_last:
                known = list(words[::-1].drop_duplicates())[::-1]
            elif column not in order and pd.api.types.is_numeric_dtype(values):
                return values
            else:
                known = list(dict.fromkeys([*order.get(column, ()), *words]))
            return words.map({value: place for place, value in enumerate(known)})

        key = [column for column in self.key if column in rows]
        in_order: pd.DataFrame = rows.sort_values(key, key=ranks, kind="stable", ignore_index=True)
        return in_order


def about(case: Case, implementation: str, dtype: str) -> dict[str, Any]:
    """Columns that say what a row of a benchmark or a study is about."""
    return {
        "workload": case.name,
        **{n: getattr(case, n) for n in "TBIHSZL"},
        "layer_norm": "on" if case.layer_norm else "off",
        "implementation": implementation,
        "dtype": dtype,
    }


def about_pass(case: Case, implementation: str, dtype: str, name: str) -> dict[str, Any]:
    """Columns that say what a row of the benchmark is about; `name` is the pass."""
    paper = WORKLOADS[case.name]
    cut = [f"{n} {getattr(case, n)} of {getattr(paper, n)}" for n in "TB" if getattr(case, n) != getattr(paper, n)]
    return about(case, implementation, dtype) | {"shortened": ", ".join(cut), "tokens": case.tokens, "pass": name}


def stamp(device: torch.device, implementation: str) -> dict[str, Any]:
    """Columns that say where and when a row of an implementation was made, and with which code."""
    return machine.environment(device) | provenance.stamp(implementation)


def folder_of(results: Path, device: torch.device) -> Path:
    """Folder of this machine's results; ResultsError if it has rows of another machine, or damaged ones."""
    folder, here = results / machine.slug(device), pd.DataFrame([machine.environment(device)])
    for each in TABLES.values():
        _of_one_machine(each.path(folder), pd.concat([each.read(folder), here]))
    return folder


def _of_one_machine(path: Path, rows: pd.DataFrame) -> None:
    """Raise ResultsError if rows were made on machines that compute differently."""
    for column in machine.told_apart_by(rows["device"].iloc[0]) if len(rows) else ():
        values = list(dict.fromkeys(rows[column].astype(str)))
        if len(values) > 1:
            raise ResultsError(
                f"{path}: expected rows of one machine, got {column} {' and '.join(values)}; nothing was written."
            )


def _table(
    name: str,
    key: list[str],
    columns: dict[str, str],
    groups: tuple[str, ...] = (),
    rests_on: str = "",
    **how: list[str],
) -> Table:
    """Table as `rows.toml` declares it."""
    shared = {column: sentence for group in groups for column, sentence in _DECLARED["groups"][group].items()}
    options = {option: tuple(values) for option, values in how.items()}
    return Table(name, tuple(key), shared | columns, rests_on=rests_on, **options)


#: In the order that their pages are listed in.
TABLES = {name: _table(name, **declared) for name, declared in _DECLARED["tables"].items()}


def table(name: str) -> Table:
    """Table of that name; ValueError lists the names that exist."""
    if name not in TABLES:
        raise ValueError(f"table: expected one of {', '.join(TABLES)}; got {name!r}")
    return TABLES[name]
