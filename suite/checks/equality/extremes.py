"""Uses with values at which a formula that is right elsewhere overflows or loses its digits."""

from functools import partial

from torch import Tensor

from suite.checks.equality.use import Use
from suite.comparison.draws import Change, changed
from suite.comparison.oracle import run_plain
from suite.comparison.tensors import GATE_BIASES, GATE_NORM_BIASES, Argument, Kind

_CELLS = (Argument(Kind.STATE, "c"), Argument(Kind.STATE, "c_hat"))


def _shifted(argument: Argument, value: Tensor) -> Tensor:
    """Under layer norm, the means of gates and cells are many deviations from 0; an open forget gate keeps them."""
    if argument.part in GATE_BIASES:
        return value + 30
    if argument.part in GATE_NORM_BIASES:
        return value + value.new_tensor([0.0, 10.0, 0.0, 0.0])[:, None]
    return value + 100 if argument in _CELLS else value


def _saturated(argument: Argument, value: Tensor) -> Tensor:
    """Without layer norm, most of the exponentials of a sigmoid or tanh overflow, even in float64."""
    magnified = argument.part in GATE_BIASES or argument in _CELLS
    return value.where(value.abs() < 1, 1000 * value) if magnified else value


def _large_cells(argument: Argument, value: Tensor) -> Tensor:
    """Without layer norm, cells so large that a difference of two has lost the digits of i g, and open forget gates."""
    if argument.part in GATE_BIASES:
        return value + value.new_tensor([0.0, 100.0, 0.0, 0.0])[:, None]
    return 1000 * value if argument in _CELLS else value


def _near_0(argument: Argument, value: Tensor) -> Tensor:
    """Without layer norm, gates and cells so small that tanh by a quotient of exponentials has lost most digits."""
    shrinks = argument.kind in (Kind.X, Kind.STATE) or argument.part in GATE_BIASES
    return 1e-5 * value if shrinks else value


def _extreme(name: str, change: Change) -> Use:
    return Use(name, run_plain, numbers=partial(changed, change=change), extreme=True)


MEANS_FAR_FROM_0 = (_extreme("means far from 0", _shifted),)
SATURATED = (
    _extreme("gates and cells overflow", _saturated),
    _extreme("cells stay large", _large_cells),
    _extreme("near 0", _near_0),
)
