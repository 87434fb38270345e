"""Every kernel of `batched_cuda`, compiled ahead of time for cards that need not be here.

What is compiled is what a GPU would run, as `launched.py` writes it down: the same kernels, tiles, warps and argument
types. Run as `python -m suite.checks.kernels.kernels FILE`, in a process of its own, since Triton compiles
nothing where its interpreter is on. No GPU and no driver is needed.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from suite.shared import bound
from suite.shared.cases import WORKLOADS, Case
from suite.shared.children import leave

if TYPE_CHECKING:
    from impls.batched_cuda.tiles import Card


#: The workloads at whose sizes kernels are compiled.
SIZES = ("char-ptb", "enwik8", "handwriting", "medium")


#: Compute capabilities, ten to the whole number: A100, H100, B200.
CAPABILITIES = (80, 90, 100)


class Arithmetic(NamedTuple):
    """How products are made."""

    name: str
    dtype: str  # of the parameters
    precision: str  # Triton's, of float32 products


BFLOAT16 = Arithmetic("bfloat16", "bfloat16", "ieee")
FLOAT16 = Arithmetic("float16", "float16", "ieee")
TF32 = Arithmetic("tf32", "float32", "tf32")
FLOAT32 = Arithmetic("float32", "float32", "ieee")

#: (arithmetic, layer norm) that are compiled for every workload and card,
EVERYWHERE = ((BFLOAT16, False), (BFLOAT16, True), (TF32, False))
#: and (arithmetic, layer norm, capability) for char-ptb. float16 takes of a card what bfloat16 takes, so one shows its
#: instructions; the norms hold no products, and float32's own products use no tensor cores, so the card with the fewest
#: registers to spare shows both.
ONCE = ((FLOAT16, False, 90), (TF32, True, 80), (FLOAT32, False, 80))

#: The most a kernel may spill, in bytes a thread.
SPILL = 128

_TYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


class Kernel(NamedTuple):
    """One kernel as a sweep would start it."""

    size: str
    layer_norm: bool
    arithmetic: str
    capability: int
    module: str
    name: str
    signature: tuple[str, ...]  # Triton's type of each argument, "constexpr" where it is a constant
    constants: tuple[tuple[str, Any], ...]
    options: tuple[tuple[str, int], ...]


def chosen() -> Iterator[Kernel]:
    """Yield what is compiled."""
    for case in map(WORKLOADS.__getitem__, SIZES):
        for capability in CAPABILITIES:
            for arithmetic, layer_norm in EVERYWHERE:
                yield from listed(case, arithmetic, capability, layer_norm)
    for arithmetic, layer_norm, capability in ONCE:
        yield from listed(WORKLOADS["char-ptb"], arithmetic, capability, layer_norm)


def listed(case: Case, arithmetic: Arithmetic, capability: int, layer_norm: bool) -> Iterator[Kernel]:
    """Yield each kernel that forward and backward start at a case's sizes on a card, once."""
    import torch

    from suite.checks.kernels.launched import launched

    card, dtype = _card(capability), getattr(torch, arithmetic.dtype)
    found = launched(replace(case, layer_norm=layer_norm), card, dtype, arithmetic.precision)
    seen: dict[Kernel, None] = {}
    for kernel, _, given, constants in (*found.forward, *found.backward):
        names = kernel.arg_names
        types = dict(zip(names, map(_type, given), strict=False)) | {k: "constexpr" for k in constants if k in names}
        fixed = {n: v for n, v in zip(names, given, strict=False) if v is None}
        fixed |= {k: v for k, v in constants.items() if k in names}
        options = tuple((k, v) for k, v in constants.items() if k not in names)
        signature = tuple(types[n] for n in names)
        described = (case.name, layer_norm, arithmetic.name, capability, kernel.fn.__module__, kernel.fn.__name__)
        seen[Kernel(*described, signature, tuple(fixed.items()), options)] = None
    yield from seen


def _card(capability: int) -> "Card":
    """Return the card that stands for a compute capability."""
    from impls.batched_cuda import tiles

    return {80: tiles.A100, 90: tiles.H100, 100: tiles.B200}[capability]


def _type(value: Any) -> str:
    """Return Triton's name for an argument's type."""
    if value is None:
        return "constexpr"
    if isinstance(value, int):
        return "i32"
    return "*" + _TYPES[str(value.dtype).removeprefix("torch.")]


def compiled(kernel: Kernel) -> dict[str, Any]:
    """Compile one kernel and return its row: what it takes of a multiprocessor, and whether it uses tensor cores."""
    from importlib import import_module

    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    function = getattr(import_module(kernel.module), kernel.name)
    signature = dict(zip(function.arg_names, kernel.signature, strict=True))
    source = ASTSource(function, signature, dict(kernel.constants))
    start = time.perf_counter()
    binary = triton.compile(source, target=GPUTarget("cuda", kernel.capability, 32), options=dict(kernel.options))
    seconds = time.perf_counter() - start
    usage = _resources(binary.asm["cubin"], binary.metadata.name)
    constants = dict(kernel.constants)
    return {
        "size": kernel.size,
        "layer_norm": kernel.layer_norm,
        "arithmetic": kernel.arithmetic,
        "capability": kernel.capability,
        "kernel": f"{kernel.name} ({constants['F']})" if "F" in constants else kernel.name,
        "rows": constants.get("ROWS"),
        "units": constants.get("UNITS"),
        "depth": constants.get("DEPTH"),
        **dict(kernel.options),
        "registers": usage["REG"],
        "stack_bytes": usage["STACK"],
        "shared_bytes": binary.metadata.shared,
        "shared_limit": _card(kernel.capability).shared,
        "product": ".dot" in binary.asm["ttir"],
        "tensor_cores": bool(re.search(r"\b(mma\.sync|wgmma\.mma_async|tcgen05\.mma)", binary.asm["ptx"])),
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


def complaints(row: Any) -> list[str]:
    """Return what is wrong with one row: spills, too much shared memory, products without tensor cores."""
    found = []
    if row.stack_bytes > SPILL:
        found.append(f"stack: expected at most {SPILL} bytes a thread, got {row.stack_bytes}")
    if row.shared_bytes > row.shared_limit:
        found.append(f"shared memory: expected at most {row.shared_limit} bytes a block, got {row.shared_bytes}")
    if row.product and row.arithmetic != "float32" and not row.tensor_cores:
        found.append(f"{row.arithmetic} product: expected a tensor-core instruction in the PTX, got none")
    return found


def main(path: Path) -> None:
    """Compile on every core there is, and leave the rows."""
    context = get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), context, bound.killed_with, (os.getpid(),)) as pool:
        for row in pool.map(compiled, list(chosen()), chunksize=4):
            leave(path, row)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
