"""Faults: edits of correct implementations, which the comparison must reject.

An edit changes lines in a copy of the package. A fault in `faults.toml` names the tensor that it damages, without its
layer: "grad bias" is that of any layer. Faults in C++ share one copy, which is built once; an environment variable
selects the active one.
"""

import os
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch

import impls
from impls import names
from impls.gradient import chunks
from impls.registry import find
from suite.checks.equality.comparisons import USED, Comparison, paired
from suite.shared.cases import DROPOUT, RAGGED, VERIFY
from suite.shared.compare import Build, implementation

#: The number of the active fault, as the C++ reads it.
VARIABLE = "HYPERLSTM_FAULT"
#: The simplest first.
VERIFIED = tuple(sorted((case for case in VERIFY if case.T > 2), key=attrgetter("layer_norm", "L", "state")))


class Edit(NamedTuple):
    """A change of a file of the package."""

    path: Path
    right: str  # occurs in it once
    new: str


def edits(file: str, *texts: str) -> tuple[Edit, ...]:
    """Edits of `impls/<file>.py`, or of a file with another suffix that is named with it.

    texts: alternately a text that occurs in it once, and its replacement.
    """
    path = Path(file if Path(file).suffix else f"{file}.py")
    return tuple(Edit(path, *change) for change in zip(texts[::2], texts[1::2], strict=True))


@dataclass(frozen=True)
class Edited:
    """Edits of the package, the implementation that runs them, and the dtype in which it is compared.

    active: the value of `VARIABLE` that selects a fault in C++. damages: the tensor that a fault damages. comparisons:
    those that may show it.
    """

    name: str
    kind: str
    edits: tuple[Edit, ...]
    runs: str
    dtype: torch.dtype = torch.float64
    active: str = ""
    damages: str = ""
    comparisons: tuple[Comparison, ...] = ()

    @property
    def package(self) -> str:
        """Name of the copy; operators are registered under it."""
        return f"{impls.__name__}_with_" + re.sub(r"\W+", "_", self.name)

    def sources(self) -> dict[Path, str]:
        """The edited files of the package and their text; ValueError names a file that lacks a text to replace."""
        sources: dict[Path, str] = {}
        for edit in self.edits:
            path, whole = edit.path, Path(impls.__file__).parent / edit.path
            source = sources.get(path) or (whole.read_text(encoding="utf-8") if whole.exists() else "")
            if (count := source.count(edit.right)) != 1:
                raise ValueError(
                    f"impls/{path}: {self.name!r} replaces {edit.right!r}, which is in it {count} times, not once: "
                    "write the edit for the code as it is."
                )
            sources[path] = source.replace(edit.right, edit.new)
        return sources

    def stale(self) -> str:
        """A sentence if an edit does not apply, because the code changed; "" if all do."""
        try:
            self.sources()
        except ValueError as error:
            return str(error)
        return ""

    def blamed(self, tensor: str) -> bool:
        """True if a tensor of the results, or of a use's, is the damaged one."""
        return re.sub(r"layers\.\d+\.", "", tensor).split(", ")[0] == self.damages

    @contextmanager
    def planted(self) -> Iterator[Build]:
        """Builder of HyperLSTMs from a copy of the package with the edits; ValueError if one does not apply."""
        name, sources = self.package, self.sources()
        with tempfile.TemporaryDirectory() as folder:
            package = Path(folder) / name
            shutil.copytree(Path(impls.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
            for path, source in sources.items():
                (package / path).write_text(source, encoding="utf-8")
            try:
                with mock.patch.object(sys, "path", [folder, *sys.path]):
                    import_module(f"{name}.{self.runs}")
                if copied := sys.modules.get(f"{name}.gradient.chunks"):
                    vars(copied)["_LIMITS"] = chunks._LIMITS  # so that `limited` changes them for the copy too
                with mock.patch.dict(os.environ, {VARIABLE: self.active}):
                    yield implementation(self.runs, sys.modules[name].HyperLSTM)
            finally:
                for module in [module for module in sys.modules if module.split(".")[0] == name]:
                    del sys.modules[module]


def _listed() -> Iterator[tuple[str, str, torch.dtype, list[str]]]:
    """Name, kind, dtype and texts of each fault."""
    kinds = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    for kind, by_dtype in kinds.items():
        for dtype, by_name in by_dtype.items():
            yield from ((name, kind, getattr(torch, dtype), texts) for name, texts in by_name.items())


def _shown_by(file: str) -> str:
    """Name of the implementation that runs an edited file."""
    own = file.split("/")[0]
    return own if own in names() else "deferred" if own == "gradient" else "row_scaled"


#: For what is kept from one run, or one layer, to the next.
_KEPT = ("import torch\n", "import torch\n_KEPT = {}\n")


def _comparisons(kind: str, runs: str, dtype: torch.dtype) -> tuple[Comparison, ...]:
    """Comparisons that may show a fault in an implementation, which supports their options."""
    if kind == "pairs":
        return tuple(one for one in paired(runs) if one.dtype == dtype)
    if kind in USED:  # in float64 too where a verification has them in float32: faults in C++ are built for one dtype
        return tuple(Comparison(case, dtype, kind, wide=True) for case in USED[kind][1])
    cases = RAGGED if "packed" in kind else DROPOUT if "dropout" in kind else VERIFIED
    return tuple(Comparison(case, dtype) for case in cases if find(runs).options.issuperset(case.options))


def _fault(name: str, kind: str, dtype: torch.dtype, damages: str, file: str, *texts: str) -> Edited:
    all_edits = edits(file, *(_KEPT if any("_KEPT" in text for text in texts) else ()), *texts)
    runs = _shown_by(file)
    return Edited(name, kind, all_edits, runs, dtype, "", damages, _comparisons(kind, runs, dtype))


#: Compile quickly, and to the same code on every processor; and a function that is true of the active fault.
_ALL_COMPILED = (
    *edits("batched_cpu/sets", "torch.backends.cpu.get_cpu_capability().lower()", '"baseline"'),
    *edits("batched_cpu/build", "-O3 ", "-O0 "),
    *edits(
        "batched_cpu/cell.h",
        "constexpr int kGroup = 4;",
        "constexpr int kGroup = 4;\n"
        "inline bool fault(int number) {\n"
        f'  const char* const active = std::getenv("{VARIABLE}");\n'
        "  return active != nullptr && std::atoi(active) == number;\n}",
    ),
)


def _in_one_copy(faults: Iterable[Edited]) -> Iterator[Edited]:
    """The faults, of which those in C++ replace expressions in a common copy, each where it is the active one."""
    compiled = [fault for fault in faults if fault.edits[-1].path.suffix == ".h" and not fault.stale()]
    all_edits = list(_ALL_COMPILED)
    for number, fault in enumerate(compiled, 1):
        all_edits += [Edit(*edit[:2], f"(fault({number}) ? {edit.new} : {edit.right})") for edit in fault.edits]
    for fault in faults:
        number = compiled.index(fault) + 1 if fault in compiled else 0
        yield replace(fault, edits=tuple(all_edits), active=str(number)) if number else fault


FAULTS = tuple(_in_one_copy([_fault(name, kind, dtype, *texts) for name, kind, dtype, texts in _listed()]))
