"""Copies of the package with edits, and the faults that `faults.toml` lists.

It has a table for each kind, in which a fault is
`"name" = { blames = "out", file = "row_scaled.py", edits = [["text", "replacement"]] }`:

blames: the result or finding that it makes wrong, as tables name it but without the layer of a parameter: `out`,
    `grad state h`, `grad bias`, `argument changed: x`.
file: the file of impls/ that is edited.
edits: texts that occur in the file once, each with its replacement; in a header of C++ (.h) both are expressions.
dtype: in which it is compared, float64 if left out.
way: the way to multiply bfloat16 in which it is, as `impls/batched_cpu/sets.py` names it.
threads: how many threads it takes, 1 if left out.
"""

import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from unittest import mock

import torch

import impls
from impls import names
from impls.gradient import chunks
from impls.registry import find
from suite.comparison.draws import Build, implementation
from suite.comparison.tolerance import Judgement
from suite.shared.arithmetic import Arithmetic

#: What the name of a parameter begins with, behind which it is the same in every layer.
LAYER = re.compile(r"layers\.\d+\.")
#: By file of impls/, texts that occur in it once, each with its replacement.
Edits = Mapping[str, Sequence[tuple[str, str]]]


@dataclass(frozen=True)
class Fault:
    """A row of `faults.toml`, see above."""

    name: str
    kind: str
    blames: str
    file: str
    edits: Sequence[tuple[str, str]]
    dtype: torch.dtype = torch.float64
    way: str = ""
    threads: int = 1

    @property
    def compiled(self) -> bool:
        """True for a fault in C++."""
        return self.file.endswith(".h")

    @property
    def implementation(self) -> str:
        """Name of the implementation that runs the edited file."""
        module = Path(self.file).with_suffix("").parts[0]
        if module in names():
            return module
        return "deferred" if module == "gradient" else "row_scaled"

    @property
    def interpreted(self) -> bool:
        """True for a fault in what runs in Triton's interpreter here."""
        return find(self.implementation).triton

    @property
    def package(self) -> str:
        """Name of the copy of the package that has the fault."""
        return f"{impls.__name__}_with_" + re.sub(r"\W+", "_", self.name)

    def blamed_by(self, judgement: Judgement) -> bool:
        """True for a judgement on what the fault makes wrong."""
        return LAYER.sub("", judgement.finding or judgement.tensor) == self.blames

    def stale(self) -> str:
        """A sentence if an edit does not apply, because the code changed or its file is gone; "" if all do."""
        try:
            edited({self.file: self.edits})
        except (OSError, ValueError) as error:
            return f"{self.name!r}: {error}"
        return ""


def listed() -> list[Fault]:
    """The faults of `faults.toml`."""
    faults = []
    text = Path(__file__).with_name("faults.toml").read_text(encoding="utf-8")
    for kind, rows in tomllib.loads(text).items():
        for name, row in rows.items():
            row["dtype"] = Arithmetic(row.get("dtype", "float64")).dtype
            faults.append(Fault(name, kind, **row))
    return faults


def edited(edits: Edits) -> dict[str, str]:
    """The edited files of the package and their text; ValueError if an edit does not apply."""
    sources = {}
    for file, changes in edits.items():
        source = (Path(impls.__file__).parent / file).read_text(encoding="utf-8")
        for right, new in changes:
            if source.count(right) != 1:
                raise ValueError(
                    f"impls/{file} has {right!r} {source.count(right)} times, not once: "
                    "write the edit for the code as it is."
                )
            source = source.replace(right, new)
        sources[file] = source
    return sources


@contextmanager
def copied(package: str, edits: Edits, runs: str) -> Iterator[Build]:
    """Builder of HyperLSTMs with the implementation `runs` from an edited copy of the package, called `package`.

    Its operators are registered under the name. ValueError if an edit does not apply.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / package
        shutil.copytree(Path(impls.__file__).parent, copy)  # with bytecode, which fits all files but the edited
        for file, source in edited(edits).items():
            (copy / file).write_text(source, encoding="utf-8")
        try:
            with mock.patch.object(sys, "path", [folder, *sys.path]):
                import_module(f"{package}.{runs}")
            of_chunks = sys.modules.get(f"{package}.gradient.chunks")
            if of_chunks:
                vars(of_chunks)["_LIMITS"] = chunks._LIMITS  # so that `limited` changes them for the copy too
            yield implementation(runs, sys.modules[package].HyperLSTM)
        finally:
            for module in list(sys.modules):
                if module.partition(".")[0] == package:
                    del sys.modules[module]
