"""How many steps of a sequence have their arrays in memory at a time, by type of device."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise

from .definition import LayerParams


@dataclass(frozen=True)
class Limits:
    """What may stand in memory beside the trajectory; a chunk is at least one step, whatever it takes."""

    #: Bytes of a chunk's arrays in the forward pass, which sums nothing over steps: they should stay in the cache.
    forward: int
    #: The same in the backward pass: small beside the trajectory of a long sequence, large enough for the products over
    #: a chunk to run at full speed.
    backward: int
    #: Rows, steps times batch, that the backward pass sums over at once: a longer sum rounds worse than one taken part
    #: by part, and what a chunk leaves should be in the cache when it is summed. A GPU splits such sums itself.
    rows: int
    #: Rows that one product sums over, whose sums are added up after: the error of a sum grows with its length, or with
    #: the root of it. A GPU splits such sums itself.
    summed: int
    #: Bytes of residuals that are kept for the backward pass; above, memory counts for more than the sixth of the time
    #: that rebuilding them takes.
    residuals: int


LIMITS = {
    "cpu": Limits(forward=16 << 20, backward=32 << 20, rows=512, summed=128, residuals=24 << 20),
    "cuda": Limits(forward=256 << 20, backward=256 << 20, rows=1 << 62, summed=1 << 62, residuals=256 << 20),
}


@contextmanager
def limited(device_type: str, **changed: int) -> Iterator[None]:
    """Change some of a device type's `Limits`, by name, while this is open: for tests, in all threads."""
    before = LIMITS[device_type]
    LIMITS[device_type] = replace(before, **changed)
    try:
        yield
    finally:
        LIMITS[device_type] = before


def bounds(most: int, numbers: int, p: LayerParams, T: int, B: int, rows: int = 1 << 62) -> list[int]:
    """Return where T steps are cut into chunks of nearly equal length: 0, the first step of each further chunk, T.

    most: bytes of a chunk's arrays, which hold so many numbers for each number of the output.
    rows: the most steps times batch rows of a chunk.
    """
    step = numbers * max(B, 1) * p.bias.shape[1] * p.bias.element_size()
    n = -(-T // max(1, min(most // step, rows // max(B, 1))))
    return [T * i // n for i in range(n + 1)]


def slices(bounds: list[int]) -> list[slice]:
    """Return the steps of each chunk."""
    return [slice(*ends) for ends in pairwise(bounds)]
