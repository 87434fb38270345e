"""`python -m suite.checks.cost.slow_imports NAME ...` fails if a training step imports what is slow."""

import sys

import torch

from impls import HyperLSTM

#: Modules that take a tenth of a second or more to import, which no plain call needs.
SLOW = ("torch.utils.flop_counter", "torch._dynamo", "torch._inductor", "triton", "sympy", "pandas")

for name in sys.argv[1:]:
    before = {*sys.modules}
    model = HyperLSTM(3, 5, 4, 2, 1, impl=name)
    out, _ = model(torch.zeros(2, 1, 3))
    out.sum().backward()
    new = {*sys.modules} - before
    slow = [module for module in SLOW if module in new]
    if slow:
        raise SystemExit(f"{name} imports {', '.join(slow)}")
