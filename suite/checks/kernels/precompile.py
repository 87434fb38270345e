"""Kernels compiled before a run needs them, in a pool of processes: a launch finds them in Triton's cache.

A launch compiles what it does not find, one kernel after the other: minutes of one core for a first verification.
"""

import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING

import torch

from impls import why_unavailable
from suite.checks.kernels import compiled
from suite.checks.kernels.compiled import Kernel
from suite.shared import bound
from suite.shared.cases import Case

if TYPE_CHECKING:
    from impls.batched_cuda.tiles import Card

_ARITHMETICS = {known.name: known for known in (compiled.BFLOAT16, compiled.FLOAT16, compiled.FLOAT32, compiled.TF32)}


def precompile(pairs: Iterable[tuple[Case, str]], device: torch.device) -> None:
    """Compile what `batched_cuda` starts at cases' sizes, each in an arithmetic; nothing where it does not run."""
    if device.type != "cuda" or why_unavailable("batched_cuda", device) is not None:
        return
    from impls.batched_cuda.tiles import Card

    capability = torch.cuda.get_device_capability(device)
    wanted = needed(pairs, Card.of(device), 10 * capability[0] + capability[1])
    with ProcessPoolExecutor(compiled.workers(), get_context("spawn"), bound.killed_with, (os.getpid(),)) as pool:
        list(pool.map(_build, wanted))


def needed(pairs: Iterable[tuple[Case, str]], card: "Card", capability: int) -> dict[Kernel, None]:
    """Return each kernel that cases take on a card, once."""
    found: dict[Kernel, None] = {}
    for case, arithmetic in pairs:
        if arithmetic in _ARITHMETICS:
            found |= dict.fromkeys(compiled.kernels(case, _ARITHMETICS[arithmetic], capability, card))
    return found


def _build(kernel: Kernel) -> None:
    compiled.build(kernel)  # which stays in the cache; the pool need not bring it back
