"""Sizes that a person names: `parse` reads what `Case.id` prints, such as `T50-B24-I88-H512-S64-Z8-L2-norm`.

Parts stand in any order, with "-" between them. Sizes that are left out are those of the workload *medium*. `axis`
reads one size with several values, such as `H=128,256,512`.
"""

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from suite.cases.case import PROBABILITIES, SIZES, WORDS, Case
from suite.cases.workloads import WORKLOADS

#: Sizes that are left out.
MEDIUM = WORKLOADS["medium"].case
SPELLING = "T50-B3-I50-H256-S64-Z4-L1-norm-dropout0.1-recurrent_dropout0.1-lengths50.40.7-strided-stacked-eval"


class SizeError(argparse.ArgumentTypeError):
    """A part of a size is wrong; the sentence names it and shows the spelling."""

    def __init__(self, part: str, expected: str) -> None:
        super().__init__(f"{part!r}: expected {expected}. A size is spelled as in {SPELLING}; parts may be left out")


def parse(text: str) -> Case:
    """The case of that id; SizeError names the first part that is wrong."""
    fields: dict[str, Any] = {}
    for part in text.split("-"):
        name, value = _field(part)
        if name in fields:
            raise SizeError(part, f"{name} once, not twice")
        fields[name] = value
    if lengths := fields.get("lengths"):
        for name, implied in (("T", max(lengths)), ("B", len(lengths))):
            if fields.setdefault(name, implied) != implied:
                raise SizeError(f"{name}{fields[name]}", f"{name}{implied}, which the lengths have")
    return replace(MEDIUM, **fields)


def short(case: Case) -> str:
    """The shortest name of a case: H, and the parts of its id in which it is not medium."""
    medium = MEDIUM.parts
    return "-".join(part for name, part in case.parts.items() if name == "H" or part != medium.get(name))


def axis(text: str) -> tuple[str, list[int]]:
    """One size and its values, in order; SizeError names the part that is wrong."""
    size, _, values = text.partition("=")
    if size not in SIZES:
        raise SizeError(text, "one size and its values, such as H=128,256,512")
    numbers = [_size(f"{size}={digits}", digits) for digits in values.split(",")]
    if len({*numbers}) < max(2, len(numbers)):
        raise SizeError(text, "two values or more, each once")
    return size, sorted(numbers)


def along(case: Case, size: str, values: Sequence[int]) -> list[Case]:
    """A case with each value of a size; SizeError if its lengths have the size."""
    if case.lengths and size in ("T", "B"):
        raise SizeError(f"{size}={values[0]}", "another size beside lengths, which have T and B")
    sizes: list[dict[str, Any]] = [{size: value} for value in values]
    return [replace(case, **changed) for changed in sizes]


def _field(part: str) -> tuple[str, Any]:
    """Name and value of the field of `Case` that a part stands for."""
    if part in _WORDS:
        return _WORDS[part]
    match = re.fullmatch(r"([A-Za-z_]+)([0-9][0-9.]*)", part)
    if match is None or match[1] not in _NUMBERS:
        raise SizeError(part, f"one of {', '.join([*_NUMBERS, *_WORDS])}")
    return match[1], _NUMBERS[match[1]](part, match[2])


def _size(part: str, digits: str) -> int:
    if not digits.isdigit() or int(digits) < 1:
        raise SizeError(part, "a whole number of 1 or more")
    return int(digits)


def _probability(part: str, digits: str) -> float:
    expected = "a probability above 0, at most 1"
    try:
        value = float(digits)
    except ValueError:
        raise SizeError(part, expected) from None
    if not 0 < value <= 1:
        raise SizeError(part, expected)
    return value


def _lengths(part: str, digits: str) -> tuple[int, ...]:
    return tuple(_size(part, length) for length in digits.split("."))


#: Parts with a number, by the name of their field.
_NUMBERS: dict[str, Callable[[str, str], Any]] = {
    **dict.fromkeys(SIZES, _size),
    "lengths": _lengths,
    **dict.fromkeys(PROBABILITIES, _probability),
}
#: Parts without one: field and value.
_WORDS: dict[str, tuple[str, Any]] = {
    word: (name, value) for name, words in WORDS.items() for value, word in words.items()
}
