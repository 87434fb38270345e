"""The one table of implementations, and what can be asked of it."""

import sys
from dataclasses import dataclass
from importlib import import_module

import torch

from .layer import Run

_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _imported(name: str) -> str:
    """Import an implementation and return its module's full name; torch.compile does this while it traces."""
    return import_module(f".{name}", __package__).__name__


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _why_not_built(name: str) -> str | None:
    """Build an implementation if it is not built yet, and return None or why that cannot be done."""
    reason: str | None = sys.modules[_imported(name)].why_unavailable()
    return reason


@dataclass(frozen=True)
class Impl:
    """One row of the table: the module `impls/<name>.py`, and what it promises."""

    name: str
    summary: str
    devices: tuple[str, ...] = ("cpu", "cuda")
    dtypes: tuple[torch.dtype, ...] = _FLOATS
    twice_differentiable: bool = False
    hand_written: bool = False  # the gradient, on the skeleton of recurrence.py
    compiled: bool = False  # must be built for this machine; its module's why_unavailable() does that

    @property
    def run(self) -> Run:
        """The layer function, imported when first asked for."""
        run: Run = sys.modules[_imported(self.name)].run
        return run

    def why_unavailable(self, device: torch.device, dtype: torch.dtype) -> str | None:
        """Return None if this runs on device in dtype, else the reason in a sentence."""
        if device.type not in self.devices:
            return f"{self.name} runs on {' and '.join(self.devices)}, not on {device.type}."
        if dtype not in self.dtypes:
            return f"{self.name} computes in {', '.join(map(dtype_name, self.dtypes))}, not in {dtype_name(dtype)}."
        if device.type == "cuda" and not torch.cuda.is_available():
            return "torch sees no CUDA device here."
        if self.compiled:
            return _why_not_built(self.name)  # type: ignore[no-any-return]
        return None


#: In ladder order, which is the order of every table; the first is the oracle.
IMPLS = (
    Impl("naive", "builds every sample's weight matrices at every step", twice_differentiable=True),
    Impl("row_scaled", "scales the rows of W h instead of building weights", twice_differentiable=True),
    Impl("batched", "four gates in one product, input products before the loop", twice_differentiable=True),
    Impl(
        "deferred",
        "gradient by hand: weight gradients as large products after the loop back in time",
        hand_written=True,
    ),
    Impl(
        "batched_cpu",
        "the loop over steps in compiled code, each thread with its own rows",
        devices=("cpu",),
        dtypes=(torch.float64, torch.float32, torch.bfloat16),
        hand_written=True,
        compiled=True,
    ),
)


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name without its module, such as `float32`."""
    return str(dtype).removeprefix("torch.")


def names() -> list[str]:
    """Return the names of all implementations in ladder order, available here or not."""
    return [impl.name for impl in IMPLS]


def find(name: str) -> Impl:
    """Return the row of that name; ValueError lists the names that exist."""
    for impl in IMPLS:
        if impl.name == name:
            return impl
    raise ValueError(f"impl: expected 'auto' or one of {', '.join(names())}; got {name!r}")


def why_unavailable(name: str, device: torch.device | str, dtype: torch.dtype = torch.float32) -> str | None:
    """Return None if the implementation runs on device in dtype, else the reason in a sentence.

    ValueError if there is no implementation of that name.
    """
    return find(name).why_unavailable(torch.device(device), dtype)


def resolve(name: str, device: torch.device, dtype: torch.dtype) -> Impl:
    """Return the row to run: that of the name, or for "auto" the last in the ladder that is available.

    RuntimeError gives the reason when it, or for "auto" each of them, is unavailable.
    """
    rows = IMPLS[::-1] if name == "auto" else (find(name),)
    reasons = []
    for impl in rows:
        reason = impl.why_unavailable(device, dtype)
        if reason is None:
            return impl
        reasons.append(reason)
    raise RuntimeError(f"impl={name!r} is unavailable on {device} in {dtype_name(dtype)}: {' '.join(reasons)}")
