"""The workloads of the benchmark: cases with a name."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from suite.cases.case import Case, lengths


class Pass(StrEnum):
    """What is timed of a model, the column `pass`."""

    FORWARD = "forward"
    #: A training step: forward and backward.
    TRAIN = "train"


@dataclass(frozen=True)
class Workload:
    """A case that the benchmark times.

    short: T and B without a GPU, if they are smaller.
    whole: the case before it was shortened, None if it was not.
    of_size: it is a case of `--size`, which is timed as it is: with layer norm or without, and with these lengths.
    """

    name: str
    case: Case
    short: tuple[int, int] | None = None
    whole: Case | None = None
    of_size: bool = False

    @property
    def layer_norms(self) -> tuple[bool, ...]:
        """Layer norm off and on, or on alone where the case has it."""
        return (self.case.layer_norm,) if self.of_size or self.case.layer_norm else (False, True)

    @property
    def passes(self) -> tuple[Pass, ...]:
        """What is timed: forward alone in evaluation mode."""
        return (Pass.FORWARD, Pass.TRAIN) if self.case.training else (Pass.FORWARD,)

    @property
    def shortened(self) -> "Workload":
        """The workload with the T and B for a machine without a GPU."""
        if self.short is None:
            return self
        return replace(self, case=resized(self.case, *self.short), short=None, whole=self.case)


def resized(case: Case, T: int, B: int) -> Case:
    """A case with other T and B, and with lengths for them if it has any."""
    return replace(case, T=T, B=B, lengths=lengths(T, B) if case.lengths else ())


_SMALL = Case(T=100, B=8, I=32, H=64, S=16, Z=4)
_MEDIUM = Case(T=50, B=32, I=50, H=256, S=64, Z=4)
_CHAR_PTB = Case(T=100, B=128, I=50, H=1000, S=128, Z=4)
_ENWIK8 = Case(T=250, B=128, I=205, H=1800, S=256, Z=64)
_HANDWRITING = Case(T=300, B=32, I=3, H=900, S=128, Z=4)

#: The paper's own models, two that fit anywhere, one sequence alone and one step alone from a given state, as a model
#: serves and generates: there forward counts. Two layers with all options are as in decoders. Those with lengths are
#: packed.
_WORKLOADS = (
    Workload("small", _SMALL),
    Workload("medium", _MEDIUM),
    Workload("char-ptb", _CHAR_PTB, short=(10, 64)),
    Workload("enwik8", _ENWIK8, short=(5, 16)),
    Workload("stream", replace(_CHAR_PTB, B=1), short=(20, 1)),
    Workload("step", replace(_MEDIUM, T=1, B=1, state="stacked", training=False)),
    Workload("handwriting", _HANDWRITING, short=(20, 32)),
    Workload("medium-ragged", replace(_MEDIUM, lengths=lengths(50, 32))),
    Workload("char-ptb-ragged", replace(_CHAR_PTB, lengths=lengths(100, 128)), short=(20, 64)),
    Workload("two-layers", replace(_MEDIUM, L=2, layer_norm=True, recurrent_dropout=0.1)),
)
WORKLOADS = {workload.name: workload for workload in _WORKLOADS}
#: The workload that README.md shows, without layer norm.
SHOWN = "medium"
#: Those that the headline quotes, without layer norm.
QUOTED = (SHOWN, "char-ptb")


def _few_steps(workload: Workload) -> Iterator[Case]:
    """A workload as a CPU times it, over a few steps."""
    short = workload.shortened
    steps = 4 if short.case.lengths else min(3, short.case.T)
    for layer_norm in short.layer_norms:
        yield replace(resized(short.case, steps, short.case.B), layer_norm=layer_norm)


#: Every workload over a few steps, for checks of all that is timed.
TIMED = {case: workload for workload in WORKLOADS.values() for case in _few_steps(workload)}
