"""Implementations with an edit: a copy of the package with one or more lines changed."""

import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import impls
from suite.shared.compare import Build, implementation


class Edit(NamedTuple):
    """A change of `impls/<file>.py`, or of a file with another suffix that is named with it."""

    file: str
    right: str  # occurs in it once
    new: str


def edits(file: str, *texts: str) -> tuple[Edit, ...]:
    """Edits of one file; texts: alternately a text that occurs in it once, and its replacement."""
    return tuple(Edit(file, *change) for change in zip(texts[::2], texts[1::2], strict=True))


def listed(name: str) -> dict[str, Any]:
    """Contents of `<name>.toml`, by kind."""
    return tomllib.loads(Path(__file__).with_name(f"{name}.toml").read_text(encoding="utf-8"))


def shown_by(file: str) -> str:
    """Name of the implementation that runs an edited file."""
    own = file.split("/")[0]
    return "deferred" if own in ("deferred", "gradient") else own if own in ("batched", "batched_cpu") else "row_scaled"


@dataclass(frozen=True)
class Edited:
    """Edits of the package, and the implementation that runs them."""

    name: str
    kind: str
    edits: tuple[Edit, ...]
    runs: str

    @property
    def package(self) -> str:
        """The name of the copy: its own, since operators are registered under it."""
        return f"{impls.__name__}_with_" + re.sub(r"\W+", "_", self.name)

    @contextmanager
    def planted(self) -> Iterator[Build]:
        """A builder of HyperLSTMs from a copy of the package with the edits in it.

        LookupError if a text to replace does not occur exactly once.
        """
        name = self.package
        with tempfile.TemporaryDirectory() as folder:
            package = Path(folder) / name
            # Packages that do not run need no copy.
            left = shutil.ignore_patterns("__pycache__", *{"batched_cpu", "batched_cuda"} - {self.runs})
            shutil.copytree(Path(impls.__file__).parent, package, ignore=left)
            for edit in self.edits:
                self._make(edit, package / (edit.file if Path(edit.file).suffix else f"{edit.file}.py"))
            try:
                with mock.patch.object(sys, "path", [folder, *sys.path]):
                    import_module(f"{name}.{self.runs}")
                yield implementation(self.runs, sys.modules[name].HyperLSTM)
            finally:
                for module in [module for module in sys.modules if module.split(".")[0] == name]:
                    del sys.modules[module]

    def _make(self, edit: Edit, path: Path) -> None:
        source = path.read_text(encoding="utf-8")
        if (found := source.count(edit.right)) != 1:
            raise LookupError(f"{self.name}: expected {edit.right!r} once in {path.name}, found {found}")
        path.write_text(source.replace(edit.right, edit.new), encoding="utf-8")
