"""Checks in two processes, each with half of a batch: together they must equal one process with all of it.

`python -m suite.checks.module.ranks FILE` writes a row for each check and implementation.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import cache
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.multiprocessing.spawn import start_processes
from torch.nn import Module
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_map

from impls import HyperLSTM, names, why_unavailable
from suite.checks.module.runs import CASE
from suite.shared.compare import assert_close, model_and_draw
from suite.shared.process import append_row, killed_with, rows_of
from suite.shared.submission import inherit

WORLD = 2
CPU = torch.device("cpu")
JOINED = replace(CASE, B=CASE.B * WORLD)


def _sharded(model: HyperLSTM) -> Module:
    """The model, sharded over both ranks."""
    from torch.distributed.fsdp import fully_shard  # takes a second to import

    # By default torch shards over CUDA devices wherever there is one.
    mesh = init_device_mesh("cpu", (WORLD,))
    for layer in model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


#: How a model is called by two ranks, each with half of a batch.
CHECKS: dict[str, Callable[[HyperLSTM], Module]] = {"data_parallel": DistributedDataParallel, "sharded": _sharded}


def _check(check: str, name: str) -> None:
    """Run one training step on this rank's rows, and compare output and gradients with the oracle's on all rows."""
    from torch.distributed.tensor import DTensor

    model, sample = model_and_draw(name, JOINED, torch.float32, CPU)
    x, cotangents = tree_map(lambda q: q.chunk(WORLD, dim=1)[dist.get_rank()], (sample.x, sample.cotangents))
    wrapped = CHECKS[check](model)  # to live until the backward pass, whose gradients it exchanges
    out, last = wrapped(x)
    # The mean over ranks is taken of gradients; the whole batch has their sum.
    torch.autograd.backward((out, *last), [WORLD * c for c in cotangents])
    halves = [torch.empty_like(out) for _ in range(WORLD)]
    dist.all_gather(halves, out.detach())
    results = {"out": torch.cat(halves, dim=1)}
    for key, p in model.named_parameters():
        if p.grad is None:
            raise AssertionError(f"grad {key}: expected a gradient, got None")
        results[f"grad {key}"] = p.grad.full_tensor() if isinstance(p.grad, DTensor) else p.grad
    assert_close({key: value[None] for key, value in results.items()}, JOINED, CPU, 1)


@cache
def _errors() -> pd.Series:
    """What went wrong in two processes, by check and implementation; "" if nothing did."""
    rows: pd.Series = rows_of("suite.checks.module.ranks").fillna("").set_index(["check", "implementation"])["error"]
    return rows


def halves(check: str, name: str, device: torch.device) -> None:
    """Check an implementation in two processes, on the CPU even if the rest runs on a GPU."""
    if reason := why_unavailable(name, CPU):
        pytest.skip(reason)
    if error := _errors()[check, name]:
        raise AssertionError(error)


def _run(rank: int, path: Path) -> None:
    """Run every check with every implementation, or those of files, over gloo; rank 0 writes the rows."""
    checked = [name for name in inherit() or names() if why_unavailable(name, CPU) is None]
    killed_with(os.getppid())
    store = f"file://{path.with_suffix('.store')}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=WORLD, timeout=timedelta(seconds=60))
    for check, name in product(CHECKS, checked):
        error, errors = "", [""] * WORLD
        try:
            _check(check, name)
        except Exception as raised:
            error = f"{type(raised).__name__}: {' '.join(str(raised).split())}"
        dist.all_gather_object(errors, error)
        if rank == 0:
            append_row(path, {"check": check, "implementation": name, "error": " ".join(errors).strip()})
    dist.barrier()
    dist.destroy_process_group()
    # Threads of torch may outlive the group; a process that is torn down under them is sometimes aborted.
    os._exit(0)


if __name__ == "__main__":
    import torch.distributed.fsdp  # once for both processes

    # A fork has torch imported already; other systems have to spawn.
    start = "fork" if sys.platform == "linux" else "spawn"
    start_processes(_run, (Path(sys.argv[1]),), nprocs=WORLD, start_method=start)
