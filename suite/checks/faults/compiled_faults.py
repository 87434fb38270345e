"""Faults of batched_cpu in C++ with packed sequences, of `compiled_faults.toml`.

They stand in one copy, which is built once; an environment variable says which of them acts.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from suite.checks.faults.edits import changes, edits, listed
from suite.checks.faults.faults import Fault
from suite.shared.cases import RAGGED
from suite.shared.compare import Build

#: Names the fault that acts, by its letter, in the C++ too.
VARIABLE = "HYPERLSTM_FAULT"

_EDITS = tuple(edit for file, texts in listed("compiled_faults").items() for edit in edits(file, *changes(texts)))


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


def _compiled(name: str, letter: str, damages: str) -> Compiled:
    kind = "gradient, packed sequences" if damages.startswith("grad") else "packed sequences"
    return Compiled(name, kind, _EDITS, "batched_cpu", damages, cases=RAGGED, letter=letter)


COMPILED_FAULTS = (
    _compiled("rows go back over steps beyond their end", "a", "grad weight_h"),
    _compiled("rows go on from the states of those that ended", "b", "grad weight_h"),
    _compiled("rows end with the shortest of their group", "c", "out"),
)
