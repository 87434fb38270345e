"""Triton kernels: a step is a few phases, each one kernel, and the scales d of a step never reach memory.

One kernel multiplies, scales the rows of the products, adds the bias and computes the cell of its units. The same
kernels run on an NVIDIA GPU and, if TRITON_INTERPRET=1 is set before the first use, on CPU tensors through Triton's
interpreter. That shows all but speed, the order of concurrent programs, graph capture and TF32.
"""

from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .. import triton_driver
from ..definition import LayerParams, LayerState
from ..dropout import Mask

if TYPE_CHECKING:
    from .launching import Launches

_TRITON = (3, 6)
_CAPABILITY = (8, 0)


def run(p: LayerParams, x: Tensor, s: LayerState, mask: Mask | None) -> tuple[Tensor, LayerState]:
    """Run one layer over all steps: x [T, B, I], s as `LayerState`, g's mask [T, B, H] or None -> out, last state."""
    from .sweeps import run as layer  # imports Triton, which nothing before the first run needs

    return layer(p, x, s, mask)


def launches() -> "dict[str, Launches]":
    """Return how the last pass "forward" and the last "backward" were started; of a long sequence, the last part."""
    from .launching import launches as asked

    return asked()


def plain_launches() -> AbstractContextManager[None]:
    """Start every kernel from Python, never from a graph, while this context is open."""
    from .passes import plain_launches as context

    return context()


def graph_bytes() -> int:
    """Return the bytes of device memory that CUDA graphs hold, their pools counted whole."""
    from .passes import graph_bytes as asked

    return asked()


def clear() -> None:
    """Let all CUDA graphs go and give their memory back to the device."""
    from .passes import clear as cleared

    cleared()


def why_unavailable(device: torch.device, dtype: torch.dtype) -> str | None:
    """Return None if Triton and the card suit the kernels, else the reason in a sentence."""
    least = ".".join(map(str, _TRITON))
    if find_spec("triton") is None:
        return f"batched_cuda needs Triton {least} or newer, which is not installed."
    import triton

    version = tuple(int(part) for part in triton.__version__.split(".")[:2])
    if version < _TRITON:
        return f"batched_cuda needs Triton {least} or newer; {triton.__version__} is installed."
    from .launching import INTERPRETED

    if device.type == "cuda":
        if INTERPRETED:
            return "batched_cuda was loaded with TRITON_INTERPRET=1, which runs its kernels on the CPU."
        if torch.version.hip is not None:
            return "batched_cuda is written for NVIDIA cards; this build of torch is for AMD's."
        capability = torch.cuda.get_device_capability(device)
        if capability < _CAPABILITY:
            return "batched_cuda needs compute capability {}.{} or higher; this card has {}.{}.".format(
                *_CAPABILITY, *capability
            )
        return triton_driver.why_unavailable()
    if not INTERPRETED:
        return f"batched_cuda was loaded before TRITON_INTERPRET=1 was set, so it cannot run on {device.type}."
    return None
