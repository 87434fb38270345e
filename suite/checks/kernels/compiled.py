"""Kernels of `batched_cuda`, compiled ahead of time for GPUs that need not exist here.

They are what a GPU would run, as `launched.py` records it: the same kernels, tiles, warps and argument types. The
instructions around each group barrier are read too, since their order decides what the caches do. Run as
`python -m suite.checks.kernels.compiled FILE EXTENT`: Triton compiles nothing while its interpreter is on.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.progress import track

from impls import why_unavailable
from impls.batched_cuda.split import A10, A100, B200, H100, L4, RTX_5090, Card
from impls.definition import dtype_name
from suite.checks.kernels.launched import launched, stand_in
from suite.shared.arithmetic import dtype_of
from suite.shared.cases import WORKLOADS, Case
from suite.shared.process import append_row, cpu_seconds, killed_with

_BASE = WORKLOADS["char-ptb"]
#: The sizes at which kernels are compiled: the workloads, large batches, rows that no vector divides, the ends of Z.
SIZES: dict[str, Case] = {
    **{name: WORKLOADS[name] for name in ("char-ptb", "enwik8", "handwriting", "medium", "small", "stream")},
    **{f"B {B}": replace(_BASE, B=B) for B in (1024, 4096)},
    "H 513": replace(_BASE, H=513),
    **{f"Z {Z}": replace(_BASE, Z=Z) for Z in (1, 64)},
    **{f"H {H}, S {S}, Z {Z}": replace(_BASE, H=H, S=S, Z=Z) for H, S, Z in ((192, 64, 4), (129, 127, 33))},
}
#: Sizes of the kernels that a mask of g changes.
MASKED = {f"{name}, dropout": replace(WORKLOADS[name], recurrent_dropout=0.1) for name in ("char-ptb", "small")}
#: By compute capability, ten to the whole number.
CARDS = {80: A100, 86: A10, 89: L4, 90: H100, 100: B200, 120: RTX_5090}
#: What a thorough verification compiles for: the card with the least shared memory and fewest multiprocessors.
SOME_CAPABILITIES = (86,)


#: (arithmetic, layer norm) that are compiled for every size and card,
EVERYWHERE = (("bfloat16", False), ("bfloat16", True), ("tf32", False))
#: and (arithmetic, layer norm, capability) for char-ptb and a size between. float16 takes of a card what bfloat16
#: takes, so one shows its instructions; float32's own products use no tensor cores, so the card with the fewest
#: registers to spare shows both.
ONCE = (("float16", False, 90), ("tf32", True, 80), ("float32", False, 80), ("float32", True, 80))
#: (size, arithmetic, layer norm) that are compiled for every card under a mask: each dtype.
UNDER_A_MASK = (
    *(("char-ptb, dropout", *what) for what in (*EVERYWHERE, ("float16", False))),
    *(("small, dropout", *what) for what in EVERYWHERE[:2]),
)
#: (size, arithmetic, layer norm) that it compiles.
SOME = (
    ("char-ptb", "bfloat16", True),
    ("char-ptb", "tf32", False),
    ("B 1024", "bfloat16", False),
    ("small", "bfloat16", True),
    ("char-ptb, dropout", "bfloat16", True),
    ("small, dropout", "bfloat16", False),
)


class Kernel(NamedTuple):
    """One kernel as a pass would start it."""

    arithmetic: str
    capability: int
    module: str
    name: str
    arguments: tuple[tuple[str, str], ...]  # of each the dtype of a tensor, or the type: int, float or NoneType
    constants: tuple[tuple[str, Any], ...]
    options: tuple[tuple[str, Any], ...]


def chosen(extent: str) -> dict[Kernel, str]:
    """Kernels to compile, each once, with the first size that needs it; extent: "some", "cards" or "all"."""
    wanted = [(size, *what, capability) for size in SIZES for capability in CARDS for what in EVERYWHERE]
    wanted += [(size, *what) for size in (_BASE.name, "H 192, S 64, Z 4") for what in ONCE]
    wanted += [(*what, capability) for what in UNDER_A_MASK for capability in CARDS]
    cards = SOME_CAPABILITIES if extent == "some" else CARDS
    some = [(*what, capability) for what in SOME for capability in cards]
    found: dict[Kernel, str] = {}
    for size, arithmetic, layer_norm, capability in wanted if extent == "all" else some:
        case = replace((SIZES | MASKED)[size], layer_norm=layer_norm)
        for kernel in kernels(case, arithmetic, capability, CARDS[capability]):
            if size in SIZES or "float" in dict(kernel.arguments).values():  # the one that any takes is the scale of a mask
                found.setdefault(kernel, size)
    return found


def kernels(case: Case, arithmetic: str, capability: int, card: Card) -> Iterator[Kernel]:
    """Kernels that `training_step` starts at a case's sizes on a card."""
    for launch in launched(case, card, dtype_of(arithmetic), arithmetic):
        described = arithmetic, capability, launch.kernel.fn.__module__, launch.kernel.fn.__name__
        constants = {p.name for p in launch.kernel.params if p.is_constexpr}
        arguments = {name: q for name, q in launch.values.items() if name not in constants}
        kinds = {n: dtype_name(q.dtype) if hasattr(q, "dtype") else type(q).__name__ for n, q in arguments.items()}
        fixed = {name: q for name, q in launch.values.items() if name in constants}
        yield Kernel(*described, *(tuple(each.items()) for each in (kinds, fixed, launch.options)))


