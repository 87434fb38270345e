"""Implementations with an edit: the source of a right one, changed in a place or two, run in place of it."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch

import impls
from suite.shared.cases import Case
from suite.shared.compare import Build

Edit = tuple[str, str]


@dataclass(frozen=True)
class Edited:
    """Edits (right, new) of `impls/<file>.py`, and the implementation that shows them."""

    name: str
    kind: str
    file: str
    edits: tuple[Edit, ...]
    runs: str

    @property
    def id(self) -> str:
        """The name in a test id."""
        return self.name.replace(" ", "-")

    @contextmanager
    def planted(self) -> Iterator[Build]:
        """Yield what builds a HyperLSTM with the edits in it; the package itself stays as it is.

        LookupError if what an edit replaces does not occur exactly once any more.
        """
        edited = self._load(self.file, self.edits)
        runner = edited if self.file == self.runs else import_module(f"{impls.__name__}.{self.runs}")
        if self.file not in (self.runs, "hyperlstm"):
            with _imported_as(f"{impls.__name__}.{self.file}", edited):
                runner = self._load(self.runs, ())
        cls = edited.HyperLSTM if self.file == "hyperlstm" else impls.HyperLSTM
        with _imported_as(f"{impls.__name__}.{self.runs}", runner):
            yield _build(cls, self.runs)

    def _load(self, file: str, edits: tuple[Edit, ...]) -> ModuleType:
        path = Path(impls.__file__).with_name(f"{file}.py")
        source = path.read_text(encoding="utf-8")
        for right, new in edits:
            if source.count(right) != 1:
                raise LookupError(f"{self.name}: expected {right!r} once in {path.name}, found {source.count(right)}")
            source = source.replace(right, new)
        # A name of its own, since operators are registered under it.
        slug = re.sub(r"\W+", "_", self.name)
        module = ModuleType(f"{impls.__name__}.{file}_with_{slug}")
        module.__package__ = impls.__name__
        module.__file__ = str(path)
        sys.modules[module.__name__] = module  # where dataclasses and operators look for what they belong to
        exec(compile(source, f"{path} with {self.name}", "exec"), module.__dict__)
        return module


@contextmanager
def _imported_as(name: str, module: ModuleType) -> Iterator[None]:
    """Have imports of that name find the module, and leave everything else that is imported meanwhile."""
    before = import_module(name)
    sys.modules[name] = module
    try:
        yield
    finally:
        sys.modules[name] = before


def _build(cls: type[impls.HyperLSTM], impl: str) -> Build:
    def build(case: Case, dtype: torch.dtype, device: torch.device) -> impls.HyperLSTM:
        return cls(
            case.I, case.H, case.S, case.Z, case.L, layer_norm=case.layer_norm, impl=impl, dtype=dtype, device=device
        )

    return build
