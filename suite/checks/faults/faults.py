"""Wrong implementations that the comparison must reject, of `faults.toml`: each is an edit of a right one.

A fault names the tensor that it damages, without its layer: "grad bias" stands for that of any layer. Faults in C++,
of `compiled_faults.toml`, stand in one copy, which is built once; an environment variable says which of them acts.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from suite.checks.faults.edits import Edited, changes, edits, listed, shown_by
from suite.checks.faults.rewrites import REWRITES
from suite.shared.cases import DROPOUT, RAGGED, VERIFY, Case
from suite.shared.compare import Build

#: Names the fault that acts, by its letter, in the C++ too.
VARIABLE = "HYPERLSTM_FAULT"
#: The simplest first.
VERIFIED = tuple(
    sorted((case for case in VERIFY if case.T > 2), key=lambda case: (case.layer_norm, case.L, case.state))
)


@dataclass(frozen=True)
class Fault(Edited):
    """A wrong implementation, the tensor that it damages, the dtype that it is run in, and the cases tried in turn."""

    damages: str = "out"
    dtype: torch.dtype = torch.float64
    cases: tuple[Case, ...] = VERIFIED

    def blamed(self, tensor: str) -> bool:
        """Return whether a tensor of the results is the damaged one."""
        return re.sub(r"layers\.\d+\.", "", tensor) == self.damages


@dataclass(frozen=True)
class Compiled(Fault):
    """A fault in C++, which acts where `VARIABLE` is its letter."""

    letter: str = ""

    @contextmanager
    def planted(self) -> Iterator[Build]:
        """Yield what builds a HyperLSTM from a copy with all faults in C++, of which this one acts."""
        os.environ[VARIABLE] = self.letter
        try:
            with super().planted() as build:
                yield build
        finally:
            del os.environ[VARIABLE]


#: For what is kept from one run, or one layer, to the next.
_KEPT = ("from .definition import", "_KEPT: dict[object, Tensor] = {}\nfrom .definition import")


def _read() -> Iterator[Fault]:
    right = {rewrite.name: rewrite.edits for rewrite in REWRITES}
    for kind, by_dtype in listed("faults").items():
        cases = RAGGED if "packed" in kind else DROPOUT if "dropout" in kind else VERIFIED
        for dtype, faults in by_dtype.items():
            for name, (damages, where, *texts) in faults.items():
                file, *rewritten = where.split(", ")
                made = [edit for rewrite in rewritten for edit in right[rewrite]]
                made += edits(file, *[_KEPT] * any("_KEPT" in text for text in texts), *changes(texts))
                yield Fault(name, kind, tuple(made), shown_by(file), damages, getattr(torch, dtype), cases)


def _compiled(name: str, letter: str, damages: str) -> Compiled:
    texts = listed("compiled_faults")
    made = tuple(edit for file in texts for edit in edits(file, *changes(texts[file])))
    kind = "gradient, packed sequences" if damages.startswith("grad") else "packed sequences"
    return Compiled(name, kind, made, "batched_cpu", damages, cases=RAGGED, letter=letter)


FAULTS = (
    *_read(),
    _compiled("rows go back over steps beyond their end", "a", "grad weight_h"),
    _compiled("rows go on from the states of those that ended", "b", "grad weight_h"),
    _compiled("rows end with the shortest of their group", "c", "out"),
)
