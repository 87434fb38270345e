"""Kernels of `batched_cuda`, compiled ahead of time for GPUs that need not exist here.

They are what a GPU would run, as `launched.py` records it: the same kernels, tiles, warps and argument types. Their
instructions are read too (`instructions.py`). `python -m suite.checks.triton.compiled` fails on what does not fit:
Triton compiles nothing while its interpreter is on.
"""

import inspect
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib import import_module
from itertools import product
from multiprocessing import get_context
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import torch
from rich.progress import track

from impls import why_unavailable
from impls.batched_cuda import split
from impls.batched_cuda.split import A10, A100, B200, H100, L4, RTX_5090, Card
from impls.definition import dtype_name
from suite.cases.case import Case
from suite.cases.workloads import WORKLOADS
from suite.checks.triton import TRITON, instructions
from suite.checks.triton.launched import Launch, recorded
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
#: (size, arithmetic, layer norm, capability) of each kernel that `nox -s kernels` compiles: every size for every card;
#: a mask of g in each dtype; and once what other cards or dtypes show too. float16 takes of a card what bfloat16 takes,
#: and float32's own products use no tensor cores, so the card with the fewest registers to spare shows both.
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

#: Functions with the large products, whose tiles have ROWS by COLUMNS.
LARGE = ("sums", "products_back")
#: Most bytes per thread that a kernel may spill.
SPILL = 128
#: Group barriers in the instructions of a kernel whose programs wait for one another, without layer norm and with it.
BARRIERS = {"forward_steps": (2, 4), "backward_steps": (3, 5)}
#: Groups of loads that the model leaves out, without layer norm and with it, where S has as many units as a program has
#: threads: each vector of S changes its layout, at a barrier, before the next is loaded.
NOT_IN_MODEL = {"hyper_cells": (2, 6), "hyper_back": (2, 16)}


class Kernel(NamedTuple):
    """One kernel as a pass would start it."""

    arithmetic: str
    capability: int
    module: str
    name: str
    arguments: tuple[tuple[str, str], ...]  # of each the dtype of a tensor, or the type: int, float or NoneType
    constants: tuple[tuple[str, Any], ...]
    options: tuple[tuple[str, Any], ...]

    @property
    def packed(self) -> bool:
        """True if it is for packed sequences."""
        return dict(self.arguments).get("firsts", "NoneType") != "NoneType"

    @property
    def masked(self) -> bool:
        """True if it is for a mask of g."""
        return dict(self.arguments).get("kept", "NoneType") != "NoneType"

    @property
    def id(self) -> str:
        """Its name, arithmetic and sizes, such as `forward_steps-bfloat16-H1000-S128-Z4-packed-masked-norm`."""
        constants = dict(self.constants)
        sizes = [f"{size}{constants[size]}" for size in "HSZ"]
        forms = {"packed": self.packed, "masked": self.masked, "norm": constants["NORM"]}
        applying = [form for form, applies in forms.items() if applies]
        return "-".join([self.name, self.arithmetic, *sizes, *applying])


def described(launch: Launch, arithmetic: str, capability: int) -> Kernel:
    """The kernel of a launch."""
    function = launch.kernel.fn
    parameters = inspect.signature(function).parameters
    arguments = {}
    constants = {}
    for name, value in launch.values.items():
        if parameters[name].annotation is not inspect.Parameter.empty:
            constants[name] = value
        elif hasattr(value, "dtype"):
            arguments[name] = dtype_name(value.dtype)
        else:
            arguments[name] = type(value).__name__
    return Kernel(
        arithmetic,
        capability,
        function.__module__,
        function.__name__,
        tuple(arguments.items()),
        tuple(constants.items()),
        tuple(launch.options.items()),
    )


def build(kernel: Kernel) -> Any:
    """Compile one kernel as a launch on the card does, through Triton's cache, and return it."""
    import triton
    from triton.backends.compiler import GPUTarget

    from impls.batched_cuda import launching

    function = getattr(import_module(kernel.module), kernel.name)
    values: dict[str, Any] = {"NoneType": None, "int": 1, "float": 1.0}
    arguments = [values[kind] if kind in values else getattr(torch, kind) for _, kind in kernel.arguments]
    options = launching.OPTIONS | dict(kernel.options)
    target = GPUTarget("cuda", kernel.capability, split.WARP)
    driver = SimpleNamespace(
        get_current_target=lambda: target,
        get_current_device=lambda: kernel.capability,
        get_current_stream=lambda device: 0,
    )
    with mock.patch.object(triton.runtime.driver, "_active", driver):
        return function.warmup(*arguments, grid=(1,), **dict(kernel.constants), **options)


def unfit(wanted: Iterable[tuple[str, str, bool, int]]) -> list[str]:
    """Compile kernels on all cores, and say of each that does not fit its card what is wrong; wanted: see `ALL`."""
    sizes: dict[Kernel, str] = {}  # each kernel once, with the first size that needs it
    for size, arithmetic, layer_norm, capability in wanted:
        case = replace(SIZES[size], layer_norm=layer_norm)
        for kernel in Way(case, arithmetic).kernels(capability, CARDS[capability]):
            sizes.setdefault(kernel, size)
    with pool() as workers:
        wrongs = list(workers.map(_wrong, sizes))
    sentences = []
    for (kernel, size), wrong in zip(sizes.items(), wrongs, strict=True):
        if wrong:
            about = f"{kernel.name}, {kernel.arithmetic}, norm {dict(kernel.constants)['NORM']}"
            sentences.append(f"{about}, at {size} for {kernel.capability}: {wrong}")
    return sentences


