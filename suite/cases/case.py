"""A case: sizes of one model and its input, and how the input is given."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum, StrEnum, auto
from typing import Any

import numpy as np

from impls.registry import OPTIONS

#: Letters of the sizes of a case, its first fields.
SIZES = ("T", "B", "I", "H", "S", "Z", "L")
#: Options of the model, which `HyperLSTM` and a case call the same.
MODEL_OPTIONS = ("layer_norm", "dropout", "recurrent_dropout")
#: Of the metadata of a field of `Case`: the words that stand for its values in ids, by value.
WORDS = "words"
#: Of the metadata of a field of `Case`: true if an id has its name and its value, a probability.
IS_PROBABILITY = "is_probability"


class Start(StrEnum):
    """The state that a call is given, as ids name it."""

    NONE = "none"
    #: [L, B, *], a state for each layer.
    STACKED = "stacked"
    #: [B, *], which starts every layer.
    SHARED = "shared"


class Feature(Enum):
    """What a case may have beside its sizes and the options of the model."""

    PACKED = auto()
    #: More than one.
    LAYERS = auto()
    #: A given state.
    STATE = auto()
    #: Between layers.
    DROPOUT = auto()


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
    layer_norm: bool = field(default=False, metadata={WORDS: {True: "norm"}})
    state: Start = field(
        default=Start.NONE, metadata={WORDS: {start: str(start) for start in (Start.STACKED, Start.SHARED)}}
    )
    strided: bool = field(default=False, metadata={WORDS: {True: "strided"}})  # x is a transposed view
    lengths: tuple[int, ...] = ()  # of B sequences that end at different steps, the longest at T; () if all do at T
    dropout: float = field(default=0.0, metadata={IS_PROBABILITY: True})
    recurrent_dropout: float = field(default=0.0, metadata={IS_PROBABILITY: True})
    # As opposed to evaluation mode, in which nothing is dropped.
    training: bool = field(default=True, metadata={WORDS: {False: "eval"}})

    @classmethod
    def of_row(cls, row: Mapping[Any, Any]) -> "Case":
        """The case of a row of a table that has a column for each field."""
        values: dict[str, Any] = {}
        for of_case in fields(cls):
            of_type: Any = of_case.type
            values[of_case.name] = of_type(row[of_case.name])
        return cls(**values)

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of a row that names the case: its fields."""
        return {of_case.name: getattr(self, of_case.name) for of_case in fields(self)}

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
        for of_case in reversed(fields(self)):
            words = of_case.metadata.get(WORDS, {})
            value = getattr(self, of_case.name)
            if value in words:
                parts[of_case.name] = words[value]
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
        """The options that an implementation must support; in evaluation mode there is no mask."""
        return [name for name in OPTIONS if getattr(self, name) and (self.training or name not in PROBABILITIES)]

    @property
    def features(self) -> frozenset[Feature]:
        """What the case has beside its sizes and the options of the model."""
        had = {
            Feature.PACKED: bool(self.lengths),
            Feature.LAYERS: self.L > 1,
            Feature.STATE: self.state is not Start.NONE,
            Feature.DROPOUT: self.dropout > 0,
        }
        return frozenset(feature for feature, has in had.items() if has)

    @property
    def inputs(self) -> list[int]:
        """The features that each layer reads."""
        return [self.I] + [self.H] * (self.L - 1)

    def lengths_have(self, size: str) -> bool:
        """True if the lengths determine a size: T is the longest of them, and B their number."""
        return bool(self.lengths) and size in ("T", "B")

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


#: Fields that are probabilities.
PROBABILITIES = tuple(of_case.name for of_case in fields(Case) if of_case.metadata.get(IS_PROBABILITY))


def lengths(T: int, B: int, draw: int = 0) -> tuple[int, ...]:
    """Lengths of B sequences, uniform in [T / 4, T] and the same each time; the longest, of T, comes first."""
    drawn = random.Random(draw)
    return T, *sorted((drawn.randint(T // 4, T) for _ in range(B - 1)), reverse=True)
