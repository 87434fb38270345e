"""How a kernel is started: cooperatively where its programs wait for one another, with a word while it compiles."""

import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from triton.runtime.interpreter import InterpretedFunction

from .backward_kernel import backward_steps, rebuild
from .forward_kernel import forward_steps

#: Whether the kernels were made for Triton's interpreter, which is settled when their modules are first imported.
INTERPRETED = isinstance(forward_steps, InterpretedFunction)
#: By which Triton finds a kernel compiled. Each depends on those that were made before it, so they are made in one
#: order in every process.
KEYS = [] if INTERPRETED else [kernel.cache_key for kernel in (forward_steps, rebuild, backward_steps)]
#: Seconds after which a first call says that it compiles.
PATIENCE = 2.0
#: Multiply-adds may be fused, whatever Triton's default is, which changes.
_OPTIONS = {"enable_fp_fusion": True}

_told = threading.Event()
#: What was started before, and is compiled: each a kernel, the dtype of its numbers, which arguments it has, constants.
_started = set[tuple[Any, ...]]()


def start(
    kernel: Any, programs: int, given: Sequence[Any], constants: Mapping[str, Any], *, cooperative: bool = False
) -> None:
    """Start a kernel of so many programs on the device of what it is given, whose first is a tensor.

    cooperative: they wait for one another, so that all must run at a time. RuntimeError if the card takes fewer.
    """
    device = given[0].device
    what = (kernel.__name__, device, given[0].dtype, tuple(q is None for q in given), *constants.values())
    # Triton starts kernels on the current device, which may be another.
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext(), _patience(what):
        try:
            kernel[(programs,)](*given, **constants, **options(cooperative))
        except RuntimeError as error:
            if not cooperative or "cooperative" not in str(error).lower():
                raise
            raise RuntimeError(
                f"batched_cuda: expected {programs} programs of {kernel.__name__} to run at a time, "
                f"but the card, or what shares it, does not take them; impl='deferred' needs none: {error}"
            ) from error


def options(cooperative: bool) -> dict[str, bool]:
    """Options that kernels are compiled and started with."""
    return {**_OPTIONS, "launch_cooperative_grid": True} if cooperative else _OPTIONS


@contextmanager
def _patience(what: tuple[Any, ...]) -> Iterator[None]:
    """Say once on stderr that a call compiles, when it takes long."""
    if INTERPRETED or what in _started or _told.is_set():
        yield
        return
    timer = threading.Timer(PATIENCE, _tell, what[:1])  # a thread, which takes longer to start than a kernel
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    _started.add(what)


def _tell(name: str) -> None:
    if not _told.is_set():
        _told.set()
        print(f"batched_cuda: compiling {name} for these sizes, once; Triton keeps it for later runs.", file=sys.stderr)


def arithmetic(dtype: torch.dtype) -> str:
    """The arithmetic of products; float32 follows torch.backends.cuda.matmul.fp32_precision.

    Unlike torch.get_float32_matmul_precision() that never raises.
    """
    if dtype == torch.float32 and str(torch.backends.cuda.matmul.fp32_precision) == "tf32":
        return "tf32"
    return str(dtype).removeprefix("torch.")


def precision(arithmetic: str) -> str:
    """The arithmetic as kernels name it; the interpreter has no products of bfloat16."""
    if arithmetic == "tf32":
        return "tf32"
    return "wide" if arithmetic == "bfloat16" and INTERPRETED else "ieee"