def _wrong(kernel: Kernel) -> str:
    """Compile one kernel and say what is wrong with the resources that it takes, or with its instructions."""
    binary = build(kernel)
    constants = dict(kernel.constants)
    options = dict(kernel.options)
    norm = constants["NORM"]
    size = 2 if "float16" in kernel.arithmetic else 4
    wide = constants.get("WHOLE", 0) >= split.WARP * options["num_warps"]
    read = instructions.read(binary.asm["cubin"])
    figures: dict[str, tuple[float, float]] = {
        "bytes of stack a thread": (SPILL, _stack(binary.asm["cubin"], binary.metadata.name)),
        "bytes of shared memory a block": (CARDS[kernel.capability].shared, binary.metadata.shared),
    }
    for name, count in instructions.groups(read).items():
        if name in split.GROUPS:
            more = NOT_IN_MODEL.get(name, (0, 0))[norm] if wide else 0
            figures[f"groups of loads in {name}"] = (split.loads(name, size, norm) + more, count)
    figures |= _products(read, constants, options)
    wrong = [f"{what}: expected at most {most}, got {got}" for what, (most, got) in figures.items() if got > most]
    for name, got in instructions.narrowest_weights(read).items():
        least = _weight_bytes(name, size, constants, options)
        if got < least:
            wrong.append(f"loads of weights in {name}: expected {least} bytes at a time, got {got}")
    rounded = instructions.rounded_weights(read)
    if rounded:
        wrong.append(f"weights: expected none that are rounded in a loop, got those of {', '.join(rounded)}")
    if options["launch_cooperative_grid"]:
        expected = BARRIERS[kernel.name][norm]
        barriers = instructions.barriers([instruction.text for instruction in read])
        if barriers != expected:
            wrong.append(f"group barriers: expected {expected}, got {barriers}")
    tensor_cores = re.search(r"\b(mma\.sync|wgmma\.mma_async|tcgen05\.mma)", binary.asm["ptx"])
    if "tt.dot" in binary.asm["ttir"] and kernel.arithmetic != "float32" and not tensor_cores:
        wrong.append("product: expected a tensor-core instruction in the PTX, got none")
    return "; ".join(wrong)


def _products(
    read: Iterable[instructions.Instruction], constants: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, tuple[float, float]]:
    """The most that a warp may go along the sums of its tiles in a turn of each large product, and how far it goes.

    Warps share out the tiles of 16 rows by 8 columns. Where two had the same tile, each would go farther.
    """
    if "ROWS" not in constants:  # of a kernel without large products
        return {}
    tiles = constants["ROWS"] // 16 * (constants["COLUMNS"] // 8)
    most = max(1.0, tiles / options["num_warps"]) * constants["DEPTH"]
    turns = instructions.products_a_turn(read, options["num_stages"])
    return {
        f"steps along a sum of a warp's tiles in a turn of {name}, line {line}": (most, steps)
        for (name, line), steps in turns.items()
        if name in LARGE
    }


def _weight_bytes(name: str, size: int, constants: Mapping[str, Any], options: Mapping[str, Any]) -> int:
    """Bytes that a thread should load of weights at a time: 16, or its share of a tile if that is less."""
    columns = constants["SPAN"]
    if name in LARGE:
        columns = min(constants["COLUMNS"], constants.get("EXTRA") or constants["COLUMNS"])
    share: int = constants["DEPTH"] * columns * size // (split.WARP * options["num_warps"])
    return min(16, share)


def _stack(cubin: bytes, name: str) -> int:
    """Bytes of stack of each thread, where registers spill to, as Triton's own cuobjdump reads them from a cubin."""
    said = instructions.tool(cubin, "cuobjdump", "-res-usage")
    (stack,) = re.findall(rf"Function {name}:\s*.*STACK:(\d+)", said)
    return int(stack)


def pool() -> ProcessPoolExecutor:
    """Processes that compile: one per core that this process may use, at most 16."""
    cores = len(os.sched_getaffinity(0))
    return ProcessPoolExecutor(min(16, cores), get_context("spawn"), killed_with, (os.getpid(),))


class Way(NamedTuple):
    """A case of a pass, its arithmetic, whether residuals are saved, and how it is split: see `recorded`."""

    case: Case
    arithmetic: str
    residuals: bool = True
    alone: bool | None = None

    def kernels(self, capability: int, card: Card) -> Iterator[Kernel]:
        """Kernels that a card starts."""
        launches, _ = recorded(self.case, card, self.arithmetic, self.residuals, self.alone)
        return (described(launch, self.arithmetic, capability) for launch in launches)


def precompile(ways: Iterable[Way], device: torch.device) -> list[Kernel]:
    """Compile the kernels of `batched_cuda` for passes, in parallel, into Triton's cache, and return them."""
    if device.type != DeviceType.CUDA or why_unavailable(TRITON, device) is not None:
        return []
    import triton

    os.environ.setdefault("TRITON_CACHE_DIR", triton.knobs.cache.dir)  # which inductor would move for this process
    major, minor = torch.cuda.get_device_capability(device)
    card = Card.of(device)
    builds = dict.fromkeys(kernel for way in ways for kernel in way.kernels(10 * major + minor, card))
    print(f"{TRITON}: compiling {len(builds)} kernels for this card; Triton keeps them for later runs.", flush=True)
    with pool() as workers:
        built = workers.map(_build, builds)
        for _ in track(built, "", len(builds), transient=True, disable=not sys.stdout.isatty()):
            pass
    return list(builds)


def _build(kernel: Kernel) -> None:
    build(kernel)  # which stays in the cache; the pool need not bring it back


if __name__ == "__main__":
    sys.exit("\n".join(unfit(ALL)) or None)
