"""Folders and files of the project; files of results are written whole or not at all."""

import tempfile
from pathlib import Path

#: The folder that holds `impls`, `suite` and `results`.
ROOT = Path(__file__).resolve().parents[2]
#: Where results go unless a command is told otherwise.
RESULTS = ROOT / "results"


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
