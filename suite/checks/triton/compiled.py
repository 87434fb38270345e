"""Kernels of `batched_cuda`, compiled ahead of time, for the GPU that is here or for others.

They are what a GPU would run, as `launched.py` records it: the same kernels, tiles, warps and argument types.
`python -m suite.checks.triton.compiled` fails if one does not fit its card. With Triton's interpreter on, nothing is
compiled.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from importlib import import_module
from itertools import product
from multiprocessing import get_context
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from rich.progress import track

from impls import why_unavailable
from impls.batched_cuda import split
from impls.batched_cuda.split import A10, A100, B200, H100, L4, RTX_5090, Card
from suite.cases.case import Case
from suite.cases.workloads import WORKLOADS
from suite.checks.triton import TRITON
from suite.checks.triton.launched import Kernel, recorded
from suite.shared.devices import DeviceType
from suite.shared.process import killed_with

_BASE = WORKLOADS["char-ptb"].case
#: The sizes at which kernels are compiled: the workloads, large batches, rows that no vector divides, the ends of Z.
SIZES: dict[str, Case] = {
    **{name: WORKLOADS[name].case for name in ("char-ptb", "enwik8", "handwriting", "medium", "small", "stream")},
    **{f"B {B}": replace(_BASE, B=B) for B in (1024, 4096)},
    "H 513": replace(_BASE, H=513),
    **{f"Z {Z}": replace(_BASE, Z=Z) for Z in (1, 64)},
    **{f"H {H}, S {S}, Z {Z}": replace(_BASE, H=H, S=S, Z=Z) for H, S, Z in ((192, 64, 4), (129, 127, 33))},
    **{f"{name}, dropout": replace(WORKLOADS[name].case, recurrent_dropout=0.1) for name in ("char-ptb", "small")},
}
#: By compute capability, ten to the whole number.
CARDS = {80: A100, 86: A10, 89: L4, 90: H100, 100: B200, 120: RTX_5090}
#: What a thorough verification compiles for: the card with the least shared memory and fewest multiprocessors.
SMALLEST = 86
#: (size, arithmetic, layer norm, capability) of what `nox -s kernels` compiles: in bfloat16 and TF32 every size, and in
#: float16 a mask of g, for every card; the rest for one. float16 takes as much of a card as bfloat16, and float32 uses
#: no tensor cores, so the card with the fewest registers to spare is enough for either.
ALL = (
    *product(SIZES, ("bfloat16",), (False, True), CARDS),
    *product(SIZES, ("tf32",), (False,), CARDS),
    *product(("char-ptb, dropout",), ("float16",), (False,), CARDS),
    *product(("char-ptb", "H 192, S 64, Z 4"), ("float16",), (False,), (90,)),
    *product(("char-ptb", "H 192, S 64, Z 4"), ("tf32",), (True,), (80,)),
    *product(("char-ptb", "H 192, S 64, Z 4"), ("float32",), (False, True), (80,)),
)
#: (size, arithmetic, layer norm) of those that a thorough verification compiles.
SOME = (
    ("char-ptb", "bfloat16", True),
    ("char-ptb", "tf32", False),
    ("B 1024", "bfloat16", False),
    ("small", "bfloat16", True),
    ("char-ptb, dropout", "bfloat16", True),
    ("small, dropout", "bfloat16", False),
    ("medium", "tf32", False),
)
#: Most bytes per thread that a kernel may spill.
SPILL = 128


def build(kernel: Kernel, capability: int) -> Any:
    """Compile one kernel as a launch on such a card does, through Triton's cache, and return it."""
    import triton
    from triton.backends.compiler import GPUTarget

    from impls.batched_cuda import launching

    function = getattr(import_module(kernel.module), kernel.name)
    values: dict[str, Any] = {"NoneType": None, "int": 1, "float": 1.0}
    arguments = [values[kind] if kind in values else getattr(torch, kind) for _, kind in kernel.arguments]
    options = launching.OPTIONS | dict(kernel.options)
    target = GPUTarget("cuda", capability, split.WARP)
    driver = SimpleNamespace(
        get_current_target=lambda: target,
        get_current_device=lambda: capability,
        get_current_stream=lambda device: 0,
    )
    with mock.patch.object(triton.runtime.driver, "_active", driver):
        return function.warmup(*arguments, grid=(1,), **dict(kernel.constants), **options)


