"""Uses of a torch module beyond calling it, as a table: each capability is a check that runs.

`python -m suite.checks.module.capabilities FILE` runs those of two ranks in two processes, which write a row for each
capability and implementation.
"""

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch.autograd.functional import jacobian
from torch.func import jacrev
from torch.multiprocessing.spawn import start_processes
from torch.nn.utils import prune, remove_spectral_norm, remove_weight_norm, spectral_norm, weight_norm

from impls import names, why_unavailable
from impls.registry import IMPLS, Impl
from suite.checks.module import capability_checks as checks
from suite.checks.module import hooks, ranks, saved
from suite.checks.module.capability_checks import STEPS, Check
from suite.shared.process import append_row, killed_with


@dataclass(frozen=True)
class Capability:
    """One line of the matrix.

    refusals: by implementation that cannot, a pattern of its error, or of the check's about what it measured.
    packages: packages that the check needs and a verification does not install; without them it is not run.
    devices: device types that it applies to; on others it is not run.
    ranks: True if it runs in each of two processes, see `suite/checks/module/ranks.py`.
    """

    name: str
    check: Check
    refusals: Mapping[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    devices: tuple[str, ...] = ("cpu", "cuda")
    ranks: bool = False


class Outcome(NamedTuple):
    """Outcome of a check: "pass", "no", "FAIL" or "not run", and why."""

    word: str
    reason: str = ""


def not_installed(packages: Sequence[str]) -> str | None:
    """None if the packages are installed, else a sentence that names those which are not."""
    missing = [package for package in packages if find_spec(package) is None]
    return f"Not installed: {', '.join(missing)}; `nox -s export` has them." if missing else None


def outcome(capability: Capability, name: str, device: torch.device) -> Outcome:
    """Run one check; a refusal counts as "no" only if it is the one that the table expects."""
    if device.type not in capability.devices:
        return Outcome("not run", f"No {' or '.join(capability.devices).upper()} device here.")
    if reason := why_unavailable(name, device) or not_installed(capability.packages):
        return Outcome("not run", reason)
    expected = capability.refusals.get(name)
    try:
        capability.check(name, device)
    except Exception as error:
        if isinstance(error, (NotImplementedError, RuntimeError)) and expected and re.search(expected, str(error)):
            return Outcome("no", str(error).splitlines()[0])
        return Outcome("FAIL", f"{type(error).__name__}: {' '.join(str(error).split())}")
    return Outcome("pass") if expected is None else Outcome("FAIL", f"Expected {expected!r}, but it passes.")


def _refusals(able: Callable[[Impl], bool], said: str) -> dict[str, str]:
    """Pattern of the refusal of each implementation that is not able; {able} in it becomes the names of the others."""
    others = ", ".join(impl.name for impl in IMPLS if able(impl))
    return {impl.name: said.format(able=others) for impl in IMPLS if not able(impl)}


_NO_SECOND = _refusals(lambda impl: not impl.hand_written, "no second derivative; these have: {able}$")
_HALF = ", ".join(impl.name for impl in IMPLS if torch.float16 in impl.dtypes and "cpu" in impl.devices)
_NOT_IN_HALF = _refusals(lambda impl: torch.float16 in impl.dtypes, rf"computes in .*, not in float16\. .*: {_HALF}")
_NOT_IN_FUNC = _refusals(
    lambda impl: not impl.hand_written,
    "inside a transform of torch.func nor under forward-mode AD; these do: {able}, and 'auto'",
)
_NOT_BATCHED = _refusals(lambda impl: not impl.hand_written, "takes no batch of gradients .*; these do: {able}$")
_NOT_ON_META = _refusals(lambda impl: not impl.experimental, "not on meta.*: {able}")
_NOT_RECORDED = _refusals(
    lambda impl: not impl.hand_written, "cannot record; these can be recorded: {able}, and 'auto'"
)
# For one launch of all steps, what runs on a GPU alone makes the products with x of all of them at once.
_HOLDS = _refusals(
    lambda impl: impl.hand_written and "cpu" in impl.devices, r"Per step, the peak holds \d+\.\d times the output"
)

CAPABILITIES = (
    Capability("packed sequences", partial(checks.right, checks.PACKED)),
    Capability("recurrent dropout", partial(checks.right, checks.DROPPED)),
    Capability("autocast to bfloat16", partial(checks.autocast, torch.bfloat16)),
    Capability("autocast to float16", partial(checks.autocast, torch.float16), _NOT_IN_HALF),
    Capability("second derivative", checks.second_derivative, _NO_SECOND),
    Capability("torch.compile, fullgraph", checks.compile_fullgraph),
    Capability("torch.export and a reload, any batch", checks.export),
    Capability("torch.onnx.export, any batch", saved.onnx, _NOT_RECORDED, packages=saved.PACKAGES),
    Capability("torch.jit.trace and a reload, any batch", saved.traced, _NOT_RECORDED),
    Capability("torch.func.functional_call, grad", checks.functional, _NOT_IN_FUNC),
    Capability("torch.func.vmap over an ensemble", checks.ensemble, _NOT_IN_FUNC),
    Capability("torch.func.jacrev", partial(checks.jacobian, lambda call, x: jacrev(call)(x)), _NOT_IN_FUNC),
    Capability("jacobian, vectorize=True", partial(checks.jacobian, partial(jacobian, vectorize=True)), _NOT_BATCHED),
    Capability("shapes on the meta device", checks.shapes_on_meta, _NOT_ON_META),
    Capability("gradient checkpointing", checks.checkpointing),
    Capability("torch.nn.utils.prune", partial(hooks.hooked, partial(prune.l1_unstructured, amount=0.5), prune.remove)),
    Capability("torch.nn.utils.weight_norm", partial(hooks.hooked, weight_norm, remove_weight_norm)),
    Capability("torch.nn.utils.spectral_norm", partial(hooks.hooked, spectral_norm, remove_spectral_norm)),
    Capability("CUDA graph capture", checks.cuda_graph, devices=("cuda",)),
    Capability("deepcopy and pickle", partial(saved.copied, saved.pickled)),
    Capability("torch.load, weights_only", partial(saved.copied, saved.weights_only)),
    Capability("safetensors", partial(saved.copied, saved.safetensors)),
    Capability(f"T of {STEPS:,}, memory for the output alone", checks.long_sequence, _HOLDS),
    Capability("threads", checks.threads),
    Capability("DistributedDataParallel", ranks.data_parallel, ranks=True),
    Capability("fully_shard", ranks.sharded, ranks=True),
)


def _two_ranks(rank: int, path: Path) -> None:
    """Run every check of two ranks with every implementation, on the CPU over gloo; rank 0 writes the rows."""
    killed_with(os.getppid())
    store = f"file://{path.with_suffix('.store')}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=ranks.WORLD, timeout=timedelta(seconds=60))
    for capability in (capability for capability in CAPABILITIES if capability.ranks):
        for name in names():
            outcomes: list[Any] = [None] * ranks.WORLD
            dist.all_gather_object(outcomes, outcome(capability, name, torch.device("cpu")))
            word, reason = next((one for one in outcomes if one.word != "pass"), outcomes[0])
            if rank == 0:
                row = {"capability": capability.name, "implementation": name, "outcome": word, "reason": reason}
                append_row(path, row)
    dist.barrier()
    dist.destroy_process_group()
    # Threads of torch may outlive the group; a process that is torn down under them is sometimes aborted.
    os._exit(0)


if __name__ == "__main__":
    import torch.distributed.fsdp  # once for both processes

    # A fork has torch imported already; other systems have to spawn.
    start = "fork" if sys.platform == "linux" else "spawn"
    start_processes(_two_ranks, (Path(sys.argv[1]),), nprocs=ranks.WORLD, start_method=start)
