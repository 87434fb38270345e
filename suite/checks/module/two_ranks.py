"""The processes of the checks that take two: `python -m suite.checks.module.two_ranks FILE`.

It starts itself again under torchrun, and leaves a row for each check and implementation.
"""

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from impls import names
from suite.checks.module.capabilities import CAPABILITIES, outcome
from suite.checks.module.ranks import WORLD
from suite.shared import bound
from suite.shared.children import leave
from suite.shared.files import ROOT


def main(path: Path) -> None:
    """Run every check of two ranks with every implementation, on the CPU over gloo; rank 0 leaves the rows."""
    bound.killed_with(os.getppid())
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    for capability in (capability for capability in CAPABILITIES if capability.ranks):
        for name in names():
            found: list[Any] = [None] * WORLD
            dist.all_gather_object(found, outcome(capability, name, torch.device("cpu")))
            word, reason = next((one for one in found if one.word != "pass"), found[0])
            if dist.get_rank() == 0:
                row = {"capability": capability.name, "implementation": name, "outcome": word, "reason": reason}
                leave(path, row)
    dist.barrier()
    dist.destroy_process_group()
    # Threads of torch may outlive the group; a process that is torn down under them is sometimes aborted.
    os._exit(0)


if __name__ == "__main__":
    if "LOCAL_RANK" in os.environ:
        main(Path(sys.argv[1]))
    else:
        torchrun = [
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={WORLD}",
            "-m",
            "suite.checks.module.two_ranks",
        ]
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, *torchrun, *sys.argv[1:]])
