"""How the kernels of a sweep are started."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from triton.runtime.interpreter import InterpretedFunction

from .forward_kernels import main_gates
from .target import Target
from .tiles import Card

#: Whether the kernels were made for Triton's interpreter, which is settled when their modules are first imported.
INTERPRETED = isinstance(main_gates, InterpretedFunction)

Steps = Callable[[Target, Sequence[Any], Sequence[Tensor]], None]


def plain(kernel: Any, grid: tuple[int, ...], given: Sequence[Any], constants: dict[str, Any]) -> None:
    kernel[grid](*given, **constants)


def target(device: torch.device, dtype: torch.dtype) -> Target:
    if dtype == torch.float32:
        precision = "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"
    else:
        precision = "ieee" if device.type == "cuda" else "wide"
    return Target(Card.of(device), precision, plain)


def run(steps: Steps, given: Sequence[Any], out: Sequence[Tensor]) -> None:
    if given[0].numel():
        steps(target(given[0].device, given[0].dtype), given, out)
