"""Folders and files of the project; files of results are written whole or not at all."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

#: The folder that holds `impls`, `suite` and `results`.
ROOT = Path(__file__).resolve().parents[2]
#: Where results go unless a command is told otherwise.
RESULTS = ROOT / "results"
#: Environment variable with the folder that paths of the command line are relative to, since nox changes to `ROOT`.
INVOKED_FROM = "HYPERLSTM_INVOKED_FROM"


class ResultsError(SystemExit):
    """A result file cannot be read or written; a command ends with this sentence, and with status 1."""


def path_of(text: str) -> Path:
    """Absolute path of an argument of the command line; a relative one starts where nox was called, else here."""
    return Path(os.path.abspath(Path(os.environ.get(INVOKED_FROM, ""), os.path.expanduser(text))))


def write_whole(path: Path, text: str) -> None:
    """Write a file completely or leave it as it was; ResultsError says why it cannot be written."""
    write_all(path.parent, {path.name: text})


def write_all(folder: Path, texts: Mapping[str, str]) -> None:
    """Write files of a folder by name, the last one last, or leave all as they were; ResultsError as above."""
    path = folder / next(iter(texts))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".new.") as beside:
            new = {folder / name: Path(beside) / name for name in texts}
            for path, text in zip(new, texts.values(), strict=True):
                new[path].write_text(text, encoding="utf-8")
            for path in new:
                new[path].replace(path)
    except OSError as error:
        raise ResultsError(f"{path} cannot be written: {error.strerror}. What stood there is unchanged.") from error
