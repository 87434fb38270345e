"""How much memory a pass of a case takes, and where that is more than there is."""

import math
from typing import NamedTuple

import psutil
import torch

from impls.definition import shapes
from impls.registry import find
from suite.cases.case import Case
from suite.shared.devices import DeviceType

#: Upper bound on the numbers that a training step of row_scaled or batched keeps per token, layer and unit of H and S:
#: with layer norm 43 per unit of H were measured.
KEPT = 45
#: Copies of the parameters: of the model, its gradient, the draw, the oracle's results, and those compared with them.
COPIES = 6
#: Part of the memory that a comparison may take.
SHARE = 0.6


class Shortage(NamedTuple):
    """Too little memory: which implementation needs it, about how many bytes, and how many it may take.

    of_oracle: it needs them as the oracle of a comparison.
    """

    name: str
    needed: int
    most: int
    of_oracle: bool = False

    def __str__(self) -> str:
        needed = f"{self.needed / 1e6:,.0f} MB"
        needing = "The oracle" if self.of_oracle else self.name
        return f"{needing} needs about {needed} at this size, and {self.most / 1e6:,.0f} MB may be taken here."


def parameter_count(case: Case) -> int:
    """How many numbers the parameters of a case's model are."""
    layers = [shapes(I, case.H, case.S, case.Z, layer_norm=case.layer_norm) for I in case.inputs]
    return sum(math.prod(shape) for layer in layers for shape in layer.values())


def bytes_needed(name: str, case: Case, dtype: torch.dtype, *, training: bool = True) -> int:
    """Upper estimate of the bytes that a pass of an implementation holds; without a gradient those of one step."""
    kept_at = case.tokens * case.L if training else case.B
    numbers = kept_at * KEPT * (case.H + case.S)
    numbers += COPIES * parameter_count(case)
    numbers += 4 * case.tokens * (case.I + case.H)
    if find(name).builds_weights:  # and has the tensors that these are contracted from
        weights = 4 * case.H * (case.H + max(case.inputs))
        numbers += weights * (kept_at + 2 * case.Z * case.L)
    return numbers * dtype.itemsize


def memory_of(device: torch.device) -> int:
    """Bytes of all memory of the device, not of free memory: each process of a run must choose the same comparisons."""
    if device.type == DeviceType.CUDA:
        return int(torch.cuda.get_device_properties(device).total_memory)
    return int(psutil.virtual_memory().total)


def most_bytes(memory: int) -> int:
    """Bytes that a comparison may take, of so much memory."""
    return int(SHARE * memory)


def shortage(name: str, case: Case, dtype: torch.dtype, most: int, *, training: bool = True) -> Shortage | None:
    """The shortage, if a pass of an implementation needs more than the most bytes that may be taken, else None."""
    needed = bytes_needed(name, case, dtype, training=training)
    return Shortage(name, needed, most) if needed > most else None
