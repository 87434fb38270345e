"""Launches kernels: cooperatively if their programs wait for one another."""

import sys
from collections.abc import Mapping
from contextlib import nullcontext
from functools import cache
from typing import Any

import torch

from .backward_kernel import backward_steps, rebuild
from .forward_kernel import forward_steps
from .parts import INTERPRETED

#: Multiply-adds may be fused, whatever Triton's default is, which changes.
OPTIONS = {"enable_fp_fusion": True}


def start(kernel: Any, programs: int, values: Mapping[str, Any], device: torch.device, **options: Any) -> None:
    """Launch `programs` programs of a kernel on a device.

    values: its arguments and constants by name; others are left out. options: of Triton. RuntimeError if the card does
    not take as many programs at a time as a cooperative launch needs.
    """
    arguments = {name: values[name] for name in kernel.arg_names}
    # Triton starts kernels on the current device, which may be another.
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        if device.type == "cuda":
            _announce()
        try:
            kernel[(programs,)](**arguments, **OPTIONS, **options)
        except RuntimeError as error:
            # The driver's own sentences are all that Triton passes on.
            if "cooperative" in str(error).lower():
                raise RuntimeError(
                    f"batched_cuda: expected {programs} programs of {kernel.__name__} to run at a time, "
                    f"but the card, or what shares it, does not take them; impl='deferred' needs none: {error}"
                ) from error
            if "kernel image is invalid" in str(error):
                raise RuntimeError(
                    f"batched_cuda: the driver does not take what Triton's ptxas assembled, which may be newer: update "
                    f"the driver, or set {_assembler(device)} to the ptxas of a CUDA that the driver knows: {error}"
                ) from error
            raise


def _assembler(device: torch.device) -> str:
    """The environment variable of the ptxas by which the installed Triton assembles kernels for a card."""
    import triton

    major, minor = torch.cuda.get_device_capability(device)
    try:
        from triton.backends.nvidia.compiler import get_ptxas

        tool = get_ptxas(10 * major + minor)
    except (ImportError, TypeError):  # it has another name, or takes something else, in other versions
        return "TRITON_PTXAS_PATH or TRITON_PTXAS_BLACKWELL_PATH"
    newer = getattr(triton.knobs.nvidia, "ptxas_blackwell", None)
    return "TRITON_PTXAS_BLACKWELL_PATH" if newer is not None and tool.path == newer.path else "TRITON_PTXAS_PATH"


@cache
def _announce() -> None:
    print("batched_cuda: a first call at new sizes compiles for some seconds; Triton keeps kernels.", file=sys.stderr)


# Triton finds what an earlier process compiled by a hash of the kernel, which depends on the kernels that were hashed
# before it: one order in every process.
for _kernel in () if INTERPRETED else (forward_steps, rebuild, backward_steps):
    _ = _kernel.cache_key
