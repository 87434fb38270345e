"""Scratch memory of the launches: which arrays it holds, for the host that allocates it and the kernels that use it.

The arrays of a table follow one another. Kernels call these functions while they are compiled.
"""

from typing import NamedTuple

from .split import TILE

#: Numbers of a row's norms: mean and M2, mean and 1 / std, or two sums, of each gate and then of the cell.
MOMENTS = 10
#: Where those of the cell are.
CELL = 8
#: Vectors of the gradients of an LSTM's norms: weights of the gates, their biases, weight and bias of the cell.
NORMS = 10


class Array(NamedTuple):
    """An array of numbers of 4 bytes."""

    name: str
    numbers: int  # for each of what it is per
    per: str  # row of the batch, gate of a row, or program or job of the launch


def forward_room(H: int, S: int, Z: int, NORM: bool, UNITS: int, SHARES: int) -> tuple[Array, ...]:
    """The arrays of `forward_steps`."""
    return (
        Array("c", H, "row"),
        Array("c_hat", SHARES * S, "row"),
        Array("y", 4 * H, "row"),
        Array("own", TILE * (S + 12 * Z), "program"),  # h_hat and z
        Array("parts", (H + UNITS - 1) // UNITS * MOMENTS if NORM else 0, "row"),
    )


def backward_room(H: int, S: int, Z: int, NORM: bool, UNITS: int, SHARES: int) -> tuple[Array, ...]:
    """The arrays of `backward_steps` that a launch needs alone."""
    return (
        Array("dys", 4 * H, "row"),
        Array("hat_parts", SHARES * S, "row"),
        Array("own", TILE * 12 * Z, "program"),  # dz
        Array("row_sums", (H + UNITS - 1) // UNITS * MOMENTS if NORM else 0, "row"),
    )


def backward_state(H: int, S: int, NORM: bool) -> tuple[Array, ...]:
    """The arrays of `backward_steps` that one chunk leaves to the next."""
    return (
        Array("parts", H + S, "gate"),
        Array("dc", H, "row"),
        Array("dc_hat", S, "row"),
        Array("totals", NORMS * (H + S) if NORM else 0, "job"),
    )


def numbers(table: tuple[Array, ...], name: str) -> int:
    """How many numbers an array has per row, program or job."""
    for array, count, _ in table:  # Triton 3.6 hands its interpreter plain tuples
        if array == name:
            return count
    raise KeyError(name)


def begins(table: tuple[Array, ...], **counts: int) -> dict[str, int]:
    """Where each array begins, and where the last one ends; counts: how many there are of what arrays are per."""
    places, end = dict[str, int](), 0
    for array in table:
        places[array.name] = end
        end += array.numbers * counts[array.per]
    return places | {"end": end}
