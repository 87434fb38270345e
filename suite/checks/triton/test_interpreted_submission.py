"""A file of `--impl` that starts Triton kernels, in the interpreter: run by `test_interpreter.py`."""

from dataclasses import replace
from pathlib import Path

import torch

from suite.candidates import submission
from suite.checks.module import runs
from suite.comparison.draws import implementation

CPU = torch.device("cpu")


def test_a_file_with_kernels_is_right() -> None:
    impl = submission.load(Path(runs.__file__).with_name("mine_triton.py"))
    submission.try_out(impl, CPU)
    for case in (replace(runs.CASE, layer_norm=False), replace(runs.PACKED, layer_norm=False)):
        runs.agrees(implementation(impl.name), case, CPU)
