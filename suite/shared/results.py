"""Files of results: written whole, read with an error that says what is wrong."""

import csv
import io
import tempfile
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from suite.shared.files import ROOT

#: Where results go unless a command is told otherwise.
RESULTS = ROOT / "results"
#: Columns of hexadecimal digits, which are no number, not even where all of them are below ten or one is an e.
HASHES = ("commit", "sources", "verify_rows")


class ResultsError(SystemExit):
    """A result file cannot be read or written; a command ends with this sentence."""


def make_folder(path: Path) -> Path:
    """Make a folder for results, with its parents."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultsError(f"{path}: expected a folder to write results to, got: {error.strerror}.") from error
    return path


def write_whole(path: Path, text: str) -> None:
    """Write a file completely or leave it as it was; ResultsError says why it cannot be written."""
    make_folder(path.parent)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            whole = Path(folder) / "whole"
            whole.write_text(text, encoding="utf-8")
            whole.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise ResultsError(f"{path} could not be written and is as it was before: {reason}.") from error


def read(path: Path, columns: Collection[str] = ()) -> pd.DataFrame:
    """Rows of a result file, none without a file; ResultsError names the line where it is damaged or lacks a column."""
    if not path.exists():
        return pd.DataFrame()
    try:
        text = path.read_text(encoding="utf-8")
        check(text, columns)
        return pd.read_csv(io.StringIO(text), dtype=dict.fromkeys(HASHES, str))
    except (OSError, ValueError) as error:  # errors of decoding and of pandas are ValueErrors
        reason = " ".join(str(error).split())
        advice = "it is damaged or of an earlier format, so move it away; nothing was written over it"
        raise ResultsError(f"{path}, {reason}: {advice}.") from error


def check(text: str, columns: Collection[str]) -> None:
    """Raise ValueError, which names the line, if a CSV lacks a column, or a row of it a field."""
    lines = csv.reader(io.StringIO(text), strict=True)
    try:
        head = next(lines, [])
        if missing := [column for column in columns if column not in head]:
            named = f"{', '.join(head[:4])}, ..." if head else "nothing"
            raise ValueError(f"line 1: expected the column {missing[0]}, got {named}")
        for fields in lines:
            if len(fields) != len(head):
                raise ValueError(f"line {lines.line_num}: expected {len(head)} fields, got {len(fields)}")
    except csv.Error as error:
        raise ValueError(f"line {lines.line_num}: {error}") from error
    if not text.endswith("\n"):
        raise ValueError(f"line {lines.line_num}: expected the end of the line, got the end of the file")
