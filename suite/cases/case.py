"""A case: sizes of one model and its input, and how the input is given."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from impls.registry import OPTIONS

#: Letters of the sizes of a case, its first fields.
SIZES = ("T", "B", "I", "H", "S", "Z", "L")
#: Options of the model, which `HyperLSTM` and a case call the same.
MODEL_OPTIONS = ("layer_norm", "dropout", "recurrent_dropout")
#: Fields of `Case` that are probabilities: an id has the name and the value.
PROBABILITIES = ("dropout", "recurrent_dropout")
#: The state that a call is given: none, one for each layer, [L, B, *], or one that starts every layer, [B, *].
Start = Literal["none", "stacked", "shared"]
#: Words that stand in ids for values of fields of `Case`, in the order of an id.
WORDS: dict[str, dict[Any, str]] = {
    "training": {False: "eval"},
    "strided": {True: "strided"},
    "state": {"stacked": "stacked", "shared": "shared"},
    "layer_norm": {True: "norm"},
}


@dataclass(frozen=True)
class Case:
    """Sizes of one model and its input, and how the input is given."""

    T: int
    B: int
    I: int
    H: int
    S: int
    Z: int
    L: int = 1
    layer_norm: bool = False
    state: Start = "none"
    strided: bool = False  # x is a transposed view
    lengths: tuple[int, ...] = ()  # of B sequences that end at different steps, the longest at T; () if all do at T
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    training: bool = True  # as opposed to evaluation mode, in which nothing is dropped

    @property
    def id(self) -> str:
        """Name of the case in test ids and tables, such as `T7-B3-I5-H16-S8-Z4-L2-strided-stacked-norm`."""
        return "-".join(self.parts.values())

    @property
    def parts(self) -> dict[str, str]:
        """Parts of the id by field: all sizes, and the options that are not the default."""
        parts = {size: f"{size}{number}" for size, number in self.sizes.items()}
        if self.lengths:
            parts["lengths"] = "lengths" + ".".join(map(str, self.lengths))
        for name in PROBABILITIES:
            probability = getattr(self, name)
            if probability:
                parts[name] = f"{name}{np.format_float_positional(probability, trim='-')}"
        for name, words in WORDS.items():
            value = getattr(self, name)
            if value in words:
                parts[name] = words[value]
        return parts

    @property
    def sizes(self) -> dict[str, int]:
        """T, B, I, H, S, Z and L by their letters."""
        return {size: getattr(self, size) for size in SIZES}

    def fitting(self, multiples: Mapping[str, int]) -> "Case":
        """The case with each size rounded up to the multiple that its letter has; see `Impl.multiples`."""
        steps = dict(multiples)
        if self.L > 1 and "I" in steps:  # the other layers read H
            steps["H"] = math.lcm(steps["I"], steps.get("H", 1))
        rounded: dict[str, Any] = {letter: -(-self.sizes[letter] // step) * step for letter, step in steps.items()}
        return replace(self, **rounded)

    @property
    def arguments(self) -> dict[str, Any]:
        """The options of the model, as arguments of `HyperLSTM`."""
        return {name: getattr(self, name) for name in MODEL_OPTIONS}

    @property
    def options(self) -> list[str]:
        """The options that an implementation must support."""
        return [name for name in OPTIONS if self.uses(name)]

    def uses(self, name: str) -> bool:
        """True if a field differs from its default, and has an effect: in evaluation mode nothing is dropped."""
        if name in PROBABILITIES and not self.training:
            return False
        return bool(getattr(self, name) != getattr(Case, name))

    @property
    def inputs(self) -> list[int]:
        """The features that each layer reads."""
        return [self.I] + [self.H] * (self.L - 1)

    @property
    def tokens(self) -> int:
        """Number of steps of all sequences."""
        return sum(self.lengths) if self.lengths else self.T * self.B

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Number of sequences that have each step, as in a `PackedSequence`; () if all have all."""
        if not self.lengths:
            return ()
        return tuple(sum(length > step for length in self.lengths) for step in range(self.T))

    @property
    def sorted_by_length(self) -> bool:
        """True if no sequence is longer than the one before it, as packing expects unless it is told to sort."""
        return sorted(self.lengths, reverse=True) == list(self.lengths)

    def multiply_adds(self) -> int:
        """Multiply-adds of a forward pass over the whole input (impls/README.md, Costs)."""
        H, S, Z = self.H, self.S, self.Z
        steps = [4 * H * (H + I) + 4 * S * (H + I + S) + 12 * Z * S + 12 * H * Z for I in self.inputs]
        return self.tokens * sum(steps)

    def least_numbers(self, parameters: int, saved: int, train: bool) -> int:
        """Least numbers that a pass moves between memory and processor, if the cache holds everything else.

        Forward: x in, each layer's h out, the parameters in. A training step adds for its backward pass: x, h, the
        gradient of h and the parameters in; `saved`, the other numbers per token and layer that it needs, out and in;
        the gradients of the parameters out.
        """
        x, h = self.tokens * sum(self.inputs), self.tokens * self.H * self.L
        forward = x + h + parameters
        return forward + x + 2 * h + 2 * self.tokens * saved * self.L + 2 * parameters if train else forward


def lengths(T: int, B: int, draw: int = 0) -> tuple[int, ...]:
    """Lengths of B sequences, uniform in [T / 4, T] and the same each time; the longest, of T, comes first."""
    drawn = random.Random(draw)
    return T, *sorted((drawn.randint(T // 4, T) for _ in range(B - 1)), reverse=True)
