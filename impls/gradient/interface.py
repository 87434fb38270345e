"""What an implementation with a hand-written gradient plugs in: a forward sweep over steps and a backward pass."""

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import IntEnum
from functools import cached_property
from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import linear

from ..definition import LayerParams, LayerState, Mask, embedding_bias, hidden_weight, input_weight, rows_of


class Weights:
    """What products over whole chunks multiply by, each put together once a sequence, when first asked for."""

    def __init__(self, p: LayerParams) -> None:
        self._p = p

    @cached_property
    def x(self) -> Tensor:
        """The weights for x, [4H + 4S, I]."""
        return input_weight(self._p)

    @cached_property
    def h(self) -> Tensor:
        """The weights for h, [4H + 4S, H]."""
        return hidden_weight(self._p)

    @cached_property
    def z(self) -> tuple[Tensor, Tensor]:
        """The weights [12Z, S] and the bias [12Z] of z."""
        return self._p.z_weight.flatten(0, 2), embedding_bias(self._p)


class Inputs:
    """x of K consecutive steps, [K, B, I], with its products for sweeps that do not make their own, and g's mask."""

    def __init__(self, x: Tensor, weights: Weights, mask: Mask | None, batch_sizes: Sequence[int] = ()) -> None:
        self.x, self.weights = x, weights
        #: Of packed sequences, whose arrays are [N, *] instead.
        self.batch_sizes = batch_sizes
        #: Of g at these steps, [K, B, H].
        self.mask = mask
        #: How many rows go on at each step.
        self.rows = rows_of(x, batch_sizes)

    @cached_property
    def vx(self) -> Tensor:
        """The products with x_t, [K, B, 4H + 4S]: v, then the hyper LSTM's part; made when first asked for."""
        return linear(self.x, self.weights.x)


#: A sweep over K steps: (inputs, before, into, residuals) -> last state.
#: before: the state that the first step starts from, [B, *]. into: arrays [K, B, *] to write the states after each step
#: to; those but h may be a ring of fewer steps, with step t at t modulo their number. residuals: array [K, B, *] to
#: write the residuals to, None if nobody wants them. Of packed sequences arrays are [N, *], and the last state is each
#: row's own; a row that ended before these steps keeps the state that came in.
ForwardSweep = Callable[[Inputs, LayerState, LayerState, Tensor | None], LayerState]


class Keep(IntEnum):
    """What a forward pass leaves for the backward pass, beside its output; a number, as an operator's schema has it."""

    NOTHING = 0
    TRAJECTORY = 1
    RESIDUALS = 2  # and the trajectory


class Past(NamedTuple):
    """What the backward pass knows of a sequence."""

    x: Tensor  # [T, B, I]
    start: LayerState  # [B, *] each
    trajectory: LayerState  # [T, B, *] each: the states after each step
    residuals: Tensor | None  # what the forward sweep left for the backward pass, [T, B, *]
    d_out: Tensor  # [T, B, H]
    mask: Mask | None  # of g, [T, B, H]
    batch_sizes: Sequence[int] = ()  # of packed sequences, whose arrays are [N, *] in place of [T, B, *]


#: A backward pass over a sequence: (parameters, wanted, past, carried, d_x) -> (gradients by name, that of the start).
#: wanted: names of the parameters that want a gradient. carried: the gradient of the last state. d_x: array for the
#: gradient of x, None if nobody wants it. Gradients are contiguous, and in float32 where the parameters are half.
Backward = Callable[
    [LayerParams, Collection[str], Past, LayerState, Tensor | None], tuple[Mapping[str, Tensor], LayerState]
]


class Sweeps(NamedTuple):
    """What an implementation plugs in."""

    forward: Callable[[LayerParams], ForwardSweep]  # prepares the parameters once a sequence
    backward: Backward
    #: (I, H, S) -> how many numbers a row and step leave for the backward pass; None if they leave none.
    residuals: Callable[[int, int, int], int] | None = None
    #: Steps of states, but h, that a forward sweep of any length needs where nobody keeps them, and whose last state it
    #: returns in memory of its own; None if it has chunks.
    ring: int | None = None
