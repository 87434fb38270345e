"""Uses with values at which a formula that is right elsewhere overflows or loses its digits."""

from functools import partial

from torch import Tensor

from impls.definition import Role
from suite.checks.equality.tasks import Group
from suite.checks.equality.use import Use
from suite.comparison.draws import DrawChange, ValueChange, with_values
from suite.comparison.runs import run_plain
from suite.comparison.tensors import CELLS, Argument, Gate, Kind


def with_open_forget_gate(bias: Tensor, by: float) -> Tensor:
    """The bias of the gates of an LSTM, [4, F], with that much more for the forget gate."""
    opened = bias.clone()
    opened[Gate.F.value] += by
    return opened


def with_cells_far_from_0(argument: Argument, value: Tensor) -> Tensor:
    """Under layer norm, cells near 100, which an open forget gate keeps there."""
    if argument.role is Role.GATE_NORM_BIAS:
        return with_open_forget_gate(value, 10.0)
    return value + 100 if argument in CELLS else value


def _with_means_far_from_0(argument: Argument, value: Tensor) -> Tensor:
    """Under layer norm, the means of gates and cells are many deviations from 0."""
    return value + 30 if argument.role is Role.GATE_BIAS else with_cells_far_from_0(argument, value)


def _saturated(argument: Argument, value: Tensor) -> Tensor:
    """Without layer norm, most of the exponentials of a sigmoid or tanh overflow, even in float64."""
    magnified = argument.role is Role.GATE_BIAS or argument in CELLS
    return value.where(value.abs() < 1, 1000 * value) if magnified else value


def _large_cells(argument: Argument, value: Tensor) -> Tensor:
    """Without layer norm, cells so large that a difference of two has lost the digits of i g, and open forget gates."""
    if argument.role is Role.GATE_BIAS:
        return with_open_forget_gate(value, 100.0)
    return 1000 * value if argument in CELLS else value


def _near_0(argument: Argument, value: Tensor) -> Tensor:
    """Without layer norm, gates and cells so small that tanh by a quotient of exponentials has lost most digits."""
    shrinks = argument.kind in (Kind.X, Kind.STATE) or argument.role is Role.GATE_BIAS
    return 1e-5 * value if shrinks else value


def _draw_with(change: ValueChange) -> DrawChange:
    return partial(with_values, change=change)


def _extreme(name: str, change: DrawChange) -> Use:
    return Use(name, run_plain, change_draw=change, extreme=True)


FAR_FROM_0 = _draw_with(_with_means_far_from_0)
LARGE_CELLS = _draw_with(_large_cells)
#: Of cases with layer norm.
MEANS_FAR_FROM_0 = Group("means far from 0", (_extreme("means far from 0", FAR_FROM_0),))
#: Of cases without.
SATURATED = Group(
    "saturated",
    (
        _extreme("gates and cells overflow", _draw_with(_saturated)),
        _extreme("cells stay large", LARGE_CELLS),
        _extreme("near 0", _draw_with(_near_0)),
    ),
)
