"""The tables of a machine's results, as `tables.toml` declares them: CSV files, read and written by pandas."""

import csv
import io
import platform
import tomllib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, date, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from suite.candidates import catalogue, submission
from suite.candidates.names import ORDER
from suite.cases.case import SIZES, Case, Start
from suite.cases.workloads import WORKLOADS, Pass, Workload
from suite.results import provenance
from suite.results.names import TableName
from suite.results.outcomes import CapabilityOutcome, CaseOutcome, FaultOutcome
from suite.results.status import Bound, Status
from suite.shared import machine
from suite.shared.arithmetic import Arithmetic
from suite.shared.devices import DeviceType
from suite.shared.files import ResultsError, write_whole
from suite.shared.machine import Software
from suite.shared.text import in_one_line

_DECLARED = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
#: Columns that `put` adds to every row, and every file has: where and when the row was made, and with which code.
_EVERY_STAMP: Sequence[str] = _DECLARED["stamp"]
#: These, and columns of what the code used, which a file has where some row used it.
STAMP: Sequence[str] = [*_EVERY_STAMP, *_DECLARED["used"]]


def _of_case(*types: object) -> list[str]:
    """The columns of a case whose fields are of some types."""
    return [of_case.name for of_case in fields(Case) if of_case.type in types]


_TEXTS: list[str] = [*_DECLARED["texts"], *_of_case(Start)]
_NUMBERS: list[str] = [*_DECLARED["numbers"], *_of_case(int, float)]
_FLAGS: list[str] = [*_DECLARED["flags"], *_of_case(bool)]
#: Columns with several numbers and the type of these: a tuple in a row, and numbers between spaces in a file.
_SEVERAL: Mapping[str, type[int] | type[float]] = {
    **dict.fromkeys(_DECLARED["of_visits"], float),
    **dict.fromkeys(_of_case(tuple[int, ...]), int),
}
#: By column, the words in it in all tables that have it.
_IN_EVERY_TABLE: Mapping[str, type[StrEnum]] = {"device": DeviceType, "dtype": Arithmetic}
#: By table and column, further ones.
_ENUMERATIONS: Mapping[TableName, Mapping[str, type[StrEnum]]] = {
    TableName.BENCH: {"status": Status, "pass": Pass, "bound": Bound},
    TableName.VERIFY: {"verdict": CaseOutcome},
    TableName.FAULTS: {"verdict": FaultOutcome},
    TableName.CAPABILITIES: {"outcome": CapabilityOutcome},
}
#: Columns of words in which a row without figures has none.
_MAY_BE_EMPTY = ("bound",)
#: By column, what a column means whose name does not say it.
MEANING: Mapping[str, str] = _DECLARED["meaning"]
#: A row stays if a later one of the same code and environment has fewer than this share of its visits.
FEWER = 0.5
#: Of the stamp, what differs between runs of the same code in the same environment.
_OF_A_RUN = ("date", "commit", "dirty")
#: By size that a run of the benchmark may shorten, the column with that of the whole workload.
WHOLE = {"T": "whole_T", "B": "whole_B"}
#: A row of a table, by column.
Row = dict[str, Any]
#: Values of columns of a key, in order. Rows with other values are about what no longer exists, and are dropped.
Values = Mapping[str, Sequence[str]]
#: Of the rows of a file, the ones that may stay beside new ones.
Stays = Callable[[pd.DataFrame], pd.DataFrame]
#: The values of every run; a verification has more, which only the checks know.
VALUES: Values = {
    "implementation": ORDER,
    "dtype": [*Arithmetic],
    "pass": [*Pass],
    "workload": list(WORKLOADS),
}