def unfit(settings: Iterable[tuple[str, str, bool, int]]) -> list[str]:
    """Compile kernels on all cores, and say of each that does not fit its card what is wrong; settings: see `ALL`."""
    sizes: dict[tuple[Kernel, int], str] = {}  # each kernel once, with the first size that needs it
    for size, arithmetic, layer_norm, capability in settings:
        kernels, _ = recorded(replace(SIZES[size], layer_norm=layer_norm), CARDS[capability], arithmetic)
        for kernel in kernels:
            sizes.setdefault((kernel, capability), f"{size} in {arithmetic}")
    with pool() as workers:
        wrongs = list(workers.map(_wrong, *zip(*sizes, strict=True)))
    sentences = []
    for ((kernel, capability), size), wrong in zip(sizes.items(), wrongs, strict=True):
        if wrong:
            sentences.append(f"{kernel.name}, at {size} for {capability}: {wrong}")
    return sentences


def _wrong(kernel: Kernel, capability: int) -> str:
    """Compile one kernel and say what is wrong with the resources that it takes, or with its instructions."""
    binary = build(kernel, capability)
    ptx = binary.asm["ptx"]
    figures = {
        "bytes of stack a thread": (SPILL, _stack(binary.asm["cubin"], binary.metadata.name)),
        "bytes of shared memory a block": (CARDS[capability].shared, binary.metadata.shared),
    }
    wrong = [f"{what}: expected at most {most}, got {got}" for what, (most, got) in figures.items() if got > most]
    in_float32 = "float16" not in str(kernel.arguments) and dict(kernel.constants).get("PRECISION") != "tf32"
    tensor_cores = re.search(r"\b(mma\.sync|wgmma\.mma_async|tcgen05\.mma)", ptx)
    if "tt.dot" in binary.asm["ttir"] and not in_float32 and not tensor_cores:
        wrong.append("product: expected a tensor-core instruction in the PTX, got none")
    if kernel.name != "rebuild" and dict(kernel.options)["launch_cooperative_grid"] and "trap;" not in ptx:
        wrong.append("barrier: expected an instruction that ends a launch whose programs wait for ever, got none")
    return "; ".join(wrong)


def _stack(cubin: bytes, name: str) -> int:
    """Bytes of stack of each thread, where registers spill to, as Triton's own cuobjdump reads them from a cubin."""
    import triton

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (stack,) = re.findall(rf"Function {name}:\s*.*STACK:(\d+)", printed)
    return int(stack)


def pool() -> ProcessPoolExecutor:
    """Processes that compile: one per core that this process may use, at most 16."""
    cores = len(os.sched_getaffinity(0))
    return ProcessPoolExecutor(min(16, cores), get_context("spawn"), killed_with, (os.getpid(),))


def precompile(passes: Iterable[tuple[Case, str, bool | None]], device: torch.device) -> None:
    """Compile the kernels of `batched_cuda` for passes, in parallel, into Triton's cache.

    passes: the case of each, its arithmetic, and `alone` as for `recorded`.
    """
    if device.type != DeviceType.CUDA or why_unavailable(TRITON, device) is not None:
        return
    import triton

    os.environ.setdefault("TRITON_CACHE_DIR", triton.knobs.cache.dir)  # which inductor would move for this process
    major, minor = torch.cuda.get_device_capability(device)
    card = Card.of(device)
    kernels = dict[Kernel, None]()
    for case, arithmetic, alone in passes:
        kernels |= dict.fromkeys(recorded(case, card, arithmetic, alone=alone)[0])
    print(f"{TRITON}: compiling {len(kernels)} kernels for this card; Triton keeps them for later runs.", flush=True)
    with pool() as workers:
        built = workers.map(partial(_build, capability=10 * major + minor), kernels)
        for _ in track(built, "", len(kernels), transient=True, disable=not sys.stdout.isatty()):
            pass


def _build(kernel: Kernel, capability: int) -> None:
    build(kernel, capability)  # which stays in the cache; the pool need not bring it back


if __name__ == "__main__":
    sys.exit("\n".join(unfit(ALL)) or None)
