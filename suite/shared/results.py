"""Files of results: written whole, read with an error that says what is wrong."""

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
    """Rows of a result file, none without a file; ResultsError if it is damaged or lacks one of the columns."""
    if not path.exists():
        return pd.DataFrame()
    try:
        rows = pd.read_csv(path, dtype=dict.fromkeys(HASHES, str))
    except (OSError, ValueError) as error:  # pandas' errors of parsing and decoding are ValueErrors
        reason = " ".join(str(error).split())
        raise ResultsError(f"{path} cannot be read, so move it away; nothing was written over it: {reason}") from error
    if missing := [column for column in columns if column not in rows]:
        raise ResultsError(
            f"{path}: expected the column {missing[0]}, got {', '.join(map(str, rows.columns[:4]))}, ...; "
            "it is damaged or of an earlier format, so move it away; nothing was written over it."
        )
    return rows