@dataclass(frozen=True)
class Table:
    """A result file of a machine, `<name>.csv`; see `tables.toml` for the fields."""

    name: TableName
    key: Sequence[str]
    columns: Sequence[str]
    #: Of a benchmark, the columns of the key that tell settings apart; of named sizes these are of the case.
    setting: Sequence[str] = ()
    #: By column of words, what they are of.
    enumerations: Mapping[str, type[StrEnum]] = field(default_factory=dict)
    #: Rows are of visits: one that knows its figure worse than an earlier one does not replace it.
    of_visits: bool = False
    #: By column of the key, the flag of rows that may have any value there.
    free_if: Mapping[str, str] = field(default_factory=dict)
    #: Rows are of the CPU, whichever device a run checks.
    on_cpu: bool = False
    #: Rows are results of the project, other than those at sizes that a person named, which git ignores.
    of_project: bool = True

    @property
    def place(self) -> list[str]:
        """Columns of a benchmark that make a place, at which candidates are compared."""
        return [*self.setting, "layer_norm"]

    def path(self, folder: Path) -> Path:
        return folder / f"{self.name}.csv"

    def key_of(self, row: Mapping[Any, Any]) -> tuple[Hashable, ...]:
        """Values of the columns that identify a row."""
        return _values(row, self.key)

    def read(self, where: Path) -> pd.DataFrame:
        """Rows of a file, or of a machine's folder, none without a file; ResultsError if it is damaged."""
        path = where if where.is_file() else self.path(where)
        if not path.exists():
            return pd.DataFrame()
        try:
            with path.open(encoding="utf-8", newline="") as file:
                return self._checked(_parsed(file.read()))
        except (OSError, ValueError, csv.Error) as error:  # errors of decoding and of pandas are ValueErrors
            reason = in_one_line(error).rstrip(".")
            advice = "it is damaged or of an earlier format, so move it away; nothing was written over it"
            raise ResultsError(f"{path}, {reason}: {advice}.") from error

    def _checked(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Rows of a file with every column of the table; ValueError names what is wrong with them."""
        missing = [column for column in (*self.key, *_EVERY_STAMP) if column not in rows]
        if missing:
            raise ValueError(f"expected the column {missing[0]}, got {', '.join(rows) or 'none'}")
        self._check_columns(rows)
        _check_values(rows)
        _check_words(rows, self.enumerations)
        several = dict[str, pd.Series]()
        for column in rows.columns.intersection([*_SEVERAL]):
            several[column] = rows[column].map(partial(_from_text, of_type=_SEVERAL[column]))
        rows = self.filled(rows.assign(**several))
        repeated = rows[rows.duplicated(list(self.key))]
        if len(repeated):
            raise ValueError(f"row {repeated.index[0] + 1}: expected a key that no row before it has")
        return rows

    def _check_columns(self, rows: pd.DataFrame) -> None:
        """Raise ValueError unless all columns are those of the table and of the stamp."""
        unknown = [column for column in rows if column not in (*self.columns, *STAMP)]
        if unknown:
            raise ValueError(f"expected columns that tables.toml lists, got {', '.join(unknown)}")

    def filled(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Rows with every column of the table; a text that a row lacks is "", a flag False, several numbers ()."""
        rows = rows.reindex(columns=[*self.columns, *STAMP])
        flags = rows.columns.intersection(_FLAGS)
        texts = rows.columns.intersection(_TEXTS)
        empty: dict[str, object] = {**dict.fromkeys(flags, False), **dict.fromkeys(texts, "")}
        rows = rows.astype(dict.fromkeys(empty, object)).fillna(empty)
        rows = rows.astype(dict.fromkeys(flags, bool))
        several = dict[str, pd.Series]()
        for column in rows.columns.intersection([*_SEVERAL]):
            numbers = [value if isinstance(value, tuple) else () for value in rows[column]]
            several[column] = pd.Series(numbers, rows.index, dtype=object)
        return rows.assign(**several)

    def put(
        self,
        folder: Path,
        rows: Iterable[Mapping[str, Any]],
        device: torch.device,
        values: Values = VALUES,
        stays: Stays = lambda rows: rows,
    ) -> int:
        """Stamp rows that this process or its child made, and `replace`."""
        stamped = [{**row, **stamp(device, self.name, row)} for row in rows]
        return self.replace(folder, stamped, values, stays)

    def replace(
        self,
        folder: Path,
        rows: Iterable[Mapping[str, Any]],
        values: Values = VALUES,
        stays: Stays = lambda rows: rows,
    ) -> int:
        """Put stamped rows into the file, in which they replace the rows of the same key.

        A row of the file stays if the new one knows its figure worse, see `_outweighed`; returns how many new rows are
        not in the file for that. values: in whose order rows are sorted. stays: those rows of the file that may stay.
        ValueError names undeclared columns, or the key of two rows. ResultsError says why the file cannot be read or
        written.
        """
        new = pd.DataFrame(list(rows))
        old = self.read(folder)
        if new.empty:
            return 0
        try:
            self._check_columns(new)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from None
        new = self.filled(new)
        key = list(self.key)
        repeated = new[new.duplicated(key)]
        if len(repeated):
            raise ValueError(f"{self.name}: expected one row of each key, got two of {repeated[key].iloc[0].to_dict()}")
        outweighed = self._outweighed(new, old)
        # pandas infers the types of columns from those that have values.
        kept = self._of_today(old if old.empty else stays(old), values)
        parts = [part.dropna(axis=1, how="all") for part in (kept, new[~outweighed])]
        both = pd.concat(parts, ignore_index=True).reindex(columns=[*self.columns, *STAMP])
        latest = both.drop_duplicates(key, keep="last")
        self._write(folder, latest.sort_values(key, key=partial(_ranks, values=values), kind="stable"))
        return int(outweighed.sum())

    def _outweighed(self, new: pd.DataFrame, old: pd.DataFrame) -> pd.Series:
        """True for each new row that knows its figure worse than an old one of the same code and environment.

        So a short, interrupted or disturbed run leaves the figures of a good one. Only rows of visits are weighed.
        """
        outweighed = pd.Series(False, new.index)
        if not self.of_visits or old.empty:
            return outweighed
        environment = [column for column in STAMP if column not in _OF_A_RUN]
        same = [*self.key, *environment]
        before = {_values(row, same): row for row in old.to_dict("records")}
        for at, row in zip(new.index, new.to_dict("records"), strict=True):
            earlier = before.get(_values(row, same))
            if earlier is not None:
                outweighed[at] = _knows_less(row, earlier)
        return outweighed

    def _of_today(self, rows: pd.DataFrame, values: Values) -> pd.DataFrame:
        """Rows without those about what no longer exists: those with a value of the key that is none of `values`."""
        if rows.empty:
            return rows
        for column, known in values.items():
            if column in self.key:
                outside = submission.files() if column == "implementation" else ()
                # Rows of what did not run may lack it.
                stays = rows[column].isin([*known, *outside, ""])
                if column in self.free_if:
                    stays |= rows[self.free_if[column]]
                rows = rows[stays]
        return rows

    def _write(self, folder: Path, rows: pd.DataFrame) -> None:
        """Write rows with the key, the stamp, and the columns in which any row has a value."""
        texts = {column: rows[column].map(_to_text) for column in rows.columns.intersection([*_SEVERAL])}
        rows = rows.assign(**texts)
        columns = []
        for column in rows:
            empty = (rows[column].isna() | (rows[column] == "")).all()
            if column in (*self.key, *_EVERY_STAMP) or not empty:
                columns.append(column)
        write_whole(self.path(folder), rows.to_csv(columns=columns, index=False))


def _values(row: Mapping[Hashable, Any], columns: Sequence[str]) -> tuple[Hashable, ...]:
    """Values of some columns of a row, which rows are found by."""
    return tuple(row[column] for column in columns)


def _knows_less(new: Mapping[Hashable, Any], old: Mapping[Hashable, Any]) -> bool:
    """True if a row of the benchmark has few visits where one before has many, or disturbed ones where that has none.

    A row without figures says what went wrong, which is always news.
    """
    if new["status"] != Status.OK:
        return False
    has_few = bool(new["visits"] < FEWER * old["visits"])
    is_busy = pd.notna(new["busy"])
    was_quiet = old["status"] == Status.OK and pd.isna(old["busy"])
    return has_few or (is_busy and was_quiet)


def _parsed(text: str) -> pd.DataFrame:
    """Rows of a CSV file; ValueError or csv.Error if one of them has too few or too many cells, or no end."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    lengths = [(reader.line_num, len(cells)) for cells in reader if cells]
    for line, length in lengths:
        if length != lengths[0][1]:
            raise ValueError(f"line {line}: expected {lengths[0][1]} cells, got {length}")
    if lengths and not text.endswith("\n"):
        raise ValueError(f"line {lengths[-1][0]}: expected a whole row with the end of its line, got a part")
    # Hashes and versions may consist of digits.
    columns = next(csv.reader(io.StringIO(text)), [])
    words: dict[Hashable, str] = {name: "str" for name in columns if name in (*_TEXTS, *_SEVERAL)}
    # An implementation may be called "null".
    return pd.read_csv(io.StringIO(text, newline=""), dtype=words, keep_default_na=False, na_values=[""])


def _to_text(numbers: object) -> str:
    """Whole numbers as they are, figures in six digits."""
    if not isinstance(numbers, tuple):
        return ""
    return " ".join(str(number) if isinstance(number, int) else f"{number:.6g}" for number in numbers)


def _from_text(text: object, of_type: type[int] | type[float]) -> tuple[float, ...]:
    return tuple(map(of_type, text.split())) if isinstance(text, str) else ()


def _check_values(rows: pd.DataFrame) -> None:
    """Raise ValueError unless numbers are numbers, and dates are dates."""
    for column in rows.columns.intersection(_NUMBERS):
        values = rows[column]
        numbers = pd.to_numeric(values, errors="coerce")
        wrong = values[numbers.isna() & values.notna()]
        if len(wrong):
            raise ValueError(f"row {wrong.index[0] + 1}, {column}: expected a number, got {wrong.iloc[0]}")
    for column in rows.columns.intersection([*_SEVERAL]):
        for at, value in rows[column].dropna().items():
            try:
                _from_text(value, _SEVERAL[column])
            except ValueError as error:
                raise ValueError(f"row {at + 1}, {column}: expected numbers, got {value}") from error
    for value in rows["date"].unique():
        try:
            spelled = date.fromisoformat(str(value)).isoformat()
        except ValueError as error:
            raise ValueError(f"expected a date such as 2026-11-30, got {value}") from error
        if spelled != value:  # days are compared as texts
            raise ValueError(f"expected a date such as 2026-11-30, got {value}")


def _check_words(rows: pd.DataFrame, enumerations: Mapping[str, type[StrEnum]]) -> None:
    """Raise ValueError unless flags are flags, and words are of the enumeration of their column."""
    allowed: dict[str, list[str]] = {column: ["True", "False"] for column in _FLAGS}
    allowed |= {column: [*enumeration] for column, enumeration in enumerations.items()}
    for column in rows.columns.intersection([*allowed]):
        words = rows[column].dropna() if column in _MAY_BE_EMPTY else rows[column]
        for value in words.astype(str).unique():
            if value not in allowed[column]:
                raise ValueError(f"{column}: expected one of {', '.join(allowed[column])}, got {value}")


def _ranks(column: pd.Series, values: Values) -> pd.Series:
    """Numbers to sort a column by: its own, or the ranks of its values, of which those without one come last."""
    if pd.api.types.is_numeric_dtype(column):
        return column
    order = dict.fromkeys([*values.get(str(column.name), ()), *column])
    ranks = {value: rank for rank, value in enumerate(order)}
    return column.map(ranks.get)  # pandas 2.2 takes a dictionary with tuples for levels of an index


def about_pass(workload: Workload, case: Case, implementation: str, dtype: str, timed: Pass) -> Row:
    """Columns that describe a row of the benchmark; case: of the workload. timed: the pass that is.

    A case that a person asked for is in the row, since no workload of the project has it.
    """
    sizes = case.sizes
    uncut = workload.whole.sizes
    about_case = case.columns if workload.asked_for else {**sizes, "layer_norm": case.layer_norm}
    return {
        "workload": workload.name,
        **about_case,
        "implementation": implementation,
        "dtype": dtype,
        **{column: uncut[size] if uncut[size] != sizes[size] else None for size, column in WHOLE.items()},
        "tokens": case.tokens,
        "pass": timed,
    }


def stamp(device: torch.device, table: TableName, row: Mapping[str, Any]) -> Row:
    """Columns that say where and when a row of a table was made, and with which code."""
    implementation = row.get("implementation", "")
    by_device = catalogue.find(implementation).software if implementation else {}
    software = by_device.get(device.type, Software())
    beside_lstm = provenance.BASIS[table].workload_of is not None
    return {
        "device": device.type,
        "processor": machine.name(device),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),  # an object that compares as a version
        "python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(),
        **provenance.commit().columns,
        "sources": provenance.sources(table, row),
        **machine.versions(software._replace(cudnn=beside_lstm), device),
    }


def folder_of(results: Path, device: torch.device) -> Path:
    """Folder of this machine's results; ResultsError if one of its files is damaged."""
    folder = results / machine.slug(device)
    for table in TABLES.values():
        table.read(folder)
    return folder


def _table(name: TableName, declared: Mapping[str, Any]) -> Table:
    return Table(name, enumerations={**_IN_EVERY_TABLE, **_ENUMERATIONS.get(name, {})}, **declared)


TABLES = {TableName(name): _table(TableName(name), declared) for name, declared in _DECLARED["tables"].items()}
#: Columns of a case beside its sizes.
_OPTIONS = [of_case.name for of_case in fields(Case) if of_case.name not in SIZES]
#: Of the benchmark at sizes that are named. A row is of its case; its workload is a label alone, by `spelling.short`.
TABLES[TableName.SIZES] = replace(
    TABLES[TableName.BENCH],
    name=TableName.SIZES,
    key=["dtype", *SIZES, *_OPTIONS, "implementation", "pass"],
    setting=["dtype", *SIZES, *(option for option in _OPTIONS if option != "layer_norm")],
    columns=[*dict.fromkeys([*TABLES[TableName.BENCH].columns, *_OPTIONS])],
    enumerations={**TABLES[TableName.BENCH].enumerations, "state": Start},
    of_project=False,
)
