"""Two processes for the checks of two ranks: `python -m suite.checks.module.two_ranks FILE`.

It starts both, and writes a row for each check and implementation.
"""

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.fsdp  # takes a second, once for both
from torch.multiprocessing.spawn import start_processes

from impls import names
from suite.checks.module.capabilities import CAPABILITIES, outcome
from suite.checks.module.ranks import WORLD
from suite.shared.process import append_row, killed_with


def main(rank: int, path: Path) -> None:
    """Run every check of two ranks with every implementation, on the CPU over gloo; rank 0 writes the rows."""
    killed_with(os.getppid())
    store = f"file://{path.with_suffix('.store')}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=WORLD, timeout=timedelta(seconds=60))
    for capability in (capability for capability in CAPABILITIES if capability.ranks):
        for name in names():
            found: list[Any] = [None] * WORLD
            dist.all_gather_object(found, outcome(capability, name, torch.device("cpu")))
            word, reason = next((one for one in found if one.word != "pass"), found[0])
            if rank == 0:
                row = {"capability": capability.name, "implementation": name, "outcome": word, "reason": reason}
                append_row(path, row)
    dist.barrier()
    dist.destroy_process_group()
    # Threads of torch may outlive the group; a process that is torn down under them is sometimes aborted.
    os._exit(0)


if __name__ == "__main__":
    # A fork has torch imported already; other systems have to spawn.
    start = "fork" if sys.platform == "linux" else "spawn"
    start_processes(main, (Path(sys.argv[1]),), nprocs=WORLD, start_method=start)