def build(kernel: Kernel) -> Any:
    """Compile one kernel as a launch on the card does, through Triton's cache, and return it."""
    from impls.batched_cuda import launching

    function = getattr(import_module(kernel.module), kernel.name)
    values: dict[str, Any] = {"NoneType": None, "int": 1, "float": 1.0}
    arguments = [values[kind] if kind in values else getattr(torch, kind) for _, kind in kernel.arguments]
    options = launching.OPTIONS | dict(kernel.options)
    with stand_in(kernel.capability):
        return function.warmup(*arguments, grid=(1,), **dict(kernel.constants), **options)


def compiled(kernel: Kernel) -> dict[str, Any]:
    """Compile one kernel and return its row: the resources that it takes and the instructions that it uses."""
    import triton

    start = cpu_seconds()
    binary = build(kernel)
    seconds = cpu_seconds() - start
    usage, ptx = _resources(binary.asm["cubin"], binary.metadata.name), binary.asm["ptx"]
    constants = dict(kernel.constants)
    return {
        "kernel": kernel.name,
        "arithmetic": kernel.arithmetic,
        "capability": kernel.capability,
        **{name.lower(): constants.get(name) for name in ("ROWS", "COLUMNS", "UNITS", "DEPTH")},
        **{name: value for name, value in constants.items() if name.startswith("num_")},
        "registers": usage["REG"],
        "stack_bytes": usage["STACK"],
        "shared_bytes": binary.metadata.shared,
        "shared_limit": CARDS[kernel.capability].shared,
        "product": ".dot" in binary.asm["ttir"],
        "tensor_cores": bool(re.search(r"\b(mma\.sync|wgmma\.mma_async|tcgen05\.mma)", ptx)),
        "rounds": "-8192" in ptx,  # the mask of what TF32 keeps
        "async_copies": "cp.async" in ptx,
        "cooperative": binary.metadata.launch_cooperative_grid,
        "barriers": 0 if not kernel.cooperative else barriers(_instructions(binary.asm["cubin"])),
        "seconds": seconds,
        "triton": triton.__version__,
    }


#: Instructions of a group barrier in their order: a fence makes writes visible to the whole card, the program arrives;
#: it polls, and invalidates its cache; all its threads go on.
BARRIER = ("MEMBAR.ALL.GPU", "RED|ATOM", "LDG.E.STRONG.GPU|ATOM", "CCTL.IVALL", "BAR.SYNC")
#: What no barrier may contain: a load or store of a phase, or an asynchronous copy.
_LOADS = r"^(LDG(?!\.E\.STRONG)|LDGSTS|LDGDEPBAR|UBLKCP|UTMALDG|STG)"


def barriers(instructions: Sequence[str]) -> int:
    """Number of group barriers; ValueError if the instructions of one are not those of `BARRIER`."""
    found = 0
    starts = [n for n, text in enumerate(instructions) if re.match(BARRIER[0].replace("ALL", "(ALL|SC)"), text)]
    for start in starts:
        at = start
        for wanted in BARRIER[1:]:
            later = next((n for n in range(at + 1, len(instructions)) if re.match(wanted, instructions[n])), None)
            if later is None:
                raise ValueError(f"barrier {found + 1}: expected {wanted} after {instructions[at]}, got none")
            at = later
        between = [text for text in instructions[start:at] if re.match(_LOADS, text)]
        if between or instructions[start + 1 : at].count(instructions[start]):
            raise ValueError(f"barrier {found + 1}: expected no other load in it, got {between[:3]}")
        found += 1
    return found


def _instructions(cubin: bytes) -> list[str]:
    """Instructions of a cubin in their order, without predicates and operands' comments."""
    told = _told(cubin, "nvdisasm", "-c")
    lines = re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][^;]*)", told)
    return [line.strip() for line in lines]


def _resources(cubin: bytes, name: str) -> dict[str, int]:
    """Registers and stack of each thread, as Triton's own cuobjdump reads them from a cubin."""
    told = _told(cubin, "cuobjdump", "-res-usage")
    found = re.search(rf"Function {re.escape(name)}:\s*(.*)", told)
    if found is None:
        raise ValueError(f"cuobjdump -res-usage: expected a line for {name}, got {told!r}")
    return {key: int(value) for key, value in re.findall(r"(\w+):(\d+)", found[1])}


def _told(cubin: bytes, tool: str, option: str) -> str:
    """Output of one of the tools that Triton ships, for a cubin."""
    import triton

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [getattr(triton.knobs.nvidia, tool).path, option, file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def pool() -> ProcessPoolExecutor:
    """Processes that compile: one per core that this process may use, at most 16."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ProcessPoolExecutor(min(16, cores), get_context("spawn"), killed_with, (os.getpid(),))


def precompile(pairs: Iterable[tuple[Case, str]], device: torch.device) -> None:
    """Compile the kernels of `batched_cuda` for cases, each in an arithmetic, in parallel, into Triton's cache."""
    if device.type != "cuda" or why_unavailable("batched_cuda", device) is not None:
        return
    import triton

    os.environ.setdefault("TRITON_CACHE_DIR", triton.knobs.cache.dir)  # which inductor would move for this process
    major, minor = torch.cuda.get_device_capability(device)
    card = Card.of(device)
    wanted = dict.fromkeys(k for case, arithmetic in pairs for k in kernels(case, arithmetic, 10 * major + minor, card))
    console = Console()
    console.print(f"batched_cuda: compiling {len(wanted)} kernels for this card; Triton keeps them for later runs.")
    with pool() as workers:
        built = workers.map(_build, wanted)
        for _ in track(built, "", len(wanted), console=console, transient=True, disable=not console.is_terminal):
            pass


def _build(kernel: Kernel) -> None:
    build(kernel)  # which stays in the cache; the pool need not bring it back


if __name__ == "__main__":
    wanted = chosen(sys.argv[2])
    with pool() as workers:
        for size, row in zip(wanted.values(), workers.map(compiled, wanted), strict=True):
            append_row(Path(sys.argv[1]), {"size": size, **row})
