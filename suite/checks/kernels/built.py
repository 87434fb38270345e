"""Runs pytest once batched_cpu is built in each dtype, without which its cases would be skipped."""

import os
import sys

import pytest
import torch

from impls.registry import find


def main() -> int:
    """Exit status of pytest with the arguments of the command line; SystemExit says why there is no library."""
    os.environ.pop("LD_PRELOAD", None)  # a sanitizer is not for the compiler, which would fail under it
    batched_cpu = find("batched_cpu")
    for dtype in batched_cpu.dtypes:
        reason = batched_cpu.why_unavailable(torch.device("cpu"), dtype)
        if reason:
            raise SystemExit(reason)
    return pytest.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
