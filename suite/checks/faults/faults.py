"""Edits of correct implementations: faults, which the comparison must reject, and rewrites, which it must accept.

An edit changes lines in a copy of the package. A fault in `faults.toml` names the tensor that it damages, without its
layer: "grad bias" is that of any layer. Faults in C++ share one copy, which is built once; an environment variable
selects the active one. A rewrite in `rewrites.toml` is the same function, written differently.
"""

import os
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch

import impls
from impls import names
from impls.gradient import chunks
from impls.registry import find
from suite.checks.equality.comparisons import USED, Comparison, paired
from suite.shared.cases import DROPOUT, RAGGED, VERIFY, WIDE, Case
from suite.shared.compare import Build, Verdict, implementation

#: The number of the active fault, as the C++ reads it.
VARIABLE = "HYPERLSTM_FAULT"
#: The simplest first.
VERIFIED = tuple(sorted((case for case in VERIFY if case.T > 2), key=attrgetter("layer_norm", "L", "state")))
_DTYPES = (torch.float64, torch.float32, torch.bfloat16)
#: Rewrites that round worse than the original in bfloat16.
_NOT_IN_BFLOAT16 = ("layer norm by its formula",)
#: Suffix of files that are compiled.
_COMPILED = ".h"


class Edit(NamedTuple):
    """A change of `impls/<file>.py`, or of a file with another suffix that is named with it."""

    file: str
    right: str  # occurs in it once
    new: str

    @property
    def path(self) -> Path:
        """The file in the package."""
        return Path(self.file if Path(self.file).suffix else f"{self.file}.py")


class StaleEditError(Exception):
    """The code that an edit replaces has changed, so the edit has to follow: this says nothing about the code."""


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

    active: the value of `VARIABLE` that selects a fault in C++.
    """

    name: str
    kind: str
    edits: tuple[Edit, ...]
    runs: str
    active: str = ""

    @property
    def package(self) -> str:
        """Name of the copy; operators are registered under it."""
        return f"{impls.__name__}_with_" + re.sub(r"\W+", "_", self.name)

    def sources(self) -> dict[Path, str]:
        """The edited files of the package and their text; StaleEditError names a file that lacks a text to replace."""
        sources: dict[Path, str] = {}
        for edit in self.edits:
            path, whole = edit.path, Path(impls.__file__).parent / edit.path
            source = sources.get(path) or (whole.read_text(encoding="utf-8") if whole.exists() else "")
            if (count := source.count(edit.right)) != 1:
                raise StaleEditError(
                    f"impls/{path}: {self.name!r} replaces {edit.right!r}, which is in it {count} times"
                )
            sources[path] = source.replace(edit.right, edit.new)
        return sources

    def stale(self) -> str:
        """A sentence if an edit does not apply, because the code changed; "" if all do."""
        try:
            self.sources()
        except StaleEditError as error:
            return f"{error}, not once: write the edit for the code as it is."
        return ""

    @contextmanager
    def planted(self) -> Iterator[Build]:
        """Builder of HyperLSTMs from a copy of the package with the edits; StaleEditError if one does not apply."""
        name, sources = self.package, self.sources()
        with tempfile.TemporaryDirectory() as folder:
            package = Path(folder) / name
            # Packages that do not run need no copy.
            ignore = shutil.ignore_patterns("__pycache__", *{"batched_cpu", "batched_cuda"} - {self.runs})
            shutil.copytree(Path(impls.__file__).parent, package, ignore=ignore)
            for path, source in sources.items():
                (package / path).write_text(source, encoding="utf-8")
            try:
                with mock.patch.object(sys, "path", [folder, *sys.path]):
                    import_module(f"{name}.{self.runs}")
                if (copied := sys.modules.get(f"{name}.gradient.chunks")) and Path("gradient/chunks.py") not in sources:
                    vars(copied)["_LIMITS"] = chunks._LIMITS  # so that `limited` changes them for the copy too
                with mock.patch.dict(os.environ, {VARIABLE: self.active}):
                    yield implementation(self.runs, sys.modules[name].HyperLSTM)
            finally:
                for module in [module for module in sys.modules if module.split(".")[0] == name]:
                    del sys.modules[module]


@dataclass(frozen=True)
class Rewrite(Edited):
    """An equivalent implementation, and the dtypes in which it rounds no worse than the original."""

    dtypes: tuple[torch.dtype, ...] = ()


@dataclass(frozen=True)
class Fault(Edited):
    """A wrong implementation, the tensor that it damages, and the comparisons that may show it."""

    damages: str = "out"
    comparisons: tuple[Comparison, ...] = ()

    def blamed(self, tensor: str) -> bool:
        """True if a tensor of the results, or of a use's, is the damaged one."""
        return re.sub(r"layers\.\d+\.", "", tensor).split(", ")[0] == self.damages


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


def _comparisons(name: str, kind: str, runs: str, dtype: torch.dtype) -> tuple[Comparison, ...]:
    """Comparisons that may show a fault in an implementation, which supports their options."""
    if kind == "pairs":
        return tuple(one for one in paired(runs) if one.dtype == dtype)
    if kind in USED:  # in float64 too where a verification has them in float32: faults in C++ are built for one dtype
        return tuple(Comparison(case, dtype, kind, wide=True) for case in USED[kind])
    wide, normed = "sizes" in kind, "norm" in f"{kind}, {name}"
    if wide:  # a mask has to have more units than a vector
        cases = [case for case in WIDE if "mask" not in name or case.recurrent_dropout > 0]
    else:
        cases = list(RAGGED if "packed" in kind else DROPOUT if "dropout" in kind else VERIFIED)
    cases.sort(key=lambda case: case.layer_norm != normed)  # the likely ones first
    return tuple(Comparison(case, dtype, wide=wide) for case in supported(runs, cases))


def supported(runs: str, cases: Iterable[Case]) -> tuple[Case, ...]:
    """The cases whose options an implementation supports."""
    return tuple(case for case in cases if find(runs).options.issuperset(case.options))


def _listed_faults() -> Iterator[Fault]:
    right = {rewrite.name: rewrite.edits for rewrite in REWRITES}
    for kind, by_dtype in listed("faults").items():
        for dtype, faults in by_dtype.items():
            for name, (damages, where, *texts) in faults.items():
                file, *rewritten = where.split(", ")
                all_edits = [edit for rewrite in rewritten for edit in right[rewrite]]
                all_edits += edits(file, *(_KEPT if any("_KEPT" in text for text in texts) else ()), *texts)
                runs = shown_by(file)
                comparisons = _comparisons(name, kind, runs, getattr(torch, dtype))
                yield Fault(name, kind, tuple(all_edits), runs, damages=damages, comparisons=comparisons)


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


def _in_one_copy(faults: Sequence[Fault]) -> Iterator[Fault]:
    """The faults, where those in C++ replace expressions, each if it is the active one of a common copy."""
    compiled = [fault for fault in faults if fault.edits[-1].path.suffix == _COMPILED and not fault.stale()]
    all_edits = list(_ALL_COMPILED)
    for number, fault in enumerate(compiled, 1):
        for file, right, wrong in fault.edits:
            all_edits.append(Edit(file, right, f"(fault({number}) ? {wrong} : {right})"))
    for fault in faults:
        if fault in compiled:
            number = compiled.index(fault) + 1
            yield replace(fault, edits=tuple(all_edits), active=str(number))
        else:
            yield fault


FAULTS = tuple(_in_one_copy(tuple(_listed_faults())))
