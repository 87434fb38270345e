"""The first call of an installed wheel: it runs the library that the wheel has, within a second, and torch's OpenMP."""

import time
from pathlib import Path

import torch
from hyperlstm import HyperLSTM, why_unavailable

x = torch.randn(5, 3, 20)
model = HyperLSTM(20, 32, 16, 4, 1)
start = time.perf_counter()
out, _ = model(x)
seconds = time.perf_counter() - start
assert why_unavailable("batched_cpu", "cpu") is None, why_unavailable("batched_cpu", "cpu")
assert "impl=auto (batched_cpu)" in repr(model), model
print(f"torch {torch.__version__}: the first call takes {seconds:.2f} s")
assert seconds < 1
openmp = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libgomp" in line}
assert all("torch" in path for path in openmp), openmp  # none of the system's
