"""Memory: what a training step consists of, the longest T that fits, and the weight tensor of the naive form."""

import math
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from numpy.polynomial import Polynomial

from impls import names
from impls.gradient.chunks import limited
from impls.registry import find as find_impl
from suite.measure import work
from suite.measure.jobs import Job
from suite.measure.options import a_job_each
from suite.measure.stopwatch import stopwatch, warm_up
from suite.shared import usage
from suite.shared.candidates import Candidate, find
from suite.shared.cases import WORKLOADS, Case
from suite.shared.process import Row

#: The naive form's weight tensor is measured at these n_z, of a case that holds little else.
TENSOR_Z = (1, 2, 4, 8, 16, 32)
TENSOR_CASE = replace(WORKLOADS["small"], T=1, B=1)
#: Bytes that a training step of the longest sequence is to fit in.
LIMIT = 1 << 28
#: Lengths double, but not beyond FURTHER of the longest T then predicted, until one takes GROWN of the limit; one more
#: takes LAST of it. The line goes through the last two: what a backward pass in chunks holds grows evenly only once T
#: is long.
GROWN, FURTHER, LAST = 1 / 2, 2 / 3, 5 / 6
#: How far off the predicted T the runs under and over it are, as a share of it.
MARGIN = 0.01

Measured = Callable[[Candidate, Case, torch.dtype, torch.device], dict[str, int]]


def jobs(options: Namespace) -> list[Job]:
    """Jobs of the study, one for each candidate."""
    return a_job_each(options, "memory", WORKLOADS[options.workload], limit=LIMIT)


def rows(job: Job) -> Iterator[Row]:
    """Yield the ledger of one candidate, its lengths up to the limit, and, of the naive form, its weight tensor."""
    (name,) = job.candidates
    candidate = find(name)
    if name == names()[0] and not job.case.layer_norm:
        yield from (_tensor(job, name, Z) for Z in TENSOR_Z)
    yield _labelled(job, candidate, "step", job.case, ledger)
    yield from _lengths(job, candidate)


def _lengths(job: Job, candidate: Candidate) -> Iterator[Row]:
    """Yield lengths, the last two of which give the line, then one just under and one just over the longest T."""
    found: list[Row] = []
    for T in _growing(found, job.limit):
        row = _labelled(job, candidate, "length", replace(job.case, T=T), peak)
        yield row
        if row["status"] != "ok":
            return
        found.append(row)
    line = _line(found)
    longest = _longest(line, job.limit)
    apart = int(MARGIN * longest)
    for kind, T in (("under", longest - apart), ("over", longest + 1 + apart)):
        row = _labelled(job, candidate, kind, replace(job.case, T=T), peak)
        yield row | {"longest": longest, "limit_bytes": job.limit, "predicted_bytes": line(T)}


def _growing(found: list[Row], limit: float) -> Iterator[int]:
    """Yield the lengths to measure, each by what was found until then."""
    T = 2
    yield T
    while len(found) < 2 or found[-1]["peak_bytes"] < GROWN * limit:
        rises = len(found) > 1 and found[-1]["peak_bytes"] > found[-2]["peak_bytes"]
        T = max(T + 1, min(2 * T, int(FURTHER * _longest(_line(found), limit)))) if rises else 2 * T
        yield T
    yield max(T + 1, int(LAST * _longest(_line(found), limit)))


def _line(found: list[Row]) -> Polynomial:
    """Line of the peak against T through the last two lengths."""
    (T, peak), (longer, more) = ((row["T"], row["peak_bytes"]) for row in found[-2:])
    slope = (more - peak) / (longer - T)
    return Polynomial([peak - slope * T, slope])


def _longest(line: Polynomial, limit: float) -> int:
    """The last T at which a line is not above the limit; ValueError for one that does not rise."""
    constant, slope = map(float, line.coef)
    if slope <= 0:
        raise ValueError(f"peak: expected it to rise with T, got {line}")
    return math.floor((limit - constant) / slope)


def _labelled(job: Job, candidate: Candidate, kind: str, case: Case, measured: Measured) -> Row:
    """Row of what was measured, or one that says that there was no memory for it."""
    try:
        figures = measured(candidate, case, job.torch_dtype, job.torch_device)
    except (RuntimeError, MemoryError) as error:
        if not work.is_out_of_memory(error):
            raise
        return job.row(kind, candidate.name, case, status="out of memory")
    return job.row(kind, candidate.name, case, **figures)


def ledger(candidate: Candidate, case: Case, dtype: torch.dtype, device: torch.device) -> dict[str, int]:
    """Parts of what a training step holds, in bytes, each measured by torch's allocator.

    parameter: the model. kept: what the forward pass saves for the backward pass, the output included. gradient: what
    the step leaves. workspace: the peak without saved memory and gradients; none where these two are never whole at
    once. peak and reserved: see `peak`. recomputed: of a hand-written gradient, the peak where the forward pass
    leaves no residuals.
    """
    parameters = usage.saved_bytes(lambda: candidate.build(case, dtype, device), device)
    model, x = candidate.build(case, dtype, device), work.example(case, dtype, device)
    warm_up(stopwatch(device), lambda: work.train(model, x))  # what is made once and stays
    model.zero_grad(set_to_none=True)
    saved = usage.saved_bytes(lambda: model(x), device)
    gradients = usage.saved_bytes(lambda: work.train(model, x), device)
    most = peak(candidate, case, dtype, device)
    workspace = max(0, most["peak_bytes"] - saved - gradients)
    own = {
        "parameter_bytes": parameters,
        "kept_bytes": saved,
        "gradient_bytes": gradients,
        "workspace_bytes": workspace,
    }
    if candidate.name in names() and find_impl(candidate.name).hand_written:
        with limited(device.type, residuals=False):
            own["recomputed_bytes"] = peak(candidate, case, dtype, device)["peak_bytes"]
    return own | most


def peak(candidate: Candidate, case: Case, dtype: torch.dtype, device: torch.device) -> dict[str, int]:
    """Bytes that a training step holds at most above parameters and input, see `work.py`.

    On CUDA also `reserved_bytes`: what the caching allocator then had of the device, parameters and input included.
    """
    model, x = candidate.build(case, dtype, device), work.example(case, dtype, device)
    most = {"peak_bytes": work.peak(work.train, model, x)}
    return most | ({"reserved_bytes": torch.cuda.max_memory_reserved(device)} if device.type == "cuda" else {})


def _tensor(job: Job, name: str, Z: int) -> Row:
    """Row of what one step of one sample takes at n_z, and of the bytes of the weights it is made of."""
    case, dtype, device = replace(TENSOR_CASE, Z=Z, name=job.case.name), job.torch_dtype, job.torch_device
    model, x = find(name).build(case, dtype, device), work.example(case, dtype, device)
    weights = sum(p.nbytes for n, p in model.named_parameters() if n.endswith((".weight_h", ".weight_x")))
    figures = {}
    for column, step in (("forward_bytes", work.forward), ("peak_bytes", work.train)):
        warm_up(stopwatch(device), partial(step, model, x))
        model.zero_grad(set_to_none=True)
        figures[column] = usage.peak_bytes(partial(step, model, x), device)
    return job.row("tensor", name, case, weight_bytes=weights, **figures)
