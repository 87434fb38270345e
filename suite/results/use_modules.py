"""Where the uses of a comparison are defined, which the column `defined` of verify.csv says."""

from collections.abc import Mapping, Sequence
from enum import StrEnum

EQUALITY = "suite/checks/equality"


class UseModule(StrEnum):
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
        """Files on which its uses depend: what it is made of, and the modules that it takes uses from."""
        modules = (self, *_TAKEN.get(self, ()))
        return [*(module.file for module in modules), *_MADE_OF.get(self, ())]


#: By module, those that it takes uses, or parts of them, from.
_TAKEN: Mapping[UseModule, Sequence[UseModule]] = {
    UseModule.CALLS: (UseModule.GRADIENTS,),
    UseModule.LAYOUTS: (UseModule.CALLS, UseModule.GRADIENTS),
    UseModule.PAIRS: (UseModule.LAYOUTS, UseModule.CALLS, UseModule.EXTREMES, UseModule.GRADIENTS),
}
#: By module, further files that it is made of.
_MADE_OF: Mapping[UseModule, Sequence[str]] = {
    UseModule.PAIRS: (f"{EQUALITY}/options.py", f"{EQUALITY}/covering.py"),
}
