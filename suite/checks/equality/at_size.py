"""What is compared at the sizes that `--size` names, as far as it fits into memory."""

import math
from collections.abc import Sequence

import psutil
import torch

from impls import names
from impls.definition import shapes
from impls.registry import find
from suite.cases.case import Case
from suite.checks.equality.calls import INFERENCE
from suite.checks.equality.comparison import WIDE_ORACLE, Shortage, Task, against_wide
from suite.shared.devices import DeviceType

#: Numbers that a training step of row_scaled or batched keeps per token, layer and unit of either LSTM: up to 43 of H
#: were measured, with layer norm.
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
    """About as many bytes as a pass of an implementation holds at most."""
    steps = case.tokens * case.L if training else case.B
    numbers = steps * KEPT * (case.H + case.S)
    numbers += COPIES * parameter_count(case)
    numbers += 4 * case.tokens * (case.I + case.H)
    if find(name).builds_weights:  # and has the tensors that these are contracted from
        weights = 4 * case.H * (case.H + max(case.inputs))
        numbers += weights * (steps + 2 * case.Z * case.L)
    return numbers * dtype.itemsize


def memory_of(device: torch.device) -> int:
    """Bytes of memory of the device: all, since each process of a run must come to the same comparisons."""
    if device.type == DeviceType.CUDA:
        return int(torch.cuda.get_device_properties(device).total_memory)
    return int(psutil.virtual_memory().total)


def shortage(name: str, case: Case, dtype: torch.dtype, device: torch.device) -> Shortage | None:
    """How far memory is too little for a case of an implementation; None if it is enough."""
    needed = bytes_needed(name, case, dtype, training=case.training)
    most = int(SHARE * memory_of(device))
    return Shortage(name, needed, most) if needed > most else None


def at_sizes(cases: Sequence[Case], dtypes: Sequence[torch.dtype], memory: int) -> list[Task]:
    """Comparisons of every implementation in its dtypes, or in those given, at some sizes.

    memory: in bytes. Where a training step does not fit, the forward pass alone is compared.
    """
    most = int(SHARE * memory)
    tasks = []
    for case in dict.fromkeys(cases):  # a person may name a size twice
        for name in names():
            for dtype in dtypes_of(name):
                if not dtypes or dtype in dtypes:
                    tasks.append(_at_size(name, case, dtype, most))
    return tasks


def dtypes_of(name: str) -> tuple[torch.dtype, ...]:
    """Dtypes that are compared: with weights of each row, whose gradients sum more products, float64 alone."""
    impl = find(name)
    return (torch.float64,) if impl.builds_weights else impl.dtypes


def _at_size(name: str, case: Case, dtype: torch.dtype, most: int) -> Task:
    trained = against_wide(case, dtype)
    oracle = bytes_needed(WIDE_ORACLE, case, torch.float64)
    if oracle > most:
        return Task(name, trained, Shortage(None, oracle, most))
    needed = bytes_needed(name, case, dtype)
    if needed <= most:
        return Task(name, trained)
    if bytes_needed(name, case, dtype, training=False) <= most:
        return Task(name, against_wide(case, dtype, INFERENCE))
    return Task(name, trained, Shortage(name, needed, most))
