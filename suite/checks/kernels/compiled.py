"""Every kernel of `batched_cuda`, compiled ahead of time for cards that need not be here.

What is compiled is what a GPU would run, as `launched.py` writes it down: the same kernels, tiles, warps and argument
types. Run as `python -m suite.checks.kernels.compiled FILE [all]`, in a process of its own, since Triton compiles
nothing where its interpreter is on. No GPU and no driver is needed.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib import import_module
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
from impls.batched_cuda.tiles import A10, A100, B200, H100, L4, RTX_5090, Card

from impls import why_unavailable
from impls.registry import dtype_name
from suite.checks.kernels.launched import launched
from suite.shared.arithmetic import dtype_of
from suite.shared.cases import WORKLOADS, Case
from suite.shared.children import killed_with, leave

_BASE = WORKLOADS["char-ptb"]
#: The sizes at which kernels are compiled: the workloads, large batches, rows that no vector divides, the ends of Z,
#: and the largest that one launch takes for a sequence.
SIZES: dict[str, Case] = {
    **{name: WORKLOADS[name] for name in ("char-ptb", "enwik8", "handwriting", "medium", "small")},
    **{f"B {B}": replace(_BASE, B=B) for B in (512, 768, 1024, 2048, 4096)},
    "H 513": replace(_BASE, H=513),
    **{f"Z {Z}": replace(_BASE, Z=Z) for Z in (1, 64)},
    **{f"H {H}, S {S}, Z {Z}": replace(_BASE, H=H, S=S, Z=Z) for H, S, Z in ((192, 64, 4), (129, 127, 33))},
}
#: The same for the kernels that a mask of g changes: with one launch for a sequence, and in phases.
MASKED = {f"{name}, dropout": replace(WORKLOADS[name], recurrent_dropout=0.1) for name in ("char-ptb", "small")}
#: By compute capability, ten to the whole number.
CARDS = {80: A100, 86: A10, 89: L4, 90: H100, 100: B200, 120: RTX_5090}
#: What `verify` compiles for: the card with the least shared memory and the fewest multiprocessors of its kind.
SOME_CAPABILITIES = (86,)


#: (arithmetic, layer norm) that are compiled for every size and card,
EVERYWHERE = (("bfloat16", False), ("bfloat16", True), ("tf32", False))
#: and (arithmetic, layer norm, capability) for char-ptb and for the largest that one launch takes. float16 takes of a
#: card what bfloat16 takes, so one shows its instructions; float32's own products use no tensor cores, and a phase for
#: norms holds no products, so the card with the fewest registers to spare shows both.
ONCE = (("float16", False, 90), ("tf32", True, 80), ("float32", False, 80), ("float32", True, 80))
#: (size, arithmetic, layer norm) that are compiled for every card under a mask: each dtype.
UNDER_A_MASK = (
    *(("char-ptb, dropout", *what) for what in (*EVERYWHERE, ("float16", False))),
    *(("small, dropout", *what) for what in EVERYWHERE[:2]),
)
#: (size, arithmetic, layer norm) that `verify` compiles.
SOME = (
    ("char-ptb", "bfloat16", True),
    ("char-ptb", "tf32", False),
    ("B 1024", "bfloat16", False),
    ("small", "bfloat16", True),
    ("char-ptb, dropout", "bfloat16", True),
    ("small, dropout", "bfloat16", False),
)


class Kernel(NamedTuple):
    """One kernel as a sweep would start it."""

    arithmetic: str
    capability: int
    module: str
    name: str
    given: tuple[str, ...]  # of each argument the dtype of a tensor, or the type: "int", "float" or "NoneType"
    constants: tuple[tuple[str, Any], ...]  # and options


def chosen(everything: bool) -> dict[Kernel, str]:
    """Return what is compiled, each kernel once, with the first size that needs it."""
    wanted = [(size, *what, capability) for size in SIZES for capability in CARDS for what in EVERYWHERE]
    wanted += [(size, *what) for size in (_BASE.name, "H 192, S 64, Z 4") for what in ONCE]
    wanted += [(*what, capability) for what in UNDER_A_MASK for capability in CARDS]
    some = [(*what, capability) for what in SOME for capability in SOME_CAPABILITIES]
    found: dict[Kernel, str] = {}
    for size, arithmetic, layer_norm, capability in wanted if everything else some:
        case = replace((SIZES | MASKED)[size], layer_norm=layer_norm)
        for kernel in kernels(case, arithmetic, capability, CARDS[capability]):
            if size in SIZES or "float" in kernel.given:  # the one that any takes is the scale of a mask
                found.setdefault(kernel, size)
    return found


def kernels(case: Case, arithmetic: str, capability: int, card: Card) -> Iterator[Kernel]:
    """Yield each kernel that forward and backward start at a case's sizes on a card."""
    sweeps = launched(case, card, dtype_of(arithmetic), "tf32" if arithmetic == "tf32" else "ieee")
    for kernel, _, given, constants in chain(*sweeps):
        described = arithmetic, capability, kernel.fn.__module__, kernel.fn.__name__
        kinds = (dtype_name(q.dtype) if hasattr(q, "dtype") else type(q).__name__ for q in given)
        yield Kernel(*described, tuple(kinds), tuple(constants.items()))


