"""Where the uses of a comparison are defined, which the column `defined` of verify.csv says."""

from collections.abc import Mapping, Sequence
from enum import StrEnum

EQUALITY = "suite/checks/equality"


class Defined(StrEnum):
    """A module of EQUALITY that defines uses."""

    CALLS = "calls"
    CHANGES = "changes"
    EXTREMES = "extremes"
    GRADIENTS = "gradients"
    LAYOUTS = "layouts"
    PAIRS = "pairs"

    @property
    def file(self) -> str:
        """Its file."""
        return f"{EQUALITY}/{self.value}.py"

    @property
    def files(self) -> list[str]:
        """Files on which its uses depend: its own, and those of modules that it takes uses from."""
        return [self.file, *(module.file for module in _TAKEN.get(self, ()))]


#: By module, those that it takes uses, or parts of them, from.
_TAKEN: Mapping[Defined, Sequence[Defined]] = {
    Defined.CALLS: (Defined.GRADIENTS,),
    Defined.LAYOUTS: (Defined.CALLS, Defined.GRADIENTS),
    Defined.PAIRS: (Defined.LAYOUTS, Defined.CALLS, Defined.EXTREMES, Defined.GRADIENTS),
}
