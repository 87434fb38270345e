"""Triton kernels: one launch forward, and two for each chunk of steps backward, at every size.

The programs of a launch form groups; a group takes rows of the batch through all steps, and its members, which share
out the units, wait for one another where a step needs what others wrote. The same kernels run on an NVIDIA GPU and, if
TRITON_INTERPRET=1 is set before the first use, on CPU tensors through Triton's interpreter, with one member a group.
"""

from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

from ..definition import LayerState, cell_dtype
from ..gradient.operator import HandWritten, as_operator

_TRITON = (3, 6)


def _forward(*given: Any) -> LayerState:
    from .forward import forward  # imports Triton, which nothing before the first run needs

    return forward(*given)


def _backward(*given: Any) -> Any:
    from .backward import backward

    return backward(*given)


def _residuals(I: int, H: int, S: int) -> int:
    from .layout import padded

    return 4 * (padded(H) + padded(S))


run = as_operator(__name__, HandWritten(_forward, _backward, _residuals, cell_dtype))


def why_unavailable(device: torch.device, dtype: torch.dtype) -> str | None:
    """None if Triton suits the kernels and can start them, else the reason in a sentence."""
    least = ".".join(map(str, _TRITON))
    if find_spec("triton") is None:
        helps = 'pip install "hyperlstm[cuda]" installs it'
        return f"batched_cuda needs Triton {least} or newer, which is not installed: {helps}."
    import triton

    version = tuple(int(part) for part in triton.__version__.split(".")[:2])
    if version < _TRITON:
        return f"batched_cuda needs Triton {least} or newer; {triton.__version__} is installed."
    from .parts import INTERPRETED

    if device.type == "cuda":
        if INTERPRETED:
            return "batched_cuda was loaded with TRITON_INTERPRET=1, which runs its kernels on the CPU."
        return why_no_driver()
    if not INTERPRETED:
        return f"batched_cuda was loaded before TRITON_INTERPRET=1 was set, so it cannot run on {device.type}."
    return None


@cache
def why_no_driver() -> str | None:
    """None if Triton's driver is installed or can be built, else the reason in a sentence.

    Triton builds it in C at first use, and production machines often have no C compiler.
    """
    from triton.runtime import driver

    try:
        _ = driver.active.utils
    except Exception as error:  # a missing compiler, header, linker or loader each raises another type
        return f"Triton cannot build its driver, which takes a C compiler and Python.h: {' '.join(str(error).split())}"
    return None


def compiles_first(device: torch.device, dtype: torch.dtype) -> bool:
    """False: only kernels are compiled, at the first call of each size, and Triton's driver, once for all programs."""
    return False
