"""Names of the arguments of a call of a HyperLSTM and of its results, as tables and findings have them."""

from typing import NamedTuple

from torch import Tensor

from impls.definition import ROLES, LayerState, Role

#: The final states that a model returns, and all that it returns, in its order.
STATES = LayerState._fields
OUTPUTS = ("out", *STATES)
#: The arguments of a call are `x`, these parts of a given state, and parameters by their names in a state dict.
STATE = tuple(f"state {name}" for name in STATES)
#: The states that a layer adds to at each step.
CELLS = ("state c", "state c_hat")
Arguments = dict[str, Tensor]


class Gradient(NamedTuple):
    """The gradient of an argument, as a result of a call; of: the argument."""

    of: str

    def __str__(self) -> str:
        return f"grad {self.of}"


#: What a call gives: an output, by its name, or a gradient.
Result = str | Gradient
Results = dict[Result, Tensor]
#: Results that have an element for each sequence: all but the gradients of parameters.
OF_SEQUENCES: tuple[Result, ...] = (*OUTPUTS, *map(Gradient, ("x", *STATE)))


def is_parameter(argument: str) -> bool:
    """True for a parameter, among the arguments of a call."""
    return argument not in ("x", *STATE)


def in_layer(argument: str) -> str:
    """The name of a parameter in its layer, such as `bias` for `layers.0.bias`; other names as they are."""
    return argument.split(".", 2)[-1]


def role(argument: str) -> Role | None:
    """The role of a parameter in its layer; None for other arguments, and for tensors behind a parametrization."""
    return ROLES.get(in_layer(argument))
