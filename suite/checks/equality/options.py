"""The options that are compared in pairs, and the values of each."""

from enum import Enum, StrEnum, auto
from typing import Any, NamedTuple

from suite.cases.case import Start
from suite.checks.equality.layouts import MemoryLayout
from suite.checks.equality.use import AutocastMode
from suite.comparison.tensors import OUTPUTS, Output


class Form(Enum):
    """The form in which a call is given its sequences."""

    BATCH = auto()
    #: One sequence, x [T, I].
    ALONE = auto()
    #: Packed, the longest first or in any order.
    SORTED = auto()
    UNSORTED = auto()
    #: T = 0 or B = 0.
    NO_STEPS = auto()
    NO_ROWS = auto()

    @property
    def empty(self) -> bool:
        """True if out has no number."""
        return self in (Form.NO_STEPS, Form.NO_ROWS)


class Masks(Enum):
    """What is dropped: the input of the second layer, g at each step, or both."""

    NONE = auto()
    DROPOUT = auto()
    RECURRENT = auto()
    BOTH = auto()
    #: What both would, in evaluation mode.
    EVAL = auto()


class Trained(StrEnum):
    """The arguments that require a gradient."""

    ALL = "all"
    X = "x"
    PARAMETERS = "parameters"
    BIASES = "biases"
    STATE = "state"
    STATE_C = "state_c"
    STATE_H_HAT = "state_h_hat"
    #: The forward pass alone.
    NOTHING = "nothing"

    @property
    def needs_state(self) -> bool:
        """True if these are parts of an initial state, which must be given."""
        return self in (Trained.STATE, Trained.STATE_C, Trained.STATE_H_HAT)


class Call(NamedTuple):
    """A call of a model, by the value of each option.

    state: as a `Case` has it.
    arriving: the outputs whose cotangents are not zero.
    stepwise: the sequence is cut into chunks of one step.
    recomputed: the backward pass computes again what hand-written gradients would else save.
    layout: of all tensors in memory.
    extreme: numbers are far from usual, where a formula may lose digits.
    """

    form: Form = Form.BATCH
    batch_first: bool = False
    layers: int = 1
    layer_norm: bool = False
    state: Start = Start.NONE
    masks: Masks = Masks.NONE
    autocast: AutocastMode = AutocastMode.EXACT
    trained: Trained = Trained.ALL
    arriving: tuple[Output, ...] = OUTPUTS
    stepwise: bool = False
    recomputed: bool = False
    layout: MemoryLayout = MemoryLayout.CONTIGUOUS
    extreme: bool = False

    @property
    def shows_little(self) -> bool:
        """True for a call that has no number, or no gradient."""
        return self.form.empty or self.trained is Trained.NOTHING

    @property
    def name(self) -> str:
        """Name of the options that differ from the default and that a `Case` does not have.

        Of the forms it has ALONE; a case shows the others.
        """
        words = [
            ("alone", self.form is Form.ALONE),
            ("batch_first", self.batch_first),
            (self.autocast, self.autocast is not DEFAULTS.autocast),
            (self.trained, self.trained is not DEFAULTS.trained),
            ("-".join(self.arriving), self.arriving != DEFAULTS.arriving),
            ("stepwise", self.stepwise),
            ("recomputed", self.recomputed),
            (self.layout, self.layout is not DEFAULTS.layout),
            ("extreme", self.extreme),
        ]
        said = [word for word, differs in words if differs]
        return f"pair-{'-'.join(said)}"


#: The default of each option.
DEFAULTS = Call()
#: Some values of each option, by field of `Call`.
Domains = dict[str, tuple[Any, ...]]
#: All values.
OPTIONS: Domains = {
    "form": tuple(Form),
    "batch_first": (False, True),
    "layers": (1, 2),
    "layer_norm": (False, True),
    "state": (Start.NONE, Start.SHARED, Start.STACKED),
    "masks": tuple(Masks),
    "autocast": tuple(AutocastMode),
    "trained": tuple(Trained),
    "arriving": (OUTPUTS, *((output,) for output in OUTPUTS)),
    "stepwise": (False, True),
    "recomputed": (False, True),
    "layout": tuple(MemoryLayout),
    "extreme": (False, True),
}
#: The values that one layer sees: the module turns the others into these, and runs what is between layers.
LAYER_OPTIONS = OPTIONS | {
    "form": (Form.BATCH, Form.UNSORTED, *(form for form in Form if form.empty)),
    "batch_first": (False,),
    "layers": (1,),
    "state": (Start.NONE, Start.SHARED),
    "masks": (Masks.NONE, Masks.RECURRENT),
    "autocast": (AutocastMode.EXACT, AutocastMode.AUTOCAST),
    "trained": (Trained.ALL, Trained.BIASES, Trained.STATE_C, Trained.STATE_H_HAT, Trained.NOTHING),
    "layout": (MemoryLayout.CONTIGUOUS, MemoryLayout.PADDED, MemoryLayout.TRANSPOSED),
}
