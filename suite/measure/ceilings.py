"""What the hardware allows: rates measured once a run, and how near a row comes to the one that bounds it."""

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from suite.measure.stopwatch import Stopwatch, Work, stopwatch
from suite.shared import arithmetic
from suite.shared.arithmetic import dtype_of
from suite.shared.process import append_row

#: The side of the square matrices grows until their product takes so long, or up to the largest.
SMALLEST, LARGEST, LONG = 512, 8192, 0.05
#: Bytes copied, far more than any cache holds.
COPIED = 256 << 20
#: A rate is the best of rounds for so many seconds, of which there are at least so many.
SECONDS, LEAST = 0.5, 3

#: What makes a product of a matrix.
Product = Callable[[Tensor], Work]


def ceilings(device: torch.device, dtype: str) -> dict[str, Any]:
    """Rates of a large product of matrices and of a large copy."""
    watch = stopwatch(device)
    arithmetic.use(dtype)
    source = torch.ones(COPIED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = best(watch, lambda: target.copy_(source))
    every = [rate for way in products(device, dtype).items() for rate in rates(watch, *way, device, dtype)]
    fastest = max(every, key=lambda rate: rate["multiply_adds_per_s"])
    return {"dtype": dtype, "bytes_per_s": 2 * COPIED / copy, "copied_bytes": COPIED} | fastest


def products(device: torch.device, dtype: str) -> dict[str, Product]:
    """Ways, by name, to a square matrix's product with itself, the best of which is the ceiling.

    On a CPU torch multiplies float32 by one library and runs its LSTM by another, oneDNN, that may be twice as fast.
    """
    found: dict[str, Product] = {"torch.mm": lambda a: partial(torch.mm, a, a, out=torch.empty_like(a))}
    if device.type == "cpu" and dtype == "float32" and torch.backends.mkldnn.is_available():
        found["oneDNN"] = lambda a: partial(torch.nn.functional.linear, a.to_mkldnn(), a.to_mkldnn())
    return found


def rates(watch: Stopwatch, name: str, of: Product, device: torch.device, dtype: str) -> Iterator[dict[str, Any]]:
    """Yield the rate of a product at sides that grow until it takes long."""
    side, seconds = SMALLEST, 0.0
    while seconds < LONG and side <= LARGEST:
        seconds = best(watch, of(torch.ones(side, side, dtype=dtype_of(dtype), device=device)))
        yield {"multiply_adds_per_s": side**3 / seconds, "side": side, "product": name}
        side *= 2


def best(watch: Stopwatch, work: Work) -> float:
    """Shortest of some rounds, in seconds."""
    watch.seconds(work)
    rounds: list[float] = []
    while len(rounds) < LEAST or sum(rounds) < SECONDS:
        rounds.append(watch.seconds(work))
    return min(rounds)


def share(row: Mapping[str, Any], ceilings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Columns that compare a row with the ceilings, by dtype; none if it has no figures, or its dtype no ceiling.

    The bound is the longer of two times: that of its multiply-adds at the rate of a large product, and that of the
    bytes it moves at least at the rate of a large copy. The share is the bound over the measured time.
    """
    ceiling = ceilings.get(row["dtype"])
    if ceiling is None or row["status"] != "ok":
        return {}
    compute = row["multiply_adds"] / ceiling["multiply_adds_per_s"]
    memory = row["least_bytes"] / ceiling["bytes_per_s"]
    return {
        "multiply_adds_per_s": row["multiply_adds"] / row["median_s"],
        "bound": "compute" if compute >= memory else "memory",
        "share": max(compute, memory) / row["median_s"],
    }


if __name__ == "__main__":
    for dtype in sys.argv[3:]:
        append_row(Path(sys.argv[1]), ceilings(torch.device(sys.argv[2]), dtype))
