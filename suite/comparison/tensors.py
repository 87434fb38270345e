"""Which tensor is which: the arguments of a call of a HyperLSTM, and its results."""

from enum import Enum, StrEnum, auto
from functools import cache
from typing import NamedTuple

from torch import Tensor

from impls.definition import ROLES, Role

#: What the names of parameters in a state dict begin with: the attribute of the model that holds its layers.
_LAYERS = "layers"


class Output(StrEnum):
    """A tensor that a model returns, in its order; tables name it by its value."""

    OUT = "out"
    H = "h"
    C = "c"
    H_HAT = "h_hat"
    C_HAT = "c_hat"


#: All of them.
OUTPUTS = tuple(Output)
#: The final states of these.
STATES = OUTPUTS[1:]


class Gate(Enum):
    """A gate, by its place on axes of length 4."""

    I = 0
    F = 1
    G = 2
    O = 3


class Kind(Enum):
    """What an argument is: the input, an initial state, a parameter, or a gradient that arrives at an output."""

    X = auto()
    STATE = auto()
    PARAMETER = auto()
    COTANGENT = auto()


class Argument(NamedTuple):
    """An argument of a call or of its backward pass.

    output: the state whose initial value it is, or the output at which a gradient arrives.
    name: of a parameter in its layer. layer: of a parameter.
    """

    kind: Kind
    output: Output | None = None
    name: str = ""
    layer: int = 0

    @property
    def role(self) -> Role | None:
        """The role of a parameter in its layer; None for other arguments, and for tensors behind a parametrization."""
        return ROLES.get(self.name) if self.kind is Kind.PARAMETER else None

    def __str__(self) -> str:
        """Name in tables and findings, such as `x`, `state h`, `layers.0.bias` and `grad out`."""
        names = {
            Kind.X: "x",
            Kind.STATE: f"state {self.output}",
            Kind.PARAMETER: f"{_LAYERS}.{self.layer}.{self.name}",
            Kind.COTANGENT: f"grad {self.output}",
        }
        return names[self.kind]


class Gradient(NamedTuple):
    """The gradient of an argument, a result."""

    of: Argument

    def __str__(self) -> str:
        """Name in tables, such as `grad layers.0.bias`."""
        return f"grad {self.of}"


class Piece(NamedTuple):
    """A piece of an output, or of its derivative by x, that is judged by itself.

    number: which piece, from 0.
    """

    output: Output
    number: int
    derivative: bool = False

    def __str__(self) -> str:
        """Name in tables, such as `c, piece 3` and `dc, piece 3`."""
        return f"{'d' if self.derivative else ''}{self.output}, piece {self.number}"


class Wrong(StrEnum):
    """What may be wrong beside the numbers."""

    ARGUMENT_CHANGED = "argument changed"
    SETTING_CHANGED = "setting changed"
    NO_EFFECT = "option without effect"
    #: A result requires a gradient although nothing that it depends on does, and the other way round.
    UNEXPECTED_GRAPH = "unexpected graph"
    MISSING_GRAPH = "missing graph"


class Finding(NamedTuple):
    """Something wrong beside the numbers, which is a failure by itself; of: the argument, setting, option or result."""

    wrong: Wrong
    of: str | Argument

    def __str__(self) -> str:
        """Words in tables, such as `argument changed: x`."""
        return f"{self.wrong}: {self.of}"


X = Argument(Kind.X)
STATE = tuple(Argument(Kind.STATE, output) for output in STATES)
H, C, H_HAT, C_HAT = STATE
#: The states that a layer adds to at each step.
CELLS = (C, C_HAT)
COTANGENTS = tuple(Argument(Kind.COTANGENT, output) for output in OUTPUTS)
#: Results that have an element for each sequence: all but the gradients of parameters.
OF_SEQUENCES = (*OUTPUTS, *map(Gradient, (X, *STATE)))
Arguments = dict[Argument, Tensor]
#: What a call gives: an output, a gradient, or a piece of these.
Result = Output | Gradient | Piece
Results = dict[Result, Tensor]
#: What a comparison judges.
Subject = Result | Finding


@cache
def parameter(name: str) -> Argument:
    """The parameter of a name in a state dict, such as `layers.0.bias`.

    In the layer the name may go on with dots, where torch's parametrizations compute the parameter from other tensors.

    ValueError if the name is of another form.
    """
    layers, _, of_layer = name.partition(".")
    layer, _, in_layer = of_layer.partition(".")
    if layers != _LAYERS or not layer.isdecimal() or not in_layer:
        raise ValueError(f"name: expected a parameter of a layer, such as layers.0.bias, got {name!r}")
    return Argument(Kind.PARAMETER, name=in_layer, layer=int(layer))
