"""A run's results: CSV files, and beside them one JSON file that says where, when and with which code all were made."""

import json
import platform
import secrets
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from impls.definition import dtype_name
from suite.results import provenance
from suite.results.columns import COLUMNS, Row
from suite.results.outcomes import Verdict
from suite.shared import machine
from suite.shared.arithmetic import Arithmetic
from suite.shared.files import ResultsError, write_all
from suite.shared.text import in_one_line

#: By run, its tables, the main one first; each is `<table>.csv`, and the rest of the run is `<run>.json`.
TABLES: Mapping[str, Sequence[str]] = {
    "bench": ("bench", "hardware"),
    "verify": ("verify", "faults", "capabilities"),
}
#: By type of a column, what a cell without a value has.
EMPTY = {str: "", bool: False, int: 0, float: float("nan"), tuple: ()}


@dataclass(frozen=True, eq=False)
class Run:
    """The results of one run of `nox -s bench` or `nox -s verify`, and where, when and with which code it was made.

    name: "bench" or "verify". tables: each has all of COLUMNS. sources: hash of all files that the run rests on.
    versions: of what compiles or computes beside torch, by name.
    """

    name: str
    tables: Mapping[str, pd.DataFrame]
    device: str
    processor: str
    cpu_capability: str
    threads: int
    torch: str
    python: str
    date: str
    commit: str
    dirty: bool
    sources: str
    versions: Mapping[str, str]

    @property
    def rows(self) -> pd.DataFrame:
        """Rows of the main table."""
        return self.tables[self.name]

    @property
    def stale(self) -> bool:
        """True if a file that it rests on has changed since."""
        return self.sources != provenance.sources(self.name)

    def write(self, folder: Path) -> None:
        """Write all files in place of those of a run before, or none. ResultsError says why they cannot be written."""
        texts = dict[str, str]()
        for table, rows in self.tables.items():
            several = [column for column, of_type in COLUMNS[table].items() if of_type is tuple]
            written = {
                column: rows[column].map(lambda numbers: " ".join(f"{n:.6g}" for n in numbers)) for column in several
            }
            texts[f"{table}.csv"] = rows.assign(**written).to_csv(index=False)
        about = {field: value for field, value in vars(self).items() if field not in ("name", "tables")}
        about["files"] = {name: provenance.hash_of({name: text.encode()}) for name, text in texts.items()}
        texts[f"{self.name}.json"] = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
        write_all(folder, texts)


def new_run(name: str, device: torch.device, tables: Mapping[str, Iterable[Row] | pd.DataFrame]) -> Run:
    """A run of these rows, made now and here; ValueError names a column that none of its tables has."""
    frames = dict[str, pd.DataFrame]()
    for table in TABLES[name]:
        rows = tables.get(table, ())
        frames[table] = frame(table, rows.to_dict("records") if isinstance(rows, pd.DataFrame) else rows)
    commit, dirty = provenance.commit()
    return Run(
        name,
        frames,
        device=device.type,
        processor=machine.name(device),
        cpu_capability=torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads(),
        torch=str(torch.__version__),
        python=platform.python_version(),
        date=datetime.now(UTC).date().isoformat(),
        commit=commit,
        dirty=dirty,
        sources=provenance.at_start(name),
        versions=machine.versions(device),
    )


def read(folder: Path, name: str) -> Run | None:
    """The run of that name in a folder, None without any of its files; ResultsError names one that is damaged."""
    path = folder / f"{name}.json"
    files = [path, *(folder / f"{table}.csv" for table in TABLES[name])]
    if not any(file.exists() for file in files):
        return None
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        hashes = about.pop("files")
        tables = dict[str, pd.DataFrame]()
        for table in TABLES[name]:
            path = folder / f"{table}.csv"
            if provenance.hash_of({path.name: path.read_bytes()}) != hashes[path.name]:
                raise ValueError(f"damaged, or not of the run that {name}.json is of")
            tables[table] = _read(table, path)
        path = folder / f"{name}.json"
        return Run(name, tables, **about)
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        # Errors of decoding, of JSON and of pandas are ValueErrors.
        reason = error.strerror if isinstance(error, OSError) else in_one_line(error).rstrip(".")
        raise ResultsError(f"{path}: {reason}. Take it from git again, or run nox -s {name} again.") from error


def _read(table: str, path: Path) -> pd.DataFrame:
    types = COLUMNS[table]
    words: dict[Hashable, type[str]] = {name: str for name, of_type in types.items() if of_type in (str, tuple)}
    # An implementation may be called "null". Columns that a run wrote before and none reads now are left out.
    rows = pd.read_csv(path, usecols=types.__contains__, dtype=words, keep_default_na=False, na_values=[""])
    for column, of_type in types.items():
        if of_type is tuple and column in rows:
            rows[column] = [tuple(map(float, text.split())) if isinstance(text, str) else () for text in rows[column]]
    return frame(table, rows.to_dict("records"))


def frame(table: str, rows: Iterable[Mapping[Any, Any]]) -> pd.DataFrame:
    """Rows with every column of a table, and what EMPTY has where a row lacks one; ValueError names another column."""
    rows = list(rows)
    unknown = {*()}.union(*rows) - COLUMNS[table].keys()
    if unknown:
        raise ValueError(f"{table}: expected columns of suite/results/columns.py, got {', '.join(sorted(unknown))}")
    columns = dict[str, pd.Series]()
    for column, of_type in COLUMNS[table].items():
        values = [row.get(column) for row in rows]
        absent = [value is None or (isinstance(value, float) and value != value) for value in values]
        empty = EMPTY[of_type]
        cells = [empty if none else value for value, none in zip(values, absent, strict=True)]
        columns[column] = pd.Series(cells, dtype=object if of_type in (str, tuple) else of_type)
    return pd.DataFrame(columns)


def folder_of(results: Path, device: torch.device) -> Path:
    """Folder of this machine's results."""
    return results / machine.slug(device)


def folder_for(results: Path, device: torch.device, *, whole: bool) -> Path:
    """Where a run writes: the machine's folder if it is whole, else one of its own, which git ignores."""
    folder = folder_of(results, device)
    if whole:
        return folder
    return folder / "raw" / f"{datetime.now(UTC):%Y-%m-%d-%H%M%S}-{secrets.token_hex(2)}"


def red(verify: Run | None, implementation: str, dtype: str) -> bool:
    """True if a comparison of an implementation failed in a dtype, with this torch."""
    if verify is None or verify.torch != str(torch.__version__):
        return False
    dtypes = {dtype, dtype_name(Arithmetic(dtype).dtype)}  # what is wrong in float32 is wrong in TF32
    rows = verify.rows
    of_both = (rows["implementation"] == implementation) & rows["dtype"].isin(dtypes)
    return bool((rows["verdict"][of_both] == Verdict.FAIL).any())
