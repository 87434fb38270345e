"""How much memory a pass of a case takes, and where that is more than there is."""

import math

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


def most_bytes(device: torch.device) -> int:
    """Bytes that a comparison may take, of all memory of a device: each process of a run must choose the same ones."""
    if device.type == DeviceType.CUDA:
        return int(SHARE * torch.cuda.get_device_properties(device).total_memory)
    return int(SHARE * psutil.virtual_memory().total)


def shortage(name: str, case: Case, dtype: torch.dtype, most: int, *, training: bool = True) -> str:
    """A sentence if a pass of an implementation needs more than the most bytes that may be taken, else ""."""
    needed = bytes_needed(name, case, dtype, training=training)
    if needed <= most:
        return ""
    return f"{name} needs about {needed / 1e6:,.0f} MB at this size, and {most / 1e6:,.0f} MB may be taken here."
