"""Faults as a file lists them, and copies of the package with edits.

Each list of faults is a TOML file of tables by kind, in which a fault is
`"name" = { tensor = "out", file = "row_scaled.py", edits = [["text", "replacement"]] }`:

tensor: the tensor that it damages, a pattern in which * is any layer. finding: what else shows it, if no tensor does.
file: the file of impls/ that is edited; without it, the Python file that the list is named after and beside.
edits: texts that occur in the file once, each with its replacement.
dtype: in which it is compared, float64 if left out.
"""

import os
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch

import impls
from impls.gradient import chunks
from suite.comparison.compare import Build, Verdict, implementation
from suite.shared.arithmetic import dtype_of

#: The number of the active fault, as the C++ reads it.
VARIABLE = "HYPERLSTM_FAULT"


class Edit(NamedTuple):
    """A change of a file of the package; right: a text that occurs in it once."""

    path: Path
    right: str
    new: str

    def applied(self, source: str, fault: str, folder: str = "impls") -> str:
        """The source with the change; ValueError, with the name of the fault, if it does not apply.

        folder: of the path, for the error.
        """
        count = source.count(self.right)
        if count != 1:
            raise ValueError(
                f"{folder}/{self.path.as_posix()}: {fault!r} replaces {self.right!r}, which is in it {count} times, "
                "not once: write the edit for the code as it is."
            )
        return source.replace(self.right, self.new)


def edits(file: str, *changes: tuple[str, str]) -> tuple[Edit, ...]:
    """Edits of a file of impls/; changes: texts that occur in it once, each with its replacement."""
    return tuple(Edit(Path(file), right, new) for right, new in changes)


@dataclass(frozen=True)
class Fault:
    """A row of a list of faults, see above."""

    name: str
    kind: str
    edits: tuple[Edit, ...]
    tensor: str = ""
    finding: str = ""
    dtype: torch.dtype = torch.float64

    def shown_by(self, verdict: Verdict) -> bool:
        """True for a verdict on the damaged tensor, or on what else shows the fault."""
        if verdict.finding is not None:
            return fnmatchcase(str(verdict.finding), self.finding)
        return fnmatchcase(verdict.tensor, self.tensor)


def listed(path: Path) -> list[Fault]:
    """The faults of a file; ValueError names one that is not as above."""
    kinds = tomllib.loads(path.read_text(encoding="utf-8"))
    return [_fault(path, name, kind, row) for kind, rows in kinds.items() for name, row in rows.items()]


def _fault(path: Path, name: str, kind: str, row: dict[str, Any]) -> Fault:
    unknown = row.keys() - {"tensor", "finding", "file", "edits", "dtype"}
    if unknown or "edits" not in row or ("tensor" in row) == ("finding" in row):
        raise ValueError(f"{path}, {name!r}: expected edits and either tensor or finding, got {', '.join(row)}")
    return Fault(
        name,
        kind,
        edits(row.get("file", f"{path.stem}.py"), *row["edits"]),
        row.get("tensor", ""),
        row.get("finding", ""),
        dtype_of(row.get("dtype", "float64")),
    )


@dataclass(frozen=True)
class Edited:
    """Edits of the package, and the implementation that runs them; active: of `VARIABLE`, selects a fault in C++."""

    name: str
    edits: tuple[Edit, ...]
    runs: str
    active: str = ""

    @property
    def package(self) -> str:
        """Name of the copy; operators are registered under it."""
        return f"{impls.__name__}_with_" + re.sub(r"\W+", "_", self.name)

    def sources(self) -> dict[Path, str]:
        """The edited files of the package and their text; ValueError if an edit does not apply."""
        sources: dict[Path, str] = {}
        for edit in self.edits:
            if edit.path not in sources:
                sources[edit.path] = _source(edit.path)
            sources[edit.path] = edit.applied(sources[edit.path], self.name)
        return sources

    def stale(self) -> str:
        """A sentence if an edit does not apply, because the code changed; "" if all do."""
        try:
            self.sources()
        except ValueError as error:
            return str(error)
        return ""

    @contextmanager
    def planted(self) -> Iterator[Build]:
        """Builder of HyperLSTMs from a copy of the package with the edits; ValueError if one does not apply."""
        name = self.package
        sources = self.sources()
        with tempfile.TemporaryDirectory() as folder:
            package = Path(folder) / name
            shutil.copytree(Path(impls.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
            for path, source in sources.items():
                (package / path).write_text(source, encoding="utf-8")
            try:
                with mock.patch.object(sys, "path", [folder, *sys.path]):
                    import_module(f"{name}.{self.runs}")
                copied = sys.modules.get(f"{name}.gradient.chunks")
                if copied:
                    vars(copied)["_LIMITS"] = chunks._LIMITS  # so that `limited` changes them for the copy too
                with mock.patch.dict(os.environ, {VARIABLE: self.active}):
                    yield implementation(self.runs, sys.modules[name].HyperLSTM)
            finally:
                _forget(name)


def _source(path: Path) -> str:
    """Text of a file of the package, "" if there is none."""
    whole = Path(impls.__file__).parent / path
    return whole.read_text(encoding="utf-8") if whole.exists() else ""


def _forget(package: str) -> None:
    """Have Python import a package again."""
    for module in list(sys.modules):
        if module.partition(".")[0] == package:
            del sys.modules[module]


def stale(edited: Iterable[Edited]) -> str:
    """Sentences about edits that do not apply, by line."""
    reasons = [variant.stale() for variant in edited]
    return "\n".join(reason for reason in reasons if reason)
