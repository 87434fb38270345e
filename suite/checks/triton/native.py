"""Whether `batched_cuda` is right on the GPU that is here: `python -m suite.checks.triton.native`.

`nox -s cuda` runs it: the tests that are marked `cuda`, which show what only a GPU can, in some minutes. Their kernels
are compiled before, in parallel.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from impls import why_unavailable
from suite.cases.case import Case
from suite.cases.verification import DROPOUT, RAGGED
from suite.cases.workloads import WORKLOADS
from suite.checks.triton import TRITON
from suite.checks.triton.compiled import precompile
from suite.checks.triton.interpreted import CASES
from suite.shared import machine
from suite.shared.devices import DeviceType

#: Seconds after which a test is taken to hang.
LIMIT = 120
PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
#: Sizes that are compared at either split: without layer norm, with it, packed, and with a mask of g.
EITHER = (*CASES[:2], RAGGED[0], DROPOUT[0])
#: As large as users run it, where a product is another instruction, tiles have extra columns, and members share rows.
FULL = [Case(T=3, B=128, I=50, H=1000, S=128, Z=4, layer_norm=layer_norm) for layer_norm in (False, True)]
#: The same packed, with a mask of g.
FULL_PACKED = replace(FULL[1], lengths=(3, *[2] * 63, *[1] * 64), recurrent_dropout=0.1)
#: The large sizes, that with the largest Z, and that at which TF32 gains most, each with its arithmetic.
WIDE = [
    *((case, name) for case in (*FULL, FULL_PACKED, replace(WORKLOADS["enwik8"].case, T=2)) for name in PRECISIONS),
    (replace(WORKLOADS["medium"].case, T=3), "tf32"),
]
#: Two pairs of steps that run at the same time, without and with layer norm.
TOGETHER = [replace(case, T=50, B=B) for case in FULL for B in (128, 96)]
#: Models whose results have the same bits in a graph and on another stream.
MODELS = [
    Case(T=12, B=24, I=10, H=96, S=32, Z=4, L=2, layer_norm=layer_norm, state="stacked") for layer_norm in (False, True)
]


def passes() -> Iterator[tuple[Case, str, bool | None]]:
    """The passes of the tests, as `precompile` takes them."""
    for case in EITHER:
        for arithmetic in PRECISIONS:
            yield case, arithmetic, True
            yield case, arithmetic, False
    for case, arithmetic in WIDE:
        yield case, arithmetic, None
    for case in (*MODELS, *TOGETHER, replace(FULL[0], training=False)):
        yield case, "bfloat16", None


def main(arguments: list[str]) -> int:
    """Run the tests and say whether the implementation is right here; the status is 0 where there is no GPU.

    arguments: of pytest; with any, tests may be left out, and nothing is said of the implementation.
    """
    device = machine.default_device()
    unseen = machine.unseen_gpu()
    reason = unseen or why_unavailable(TRITON, device)
    if reason is not None:
        print(f"{reason} So {TRITON} is not checked.")
        return int(unseen is not None or device.type == DeviceType.CUDA)
    precompile(passes(), device)
    tests = str(Path(__file__).with_name("test_native.py"))
    # A test that hangs ends the process, which frees the GPU.
    ending = ("-o", f"faulthandler_timeout={LIMIT}", "-o", "faulthandler_exit_on_timeout=true")
    status = int(pytest.main([tests, "-v", "-p", "no:benchmark", *ending, "-m", "cuda", *arguments]))
    card = torch.cuda.get_device_name(device)
    if status:
        print(f"{TRITON} is not shown to be right on this {card}: not all tests passed.")
    elif not arguments:
        print(f"{TRITON} is right on this {card}: HyperLSTM(..., impl={TRITON!r}) chooses it.")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
