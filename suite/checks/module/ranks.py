"""Checks in two processes, each with half of a batch: together they must equal one process with all of it."""

from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.nn import Module
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_map

from impls import HyperLSTM
from suite.checks.module.capability_checks import CASE, example
from suite.shared.compare import assert_close

WORLD = 2
#: Half of it has the size of the other capabilities, so that compiled code is shared.
JOINED = replace(CASE, B=CASE.B * WORLD)


def data_parallel(name: str, device: torch.device) -> None:
    """Check that replicas on halves of a batch get the gradients of the whole batch."""
    model, x, cotangents = _half(name, device)
    _hold(DistributedDataParallel(model), model, x, cotangents)


def sharded(name: str, device: torch.device) -> None:
    """Check that a model sharded over both ranks gets the gradients of the whole batch."""
    from torch.distributed.fsdp import fully_shard  # takes a second to import

    model, x, cotangents = _half(name, device)
    # By default torch shards over CUDA devices wherever there is one.
    mesh = init_device_mesh(device.type, (WORLD,))
    for layer in model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    _hold(model, model, x, cotangents)


def _half(name: str, device: torch.device) -> tuple[HyperLSTM, Tensor, tuple[Tensor, ...]]:
    """The model, and this rank's rows of the input and of the cotangents."""
    model, *whole = example(name, device, JOINED)
    x, cotangents = tree_map(lambda q: q.chunk(WORLD, dim=1)[dist.get_rank()], whole)
    return model, x, cotangents


def _hold(call: Module, model: HyperLSTM, x: Tensor, cotangents: tuple[Tensor, ...]) -> None:
    """Run one training step, and compare output and gradients with the oracle's on the whole batch."""
    from torch.distributed.tensor import DTensor

    out, last = call(x)
    # The mean over ranks is taken of gradients; the whole batch has their sum.
    torch.autograd.backward((out, *last), [WORLD * c for c in cotangents])
    halves = [torch.empty_like(out) for _ in range(WORLD)]
    dist.all_gather(halves, out.detach())
    results = {"out": torch.cat(halves, dim=1)}
    for key, p in model.named_parameters():
        if p.grad is None:
            raise AssertionError(f"grad {key}: expected a gradient, got None")
        results[f"grad {key}"] = p.grad.full_tensor() if isinstance(p.grad, DTensor) else p.grad
    assert_close({key: value[None] for key, value in results.items()}, JOINED, x.device, 1)
