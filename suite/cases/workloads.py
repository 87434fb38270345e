"""The workloads of the benchmark: cases with a name, and when each is timed by default."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from suite.cases.case import Case, Start, lengths


class Pass(StrEnum):
    """What is timed of a model, the column `pass`."""

    FORWARD = "forward"
    #: A training step: forward and backward.
    TRAIN = "train"


@dataclass(frozen=True)
class Workload:
    """A case that the benchmark times.

    by_default: kinds of device on which it is timed by default. The next four say what else is timed there by default.
    time_reference_forms: naive and row_scaled, on a kind of device, and with layer norm or without it.
    time_bfloat16: bfloat16 too, if the processor multiplies it.
    time_compiled: what compiles for tens of seconds, without layer norm.
    time_others: without a GPU, the HyperLSTMs of others: JAX and labml.
    time_fastest_alone: on these kinds of device of all only what `auto` takes, and torch.nn.LSTM.
    time_headline_alone: on these kinds of device of all only what its headline compares: these and what a user could
        take instead.
    short: T and B without a GPU, if they are smaller.
    asked_for: a person asked for the case, which is timed as it is: with layer norm or without, and with these lengths.
    """

    name: str
    case: Case
    by_default: tuple[str, ...] = ()
    time_reference_forms: tuple[tuple[str, bool], ...] = ()
    time_bfloat16: bool = False
    time_compiled: bool = False
    time_others: bool = False
    time_fastest_alone: tuple[str, ...] = ()
    time_headline_alone: tuple[str, ...] = ()
    short: tuple[int, int] | None = None
    asked_for: bool = False

    @property
    def layer_norms(self) -> tuple[bool, ...]:
        """Layer norm off and on, or on alone where the case has it."""
        return (self.case.layer_norm,) if self.asked_for or self.case.layer_norm else (False, True)

    @property
    def passes(self) -> tuple[Pass, ...]:
        """What is timed: forward alone in evaluation mode."""
        return (Pass.FORWARD, Pass.TRAIN) if self.case.training else (Pass.FORWARD,)

    @property
    def shortened(self) -> "Workload":
        """The workload with the T and B for a machine without a GPU."""
        if self.short is None:
            return self
        return replace(self, case=resized(self.case, *self.short), short=None)

    @property
    def whole(self) -> Case:
        """The case of the workload where no run shortened it."""
        return self.case if self.asked_for else WORKLOADS[self.name].case


def resized(case: Case, T: int, B: int) -> Case:
    """A case with other T and B, and with lengths for them if it has any."""
    return replace(case, T=T, B=B, lengths=lengths(T, B) if case.lengths else ())


#: Without a GPU, and on one.
BOTH = ("cpu", "cuda")
_SMALL = Case(T=100, B=8, I=32, H=64, S=16, Z=4)
_MEDIUM = Case(T=50, B=32, I=50, H=256, S=64, Z=4)
_CHAR_PTB = Case(T=100, B=128, I=50, H=1000, S=128, Z=4)
_ENWIK8 = Case(T=250, B=128, I=205, H=1800, S=256, Z=64)
_HANDWRITING = Case(T=300, B=32, I=3, H=900, S=128, Z=4)

#: The paper's own models, two that fit anywhere, one sequence alone and one step alone from a given state, as a model
#: serves and generates: there forward counts. Two layers with all options are as in decoders. Those with lengths are
#: packed.
_WORKLOADS = (
    Workload("small", _SMALL, BOTH),
    Workload(
        "medium",
        _MEDIUM,
        BOTH,
        time_reference_forms=(("cpu", False), ("cuda", False), ("cuda", True)),
        time_bfloat16=True,
        time_compiled=True,
        time_others=True,
    ),
    Workload("char-ptb", _CHAR_PTB, BOTH, time_headline_alone=("cpu",), short=(10, 64)),
    Workload("enwik8", _ENWIK8, ("cuda",), short=(5, 16)),
    Workload("stream", replace(_CHAR_PTB, B=1), BOTH, time_fastest_alone=("cpu",), short=(20, 1)),
    Workload("step", replace(_MEDIUM, T=1, B=1, state=Start.STACKED, training=False), BOTH),
    Workload("handwriting", _HANDWRITING, short=(20, 32)),
    Workload("small-ragged", replace(_SMALL, lengths=lengths(100, 8))),
    Workload(
        "medium-ragged",
        replace(_MEDIUM, lengths=lengths(50, 32)),
        ("cpu",),
        time_fastest_alone=("cpu",),
    ),
    Workload("char-ptb-ragged", replace(_CHAR_PTB, lengths=lengths(100, 128)), ("cuda",), short=(20, 64)),
    Workload(
        "two-layers",
        replace(_MEDIUM, L=2, layer_norm=True, recurrent_dropout=0.1),
        BOTH,
        time_fastest_alone=BOTH,
    ),
)
WORKLOADS = {workload.name: workload for workload in _WORKLOADS}


def _few_steps(workload: Workload) -> Iterator[Case]:
    """A workload as a CPU times it, over a few steps."""
    short = workload.shortened
    steps = 4 if short.case.lengths else min(3, short.case.T)
    for layer_norm in short.layer_norms:
        yield replace(resized(short.case, steps, short.case.B), layer_norm=layer_norm)


#: Every workload over a few steps, for checks of all that is timed.
TIMED = {case: workload for workload in WORKLOADS.values() for case in _few_steps(workload)}
