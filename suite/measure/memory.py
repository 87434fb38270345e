"""Memory: what a training step consists of, the longest T that fits, and the weight tensor of the naive form."""

import math
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import torch

from impls import names
from impls.gradient.chunks import limited
from suite.measure import work
from suite.measure.jobs import Job
from suite.measure.options import studied
from suite.measure.timing import stopwatch, warm_up
from suite.measure.work import admitted
from suite.shared import usage
from suite.shared.candidates import Candidate, find
from suite.shared.cases import WORKLOADS, Case
from suite.shared.process import Row

#: Visits of each job: memory does not vary.
VISITS = 1
#: The naive form's weight tensor is measured at these n_z, of a case that holds little else.
TENSOR_Z = (1, 2, 4, 8, 16, 32)
TENSOR_CASE = replace(WORKLOADS["small"], T=1, B=1)
#: Bytes that a training step of the longest sequence is to fit in.
LIMIT = 1 << 28
#: Lengths double until one takes GROWN of the limit; one more takes LAST of it. The line goes through these two, since
#: the memory of a backward pass in chunks grows evenly only once T is long.
GROWN, LAST = 1 / 2, 5 / 6
#: Distance of the runs below and above the predicted T, as a share of it.
MARGIN = 0.01


def jobs(options: Namespace) -> list[Job]:
    """One job per dtype, layer norm off or on, and candidate."""
    case, device = WORKLOADS[options.workload], options.device
    return [
        Job("memory", one.name, (one.name,), replace(case, layer_norm=norm), dtype, device)
        for dtype, norm in product(options.dtype, (False, True))
        for one in studied(options, dtype, norm)
    ]


def rows(job: Job, first: bool) -> Iterator[Row]:
    """Yield the ledger of one candidate, its lengths up to the limit, and, of the naive form, its weight tensor."""
    for name in (yield from admitted(job)):
        candidate = find(name)
        if name == names()[0] and not job.case.layer_norm:
            yield from (_tensor(job, name, Z) for Z in TENSOR_Z)
        yield job.row("step", name, **ledger(candidate, job.case, job.torch_dtype, job.device))
        yield from _lengths(job, candidate)


def _lengths(job: Job, candidate: Candidate) -> Iterator[Row]:
    """Yield lengths, the last two of which give the line, then one just below and one just above the longest T."""

    def measured(kind: str, T: int) -> Row:
        case = replace(job.case, T=T)
        return job.row(kind, candidate.name, case, **peak(candidate, case, job.torch_dtype, job.device))

    def line() -> tuple[float, float]:
        """Slope and constant of the peak against T, through the last two lengths."""
        T, peaks = np.array([(row["T"], row["peak_bytes"]) for row in points[-2:]]).T
        slope, constant = np.polyfit(T, peaks, 1)
        return float(slope), float(constant)

    points, T = list[Row](), 2
    while len(points) < 2 or points[-1]["peak_bytes"] < GROWN * LIMIT:
        points.append(measured("length", T))
        yield points[-1]
        T *= 2
    slope, constant = line()
    T = max(1, int(LAST * (LIMIT - constant) / slope))
    points.append(measured("length", T + (points[-1]["T"] == T)))
    yield points[-1]
    slope, constant = line()
    longest = math.floor((LIMIT - constant) / slope)
    apart = int(MARGIN * longest)
    for kind, T in (("under", longest - apart), ("over", longest + 1 + apart)):
        figures = {"longest": longest, "limit_bytes": LIMIT, "predicted_bytes": constant + slope * T}
        yield measured(kind, T) | figures


def ledger(candidate: Candidate, case: Case, dtype: torch.dtype, device: torch.device) -> Row:
    """Parts of what a training step holds, in bytes.

    kept: saved for the backward pass, output included. workspace: the peak without saved memory and gradients, 0 if
    these never exist completely at the same time. recomputed: the peak if the forward pass of a hand-written gradient
    saves no residuals.
    """
    candidate.build(case, dtype, device)  # what is drawn once and stays
    own: Row = {"parameter_bytes": usage.saved_bytes(lambda: candidate.build(case, dtype, device), device)}
    model, x = candidate.build(case, dtype, device), work.example(case, dtype, device)
    warm_up(stopwatch(device), lambda: work.train(model, x))  # what is made once and stays
    model.zero_grad(set_to_none=True)
    own["kept_bytes"] = usage.saved_bytes(lambda: model(x), device)
    own["gradient_bytes"] = usage.saved_bytes(lambda: work.train(model, x), device)
    most = peak(candidate, case, dtype, device)
    own["workspace_bytes"] = max(0, most["peak_bytes"] - own["kept_bytes"] - own["gradient_bytes"])
    if candidate.name in names() and candidate.hand_written:
        with limited(device.type, residuals=False):
            own["recomputed_bytes"] = peak(candidate, case, dtype, device)["peak_bytes"]
    return own | most


def peak(candidate: Candidate, case: Case, dtype: torch.dtype, device: torch.device) -> Row:
    """Peak of a training step above parameters and input; on CUDA also `reserved_bytes`, of the caching allocator."""
    model, x = candidate.build(case, dtype, device), work.example(case, dtype, device)
    most: Row = {"peak_bytes": work.peak(work.train, model, x)}
    return most | ({"reserved_bytes": torch.cuda.max_memory_reserved(device)} if device.type == "cuda" else {})


def _tensor(job: Job, name: str, Z: int) -> Row:
    """Row of what one step of one sample takes at n_z, and of the bytes of the weights it is made of."""
    case, dtype, device = replace(TENSOR_CASE, Z=Z, name=job.case.name), job.torch_dtype, job.device
    model, x = find(name).build(case, dtype, device), work.example(case, dtype, device)
    weights = sum(p.nbytes for n, p in model.named_parameters() if n.endswith((".weight_h", ".weight_x")))
    figures = {"forward_bytes": work.peak(work.forward, model, x), "peak_bytes": work.peak(work.train, model, x)}
    return job.row("tensor", name, case, weight_bytes=weights, **figures)
