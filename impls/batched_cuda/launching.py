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
            if "cooperative" not in str(error).lower():
                raise
            raise RuntimeError(
                f"batched_cuda: expected {programs} programs of {kernel.__name__} to run at a time, "
                f"but the card, or what shares it, does not take them; impl='deferred' needs none: {error}"
            ) from error


@cache
def _announce() -> None:
    print("batched_cuda: a first call at new sizes compiles for some seconds; Triton keeps kernels.", file=sys.stderr)


# Triton finds what an earlier process compiled by a hash of the kernel, which depends on the kernels that were hashed
# before it: one order in every process.
for _kernel in () if INTERPRETED else (forward_steps, rebuild, backward_steps):
    _ = _kernel.cache_key
