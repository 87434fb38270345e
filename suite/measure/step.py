"""A pass of one model, which is called again and again while it is timed."""

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from suite.cases.workloads import Pass

#: Each change of the parameters leaves them within this share of a tensor's standard deviation of where they started.
CHANGE = 0.25
#: What inputs, orders and calls are drawn with, which no seed foretells.
CHANCE = random.SystemRandom()
#: Tensors of one call, such as the initial state; or its results: out [T, B, H], or the data of a packed one, the final
#: states, and in training the gradients of the parameters.
Tensors = tuple[Tensor, ...]
#: What a call gets: x [T, B, I] or packed, and the state that it starts from, of zeros if None.
Input = tuple[Tensor | PackedSequence, Tensors | None]


class Step:
    """A forward pass in evaluation mode without a graph, or a training step.

    A training step is forward, mean square, backward, and a change of all parameters in place, as by an optimiser. The
    change is part of the time. It is a random multiple of fixed random numbers, one addition for all tensors, which
    takes 9 microseconds on the workload small, where a step takes 2 ms. It keeps the parameters near where they
    started, where an optimiser would take them far away within the thousands of steps that are timed.
    """

    def __init__(self, model: nn.Module, timed: Pass) -> None:
        self.trains = timed is Pass.TRAIN
        self.model = model.train(self.trains)
        self.tensors: list[Tensor] = list(model.parameters())
        self.directions: list[Tensor] = []
        if self.trains:
            self.directions = [CHANGE * q.detach().std() * torch.randn_like(q) for q in self.tensors]
        self.at = 0.0
        self.amounts: list[float] = []
        self.parameters = self._values()

    def __call__(self, x: Tensor | PackedSequence, state: Tensors | None = None) -> Tensors:
        """Results of one call."""
        if not self.trains:
            with torch.no_grad():
                return _flat(*self.model(x, state))
        for q in self.tensors:
            q.grad = None
        results = _flat(*self.model(x, state))
        results[0].square().mean().backward()
        gradients: list[Any] = [q.grad for q in self.tensors]
        new = CHANCE.uniform(-1, 1)
        self.amounts.append(new - self.at)
        self.at = new
        self._change(self.tensors, self.amounts[-1])
        return (*results, *gradients)

    def before(self) -> None:
        """Note the parameters before a round; a forward pass leaves them as they are."""
        if self.trains:
            self.parameters = self._values()
            self.amounts.clear()

    def parameters_at(self, call: int) -> dict[str, Tensor]:
        """The parameters of a call after `before`, counted from 0, to the bit: changed as often and in the same way."""
        values = {name: value.clone() for name, value in self.parameters.items()}
        for amount in self.amounts[:call]:
            self._change(list(values.values()), amount)
        return values

    def _values(self) -> dict[str, Tensor]:
        return {name: q.detach().clone() for name, q in self.model.named_parameters()}

    def _change(self, tensors: list[Tensor], amount: float) -> None:
        with torch.no_grad():
            torch._foreach_add_(tensors, self.directions, alpha=amount)


def _flat(out: Any, last: Sequence[Tensor]) -> Tensors:
    """What a model returns; of a packed output the data."""
    return (out if isinstance(out, Tensor) else out.data, *last)
