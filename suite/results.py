"""Result files: tidy CSV, written whole, each run replacing its own rows."""

import os
import tempfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

#: Where results go unless a command is told otherwise.
RESULTS = Path(__file__).resolve().parent.parent / "results"


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or as it was: to a temporary file beside it, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def read(path: Path) -> pd.DataFrame:
    """Return the rows of a result file, none if there is no such file."""
    return pd.read_csv(path) if path.exists() else pd.DataFrame()


def replace_rows(
    path: Path, rows: Iterable[Mapping[str, Any]], key: list[str], known: Mapping[str, Collection[str]]
) -> pd.DataFrame:
    """Put rows into a result file in place of those with the same key, and return all rows.

    known: by column, the values that still exist; rows of what has since been renamed or removed go.
    """
    new = pd.DataFrame(list(rows))
    old = read(path)
    if not old.empty:
        for column, values in known.items():
            old = old[old[column].astype(str).isin(list(values))]
        fresh = set(new[key].astype(str).itertuples(index=False, name=None))
        kept = [row not in fresh for row in old[key].astype(str).itertuples(index=False, name=None)]
        new = pd.concat([old[kept], new], ignore_index=True)
    write_whole(path, new.to_csv(index=False))
    return new
