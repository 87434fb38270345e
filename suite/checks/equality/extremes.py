"""Uses with values at which a formula that is right elsewhere overflows or loses its digits."""

from functools import partial

from torch import Tensor

from impls.definition import Role
from suite.checks.equality.comparisons import Use, Uses
from suite.comparison.draws import with_values
from suite.comparison.runs import run_plain
from suite.comparison.tensors import CELLS, is_parameter, role


def _with_open_forget_gate(bias: Tensor, by: float) -> Tensor:
    """The bias of the gates i, f, g, o, [4, F], with that much more for f."""
    opened = bias.clone()
    opened[1] += by
    return opened


def with_cells_far_from_0(argument: str, value: Tensor) -> Tensor:
    """Under layer norm, cells near 100, which an open forget gate keeps there."""
    if role(argument) is Role.GATE_NORM_BIAS:
        return _with_open_forget_gate(value, 10.0)
    return value + 100 if argument in CELLS else value


def _with_means_far_from_0(argument: str, value: Tensor) -> Tensor:
    """Under layer norm, the means of gates and cells are many deviations from 0."""
    return value + 30 if role(argument) is Role.GATE_BIAS else with_cells_far_from_0(argument, value)


def _saturated(argument: str, value: Tensor) -> Tensor:
    """Without layer norm, most of the exponentials of a sigmoid or tanh overflow, even in float64."""
    magnified = role(argument) is Role.GATE_BIAS or argument in CELLS
    return value.where(value.abs() < 1, 1000 * value) if magnified else value


def _large_cells(argument: str, value: Tensor) -> Tensor:
    """Without layer norm, cells so large that a difference of two has lost the digits of i g, and open forget gates."""
    if role(argument) is Role.GATE_BIAS:
        return _with_open_forget_gate(value, 100.0)
    return 1000 * value if argument in CELLS else value


def _near_0(argument: str, value: Tensor) -> Tensor:
    """Without layer norm, gates and cells so small that tanh by a quotient of exponentials has lost most digits."""
    shrinks = role(argument) is Role.GATE_BIAS or not is_parameter(argument)
    return 1e-5 * value if shrinks else value


FAR_FROM_0 = partial(with_values, change=_with_means_far_from_0)
LARGE_CELLS = partial(with_values, change=_large_cells)
#: Of cases with layer norm.
MEANS_FAR_FROM_0: Uses = (Use("means far from 0", run_plain, change_draw=FAR_FROM_0),)
#: Of cases without.
SATURATED: Uses = (
    Use("gates and cells overflow", run_plain, change_draw=partial(with_values, change=_saturated)),
    Use("cells stay large", run_plain, change_draw=LARGE_CELLS),
    Use("near 0", run_plain, change_draw=partial(with_values, change=_near_0)),
)