def build(kernel: Kernel) -> Any:
    """Compile one kernel as a launch on the card does, by way of Triton's cache, and return it."""
    import triton
    from triton.backends.compiler import GPUTarget

    function = getattr(import_module(kernel.module), kernel.name)
    values: dict[str, Any] = {"NoneType": None, "int": 1, "float": 1.0}
    given = [values[kind] if kind in values else getattr(torch, kind) for kind in kernel.given]
    driver = mock.Mock()
    driver.get_current_target.return_value = GPUTarget("cuda", kernel.capability, 32)
    driver.get_current_device.return_value = kernel.capability  # Triton remembers a device's target
    with mock.patch.object(triton.runtime.driver, "_active", driver):
        return function.warmup(*given, grid=(1,), **dict(kernel.constants))


def compiled(kernel: Kernel) -> dict[str, Any]:
    """Compile one kernel and return its row: what it takes of a multiprocessor, and which instructions it uses."""
    import triton

    start = time.perf_counter()
    binary = build(kernel)
    seconds = time.perf_counter() - start
    usage, ptx = _resources(binary.asm["cubin"], binary.metadata.name), binary.asm["ptx"]
    constants = dict(kernel.constants)
    return {
        "kernel": kernel.name,
        "arithmetic": kernel.arithmetic,
        "capability": kernel.capability,
        **{name.lower(): constants.get(name) for name in ("F", "ROWS", "UNITS", "DEPTH")},
        **{name: value for name, value in constants.items() if name.startswith("num_")},
        "registers": usage["REG"],
        "stack_bytes": usage["STACK"],
        "shared_bytes": binary.metadata.shared,
        "shared_limit": CARDS[kernel.capability].shared,
        "product": ".dot" in binary.asm["ttir"],
        "tensor_cores": bool(re.search(r"\b(mma\.sync|wgmma\.mma_async|tcgen05\.mma)", ptx)),
        "rounds": "-8192" in ptx,  # the mask of what TF32 keeps
        "async_copies": "cp.async" in ptx,
        "seconds": seconds,
        "triton": triton.__version__,
    }


def _resources(cubin: bytes, name: str) -> dict[str, int]:
    """Return what Triton's own cuobjdump reads from a cubin: registers and stack of each thread."""
    import triton

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        tool = triton.knobs.nvidia.cuobjdump.path
        told = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    found = re.search(rf"Function {re.escape(name)}:\s*(.*)", told)
    if found is None:
        raise ValueError(f"cuobjdump -res-usage: expected a line for {name}, got {told!r}")
    return {key: int(value) for key, value in re.findall(r"(\w+):(\d+)", found[1])}


def pool() -> ProcessPoolExecutor:
    """Return the processes that compile: one a core that this process may use, at most 16."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ProcessPoolExecutor(min(16, cores), get_context("spawn"), killed_with, (os.getpid(),))


def precompile(pairs: Iterable[tuple[Case, str]], device: torch.device) -> None:
    """Compile what `batched_cuda` starts at cases' sizes, each in an arithmetic; nothing where it does not run.

    A launch finds it in Triton's cache. What it does not find it compiles, one kernel after the other: minutes of one
    core for a first verification.
    """
    if device.type != "cuda" or why_unavailable("batched_cuda", device) is not None:
        return
    major, minor = torch.cuda.get_device_capability(device)
    card = Card.of(device)
    wanted = dict.fromkeys(k for case, arithmetic in pairs for k in kernels(case, arithmetic, 10 * major + minor, card))
    with pool() as workers:
        list(workers.map(_build, wanted))


def _build(kernel: Kernel) -> None:
    build(kernel)  # which stays in the cache; the pool need not bring it back


if __name__ == "__main__":
    wanted = chosen(everything=sys.argv[2:] == ["all"])
    with pool() as workers:
        for size, row in zip(wanted.values(), workers.map(compiled, wanted), strict=True):
            leave(Path(sys.argv[1]), {"size": size, **row})
