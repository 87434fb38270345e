"""A use: what is done with a model, and what should come of it."""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

import torch

from suite.comparison.draws import DrawChange
from suite.comparison.runs import Run
from suite.comparison.tensors import Results


class AutocastMode(StrEnum):
    """Whether a use runs under autocast, and on a model of which dtype."""

    EXACT = "exact"
    #: In bfloat16, of a model in float32.
    AUTOCAST = "autocast"
    #: Of a model in float64, which autocast leaves as it is; where an implementation has no float64, as AUTOCAST.
    FLOAT64_IN_AUTOCAST = "float64_in_autocast"


class Use(NamedTuple):
    """A use of a model.

    name: for people. expected: what the results of a run should be, from those of the plain call.
    change_draw: modifies the draw, for the model and the oracle. extreme: the draw then has values at which a formula
    may lose digits.
    gradient: whether it has a backward pass.
    residuals: whether hand-written gradients save what they would else recompute.
    """

    name: str
    run: Run
    expected: Callable[[Results], Results] = dict
    change_draw: DrawChange | None = None
    extreme: bool = False
    autocast: AutocastMode = AutocastMode.EXACT
    gradient: bool = True
    residuals: bool = True

    def cast_from(self, dtype: torch.dtype) -> torch.dtype | None:
        """Dtype of the model where the use casts what it is given to dtype, else None."""
        casts = self.autocast is not AutocastMode.EXACT and dtype == torch.bfloat16
        return torch.float32 if casts else None
