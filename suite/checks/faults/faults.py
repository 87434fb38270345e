"""Edits of correct implementations: faults, which the comparison must reject, and rewrites, which it must accept.

An edit changes lines in a copy of the package. A fault in `faults.toml` names the tensor that it damages, without its
layer: "grad bias" is that of any layer. The C++ faults in `compiled_faults.toml` share one copy, which is built once;
an environment variable selects the active one. A rewrite in `rewrites.toml` is the same function, written differently.
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
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch

import impls
from impls import names
from impls.registry import ORACLE, find
from suite.shared.cases import DROPOUT, RAGGED, VERIFY, Case
from suite.shared.compare import Build, Verdict, implementation
from suite.shared.wide import AGAINST, WIDE

#: The letter of the active fault, as the C++ reads it.
VARIABLE = "HYPERLSTM_FAULT"
#: The simplest first.
VERIFIED = tuple(sorted((case for case in VERIFY if case.T > 2), key=attrgetter("layer_norm", "L", "state")))
_DTYPES = (torch.float64, torch.float32, torch.bfloat16)
#: Rewrites that round worse than the original in bfloat16.
_NOT_IN_BFLOAT16 = ("layer norm by its formula",)


class Edit(NamedTuple):
    """A change of `impls/<file>.py`, or of a file with another suffix that is named with it."""

    file: str
    right: str  # occurs in it once
    new: str


def edits(file: str, *texts: str) -> tuple[Edit, ...]:
    """Edits of one file; texts: alternately a text that occurs in it once, and its replacement."""
    return tuple(Edit(file, *change) for change in zip(texts[::2], texts[1::2], strict=True))


def listed(name: str) -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name(f"{name}.toml").read_text(encoding="utf-8"))


def shown_by(file: str) -> str:
    """Name of the implementation that runs an edited file."""
    own = file.split("/")[0]
    return own if own in names() else "deferred" if own == "gradient" else "row_scaled"


@dataclass(frozen=True)
class Edited:
    """Edits of the package, and the implementation that runs them.

    letter: of a fault in C++, which is active if `VARIABLE` is that letter.
    """

    name: str
    kind: str
    edits: tuple[Edit, ...]
    runs: str
    letter: str = ""

    @property
    def package(self) -> str:
        """Name of the copy; operators are registered under it."""
        return f"{impls.__name__}_with_" + re.sub(r"\W+", "_", self.name)

    @contextmanager
    def planted(self) -> Iterator[Build]:
        """Builder of HyperLSTMs from a copy of the package with the edits; LookupError if a text is not in it once."""
        name = self.package
        with tempfile.TemporaryDirectory() as folder:
            package = Path(folder) / name
            # Packages that do not run need no copy.
            ignore = shutil.ignore_patterns("__pycache__", *{"batched_cpu", "batched_cuda"} - {self.runs})
            shutil.copytree(Path(impls.__file__).parent, package, ignore=ignore)
            for edit in self.edits:
                self._make(edit, package / (edit.file if Path(edit.file).suffix else f"{edit.file}.py"))
            try:
                with mock.patch.object(sys, "path", [folder, *sys.path]):
                    import_module(f"{name}.{self.runs}")
                with mock.patch.dict(os.environ, {VARIABLE: self.letter}):
                    yield implementation(self.runs, sys.modules[name].HyperLSTM)
            finally:
                for module in [module for module in sys.modules if module.split(".")[0] == name]:
                    del sys.modules[module]

    def _make(self, edit: Edit, path: Path) -> None:
        source = path.read_text(encoding="utf-8")
        if (count := source.count(edit.right)) != 1:
            raise LookupError(f"{self.name}: expected {edit.right!r} once in {path.name}, found {count}")
        path.write_text(source.replace(edit.right, edit.new), encoding="utf-8")


@dataclass(frozen=True)
class Rewrite(Edited):
    """An equivalent implementation, and the dtypes in which it rounds no worse than the original."""

    dtypes: tuple[torch.dtype, ...] = ()


@dataclass(frozen=True)
class Fault(Edited):
    """A wrong implementation, and the tensor that it damages."""

    damages: str = "out"
    dtype: torch.dtype = torch.float64
    cases: tuple[Case, ...] = VERIFIED
    against: str = ORACLE

    def blamed(self, tensor: str) -> bool:
        """True if a tensor of the results is the damaged one."""
        return re.sub(r"layers\.\d+\.", "", tensor) == self.damages


def row(
    planted: str, edit: str, kind: str, runs: str, dtype: str, case: str, worst: Verdict | None, wrong: int
) -> dict[str, Any]:
    """Row of the table of faults, for what is planted, a fault or a rewrite; wrong: the number of wrong tensors."""
    about = {"planted": planted, "edit": edit, "kind": kind, "implementation": runs, "dtype": dtype, "case": case}
    verdict = {"fault": ("SURVIVED", "rejected"), "rewrite": ("accepted", "REJECTED")}[planted][wrong > 0]
    figures = {"tensor": worst.tensor, "error": worst.error, "ratio": worst.ratio} if worst else {"tensor": ""}
    return about | figures | {"verdict": verdict, "wrong": wrong}


REWRITES = tuple(
    Rewrite(name, kind, edits(file, *texts), shown_by(file), dtypes=_DTYPES[: 2 if name in _NOT_IN_BFLOAT16 else None])
    for kind, rewrites in listed("rewrites").items()
    for name, (file, *texts) in rewrites.items()
)

#: For what is kept from one run, or one layer, to the next.
_KEPT = ("import torch\n", "import torch\n_KEPT = {}\n")


def _cases(name: str, kind: str, runs: str) -> tuple[tuple[Case, ...], str]:
    """Cases that may catch a fault in an implementation, which supports their options; and their oracle."""
    if "sizes" in kind:
        # A mask of more units than a vector has.
        wide = [case for case in WIDE if "mask" not in name or case.recurrent_dropout > 0]
        return supported(runs, wide), AGAINST
    return supported(runs, RAGGED if "packed" in kind else DROPOUT if "dropout" in kind else VERIFIED), ORACLE


def supported(runs: str, cases: Iterable[Case]) -> tuple[Case, ...]:
    """The cases whose options an implementation supports."""
    return tuple(case for case in cases if find(runs).options.issuperset(case.options))


def _read() -> Iterator[Fault]:
    right = {rewrite.name: rewrite.edits for rewrite in REWRITES}
    for kind, by_dtype in listed("faults").items():
        for dtype, faults in by_dtype.items():
            for name, (damages, where, *texts) in faults.items():
                file, *rewritten = where.split(", ")
                all_edits = [edit for rewrite in rewritten for edit in right[rewrite]]
                all_edits += edits(file, *_KEPT * any("_KEPT" in text for text in texts), *texts)
                runs = shown_by(file)
                about = name, kind, tuple(all_edits), runs, "", damages, getattr(torch, dtype)
                yield Fault(*about, *_cases(name, kind, runs))


def _compiled() -> Iterator[Fault]:
    texts = listed("compiled_faults")
    all_edits = tuple(edit for file, of_file in texts["edits"].items() for edit in edits(file, *of_file))
    for letter, (name, kind, damages) in texts["faults"].items():
        about = name, kind, all_edits, "batched_cpu", letter, damages, torch.float64
        yield Fault(*about, *_cases(name, kind, "batched_cpu"))


FAULTS = (*_read(), *_compiled())
