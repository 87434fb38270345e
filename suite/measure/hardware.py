"""Highest rates of this hardware."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from suite.candidates.names import BASELINE
from suite.cases.workloads import WORKLOADS
from suite.measure.job import Job
from suite.measure.timing import Work, seconds_of
from suite.results.columns import Row
from suite.shared.arithmetic import Arithmetic
from suite.shared.devices import DeviceType

#: The side of the square matrices doubles from SMALLEST until their product takes LONG seconds, or up to LARGEST.
SMALLEST, LARGEST, LONG = 512, 8192, 0.05
#: Bytes copied, far more than a cache holds.
COPIED = 256 << 20
#: A rate is the best of at least LEAST calls, repeated for SECONDS.
SECONDS, LEAST = 0.2, 3


#: Makes the product of a matrix with itself.
Product = Callable[[Tensor], Work]


def jobs(device: torch.device, dtypes: Iterable[str]) -> list[Job]:
    """One job per dtype."""
    workload = next(iter(WORKLOADS.values()))
    return [Job(BASELINE, workload, dtype, device) for dtype in dtypes]


def rows(job: Job, first: bool) -> Iterator[Row]:
    """Yield the rates of a large product of matrices and of a large copy."""
    device, dtype = job.device, job.dtype
    source = torch.ones(COPIED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = best(lambda: target.copy_(source), device)
    reached = [rate for product in products(device, dtype).items() for rate in rates(*product, device, dtype)]
    fastest = max(reached, key=lambda rate: rate["multiply_adds_per_s"])
    yield {"dtype": dtype, "bytes_per_s": 2 * COPIED / copy} | fastest


def products(device: torch.device, dtype: str) -> dict[str, Product]:
    """Products of a square matrix with itself, by name; oneDNN, which computes the LSTM on a CPU, may be faster."""
    by_name: dict[str, Product] = {"torch.mm": lambda a: partial(torch.mm, a, a, out=torch.empty_like(a))}
    if device.type == DeviceType.CPU and dtype == "float32" and torch.backends.mkldnn.is_available():
        by_name["oneDNN"] = lambda a: partial(torch.nn.functional.linear, a.to_mkldnn(), a.to_mkldnn())
    return by_name


def rates(name: str, of: Product, device: torch.device, dtype: str) -> Iterator[dict[str, Any]]:
    """Yield the rate of a product at sides that grow until it takes long."""
    side, seconds = SMALLEST, 0.0
    while seconds < LONG and side <= LARGEST:
        seconds = best(of(torch.randn(side, side, device=device).to(Arithmetic(dtype).dtype)), device)
        yield {"multiply_adds_per_s": side**3 / seconds, "side": side, "product": name}
        side *= 2


def best(work: Work, device: torch.device) -> float:
    """Shortest of several calls, in seconds."""
    seconds_of(work, device)
    rounds = list[float]()
    while len(rounds) < LEAST or sum(rounds) < SECONDS:
        rounds.append(seconds_of(work, device))
    return min(rounds)
