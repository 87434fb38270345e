"""Edits of right implementations: faults, which the comparison must reject, and rewrites, which it must accept.

A fault in `faults.toml` names the tensor that it damages, without its layer: "grad bias" is that of any layer. The C++
faults in `compiled_faults.toml` share one copy, which is built once; an environment variable selects the active one. A
rewrite in `rewrites.toml` is the same function, written in another way.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from unittest import mock

import torch

from suite.checks.faults.edits import Edited, edits, listed, shown_by
from suite.shared.cases import DROPOUT, RAGGED, VERIFY, Case
from suite.shared.compare import Build

#: The letter of the active fault, as the C++ reads it.
VARIABLE = "HYPERLSTM_FAULT"
#: The simplest first.
VERIFIED = tuple(sorted((case for case in VERIFY if case.T > 2), key=attrgetter("layer_norm", "L", "state")))
_WIDE = (torch.float64, torch.float32)
#: Rewrites that round worse than the original in bfloat16.
_NOT_IN_BFLOAT16 = ("layer norm by its formula",)


@dataclass(frozen=True)
class Rewrite(Edited):
    """An equivalent implementation, and the dtypes in which it rounds no worse than the original."""

    dtypes: tuple[torch.dtype, ...]


@dataclass(frozen=True)
class Fault(Edited):
    """A wrong implementation, the tensor that it damages, the dtype that it runs in, and the cases to try in turn.

    letter: of a fault in C++, which is active where `VARIABLE` is that letter.
    """

    damages: str = "out"
    dtype: torch.dtype = torch.float64
    cases: tuple[Case, ...] = VERIFIED
    letter: str = ""

    def blamed(self, tensor: str) -> bool:
        """True if a tensor of the results is the damaged one."""
        return re.sub(r"layers\.\d+\.", "", tensor) == self.damages

    @contextmanager
    def planted(self) -> Iterator[Build]:
        """A builder of HyperLSTMs from a copy with the fault in it; of the faults in C++ only this one is active."""
        with mock.patch.dict(os.environ, {VARIABLE: self.letter}), super().planted() as build:
            yield build


REWRITES = tuple(
    Rewrite(
        name,
        kind,
        edits(file, *texts),
        shown_by(file),
        _WIDE if name in _NOT_IN_BFLOAT16 else (*_WIDE, torch.bfloat16),
    )
    for kind, rewrites in listed("rewrites").items()
    for name, (file, *texts) in rewrites.items()
)

#: For what is kept from one run, or one layer, to the next.
_KEPT = ("import torch\n", "import torch\n_KEPT = {}\n")


def _read() -> Iterator[Fault]:
    right = {rewrite.name: rewrite.edits for rewrite in REWRITES}
    for kind, by_dtype in listed("faults").items():
        cases = RAGGED if "packed" in kind else DROPOUT if "dropout" in kind else VERIFIED
        for dtype, faults in by_dtype.items():
            for name, (damages, where, *texts) in faults.items():
                file, *rewritten = where.split(", ")
                made = [edit for rewrite in rewritten for edit in right[rewrite]]
                made += edits(file, *_KEPT * any("_KEPT" in text for text in texts), *texts)
                yield Fault(name, kind, tuple(made), shown_by(file), damages, getattr(torch, dtype), cases)


def _compiled(name: str, letter: str, damages: str) -> Fault:
    texts = listed("compiled_faults")
    made = tuple(edit for file in texts for edit in edits(file, *texts[file]))
    kind = "gradient, packed sequences" if damages.startswith("grad") else "packed sequences"
    return Fault(name, kind, made, "batched_cpu", damages, cases=RAGGED, letter=letter)


FAULTS = (
    *_read(),
    _compiled("rows go back over steps beyond their end", "a", "grad weight_h"),
    _compiled("rows go on from the states of those that ended", "b", "grad weight_h"),
    _compiled("rows end with the shortest of their group", "c", "out"),
    _compiled("x of steps of more rows is taken for that of as many", "d", "grad d_weight"),
)
