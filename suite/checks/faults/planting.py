"""Faults as a file lists them, and copies of the package with edits.

Each list of faults is a TOML file of tables by kind, in which a fault is
`"name" = { output = "out", file = "row_scaled.py", edits = [["text", "replacement"]] }`. What shows it is one of:

output: the output that it damages.
gradient: the argument whose gradient it damages: `gradient.input = "x"`, `gradient.state = "c"` or
    `gradient.parameter = "bias"`, of any layer.
argument_changed: the argument that it changes, named likewise, or `argument_changed.gradient = "out"` for the gradient
    that arrives at an output.
setting_changed: the `Invariant` that it changes, see `equality/leftovers.py`.
without_effect: the option of the model that then has no effect.
finding: what a check other than the comparison says of it, see that check.

Beside it, a fault has:

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
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch

import impls
from impls.definition import LayerParams
from impls.gradient import chunks
from suite.checks.equality.changes import Option
from suite.checks.equality.leftovers import Invariant
from suite.comparison.draws import Build, implementation
from suite.comparison.tensors import (
    COTANGENTS,
    OUTPUTS,
    STATE,
    STATES,
    Argument,
    Finding,
    Gradient,
    Kind,
    Output,
    Subject,
    Wrong,
    X,
    in_first_layer,
)
from suite.comparison.tolerance import Judgement
from suite.shared.arithmetic import Arithmetic

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
    #: What a comparison rejects, None if another check finds the fault; a parameter of layer 0 stands for that of any.
    shows: Subject | None = None
    finding: str = ""
    dtype: torch.dtype = torch.float64

    @property
    def path(self) -> Path:
        """The file that is edited."""
        (path,) = {edit.path for edit in self.edits}
        return path

    def shown_by(self, judgement: Judgement) -> bool:
        """True for a judgement on what shows the fault."""
        return in_first_layer(judgement.subject) == self.shows


#: By kind and name, the arguments that a row may name.
ARGUMENTS: Mapping[str, Mapping[str, Argument]] = {
    "input": {"x": X},
    "state": dict(zip(STATES, STATE, strict=True)),
    "parameter": {name: Argument(Kind.PARAMETER, name=name) for name in LayerParams._fields},
    "gradient": dict(zip(OUTPUTS, COTANGENTS, strict=True)),
}


def _argument(key: str, table: Any) -> Argument:
    """The argument that a row names by its kind, such as `{"state": "c"}`."""
    if not isinstance(table, dict) or len(table) != 1 or not table.keys() <= ARGUMENTS.keys():
        raise ValueError(f"{key}: expected one of {', '.join(ARGUMENTS)}, got {table!r}")
    ((kind, part),) = table.items()
    if part not in ARGUMENTS[kind]:
        raise ValueError(f"{key}.{kind}: expected one of {', '.join(ARGUMENTS[kind])}, got {part!r}")
    return ARGUMENTS[kind][part]


def _output(key: str, name: Any) -> Output:
    if name not in OUTPUTS:
        raise ValueError(f"{key}: expected one of {', '.join(OUTPUTS)}, got {name!r}")
    return Output(name)


#: By key of a row, what shows the fault, from the key and its value.
SUBJECTS: Mapping[str, Callable[[str, Any], Subject]] = {
    "output": _output,
    "gradient": lambda key, table: Gradient(_argument(key, table)),
    "argument_changed": lambda key, table: Finding(Wrong.ARGUMENT_CHANGED, _argument(key, table)),
    "setting_changed": lambda _, name: Finding(Wrong.SETTING_CHANGED, Invariant(name)),
    "without_effect": lambda _, name: Finding(Wrong.NO_EFFECT, Option(name)),
}


def listed(path: Path) -> list[Fault]:
    """The faults of a file; ValueError names one that is not as above."""
    kinds = tomllib.loads(path.read_text(encoding="utf-8"))
    return [_fault(path, name, kind, row) for kind, rows in kinds.items() for name, row in rows.items()]


def _fault(path: Path, name: str, kind: str, row: dict[str, Any]) -> Fault:
    shown_by = [key for key in row if key in SUBJECTS or key == "finding"]
    unknown = row.keys() - {*shown_by, "file", "edits", "dtype"}
    if unknown or "edits" not in row or len(shown_by) != 1:
        keys = ", ".join(SUBJECTS)
        raise ValueError(f"{path}, {name!r}, expected edits and one of {keys} and finding, got {', '.join(row)}")
    (key,) = shown_by
    try:
        shows = SUBJECTS[key](key, row[key]) if key in SUBJECTS else None
    except ValueError as error:
        raise ValueError(f"{path}, {name!r}, {error}") from error
    return Fault(
        name,
        kind,
        edits(row.get("file", f"{path.stem}.py"), *row["edits"]),
        shows,
        row.get("finding", ""),
        Arithmetic(row.get("dtype", "float64")).dtype,
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
            shutil.copytree(Path(impls.__file__).parent, package)  # with bytecode, which fits all files but the edited
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
