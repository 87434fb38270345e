"""Right implementations, written in another way, of `rewrites.toml`: the comparison must accept each."""

from dataclasses import dataclass

import torch

from suite.checks.faults.edits import Edited, changes, edits, listed, shown_by

_WIDE = (torch.float64, torch.float32)
#: Those that round worse than the original in bfloat16.
_NOT_IN_BFLOAT16 = ("layer norm by its formula",)


@dataclass(frozen=True)
class Rewrite(Edited):
    """An equivalent implementation, and the dtypes in which it rounds no worse than the original."""

    dtypes: tuple[torch.dtype, ...]


REWRITES = tuple(
    Rewrite(
        name,
        kind,
        edits(file, *changes(texts)),
        shown_by(file),
        _WIDE if name in _NOT_IN_BFLOAT16 else (*_WIDE, torch.bfloat16),
    )
    for kind, rewrites in listed("rewrites").items()
    for name, (file, *texts) in rewrites.items()
)
