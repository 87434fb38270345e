"""Faults of batched_cpu with packed sequences.

Those in C++ stand in one copy, which is built once; an environment variable says which of them acts.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from suite.checks.faults.edits import edits
from suite.checks.faults.faults import Fault
from suite.shared.cases import RAGGED
from suite.shared.compare import Build

#: Names the fault that acts, by its letter.
VARIABLE = "HYPERLSTM_FAULT"

_EDITS = (
    # Little to compile, and the same on every processor.
    *edits(
        "batched_cpu/build.py",
        ('_CAPABILITY_FLAGS.get(torch.backends.cpu.get_cpu_capability(), "")', '""'),
        ('"-O3", ', '"-O0", '),
    ),
    *edits(
        "batched_cpu/steps.h",
        (
            "class Steps {",
            f"""inline bool fault(char letter) {{
  const char* const acting = std::getenv("{VARIABLE}");
  return acting != nullptr && *acting == letter;
}}

class Steps {{""",
        ),
    ),
    *edits(
        "batched_cpu/backward_sweep.h",
        (
            "rows_ = std::min(most_, w_.steps_.rows(t) - begin_);",
            "const int64_t last = fault('a') ? w_.steps_.tokens() : w_.steps_.begin(t + 1);\n"
            "rows_ = std::min(most_, last - w_.steps_.begin(t) - begin_);",
        ),
    ),
    *edits(
        "batched_cpu/backward_sequence.h",
        (
            "after.slice(0, steps.begin(first_of - 1), steps.begin(first_of - 1) + rows)",
            "after.narrow(0, fault('b') ? steps.begin(first_of) - rows : steps.begin(first_of - 1), rows)",
        ),
    ),
    *edits(
        "batched_cpu/forward_sweep.h",
        ("if (rows_ <= 0) return;", "if (rows_ <= (fault('c') ? member_.rows.end - begin_ - 1 : 0)) return;"),
    ),
)


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
    Fault(
        "final states of all rows from the last tokens",
        "packed sequences",
        edits(
            "batched_cpu/__init__",
            (
                "of_h, of_others = last_tokens(rows), last_tokens(rows, ring or None)",
                "of_h = of_others = slice(-rows[0], None)",
            ),
        ),
        "batched_cpu",
        "h",
        cases=RAGGED,
    ),
    _compiled("rows go back over steps beyond their end", "a", "grad weight_h"),
    _compiled("rows go on from the states of those that ended", "b", "grad weight_h"),
    _compiled("rows end with the shortest of their group", "c", "out"),
)
