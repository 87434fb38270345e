"""`python -m suite.checks.cost.imported NAME ...` fails if a training step imports what is slow."""

import sys

import torch

from impls import HyperLSTM

#: Modules that take a tenth of a second or more to import, which no plain call needs.
SLOW = ("torch.utils.flop_counter", "torch._dynamo", "torch._inductor", "triton", "sympy", "numpy", "pandas")

for name in sys.argv[1:]:
    before = {*sys.modules}
    HyperLSTM(3, 5, 4, 2, 1, impl=name)(torch.zeros(2, 1, 3))[0].sum().backward()
    if slow := [module for module in SLOW if module in {*sys.modules} - before]:
        raise SystemExit(f"{name} imports {', '.join(slow)}")
