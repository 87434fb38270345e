"""What a run of the benchmark times by default and with options, and which option asks for the rest."""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import torch

from impls import names
from impls.registry import resolve
from suite.measure.jobs import Job, full
from suite.shared.arithmetic import dtype_of
from suite.shared.candidates import Candidate, candidates, find
from suite.shared.cases import BASELINE, SELECTION, SHORT, WORKLOADS, Case

#: By kind of device, the workloads.
SELECTED = {"cpu": SELECTION, "cuda": ("small", "medium", "stream", "char-ptb", "enwik8", "char-ptb-ragged")}
#: naive and row_scaled take longest and say the same on any workload. By kind of device, the workloads that they are
#: timed on, without layer norm or with it.
SLOW_FORMS = names()[:2]
FORMS_ON = {
    "cpu": (("small", False), ("small", True), ("medium", False)),
    "cuda": (("medium", False), ("medium", True)),
}
#: What compiles for each size is timed on these in float32 without layer norm. COMPILED_SOON takes seconds on a CPU
#: instead of tens of seconds, so it is timed on every workload, with layer norm too.
COMPILED_ON, COMPILED_SOON = ("medium",), {"cpu": ("jax",), "cuda": ()}
#: A run without a GPU times the fastest implementation on this workload at the paper's T and B too, without layer norm.
FULL = "char-ptb"
#: By kind of device, the minutes that a run may take.
MINUTES = {"cpu": 5.0, "cuda": 15.0}


def choose(options: argparse.Namespace) -> None:
    device = options.device.type
    options.every_candidate, options.every_workload = bool(options.implementation), bool(options.workload)
    options.workload = options.workload or list(SELECTED[device])
    options.implementation = options.implementation or [candidate.name for candidate in candidates()]
    options.minutes = MINUTES[device] if options.minutes is None else options.minutes


def jobs(options: argparse.Namespace) -> list[Job]:
    """Jobs to do: of each dtype the baseline and the fastest implementation first, the slowest forms last."""
    found: list[Job] = []
    for dtype in options.dtype:
        first, here = (BASELINE, fastest(options.device, dtype)), list[Job]()
        for case, candidate in product(cases(options), map(find, options.implementation)):
            norms = tuple(norm for norm in candidate.layer_norms if timed(options, candidate, case, dtype, norm))
            answer = candidate.name in first
            job = Job("bench", candidate.name, (candidate.name,), case, dtype, options.device, norms, answer)
            here += [job] * bool(norms)
        # naive, the slowest, comes last.
        found += sorted(
            here, key=lambda job: (not job.answer, job.candidate in SLOW_FORMS, job.candidate == names()[0])
        )
    return found


def fastest(device: torch.device, dtype: str) -> str | None:
    """The implementation that "auto" takes; None if none runs."""
    try:
        return resolve("auto", device, dtype_of(dtype)).name
    except RuntimeError:
        return None


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield the workloads asked for, shortened if there is no GPU."""
    for name in options.workload:
        yield replace(WORKLOADS[name], **SHORT[name]) if shortens(options) and name in SHORT else WORKLOADS[name]
    if shortens(options) and not (options.every_candidate or options.every_workload):
        yield WORKLOADS[FULL]


def shortens(options: argparse.Namespace) -> bool:
    """True if T and B are less than the paper's, since there is no GPU."""
    return not options.full and options.device.type == "cpu"


def timed(options: argparse.Namespace, candidate: Candidate, case: Case, dtype: str, layer_norm: bool) -> bool:
    """True if a candidate is timed on a case."""
    device = options.device
    if case.lengths and not candidate.takes_packed:
        return False
    if shortens(options) and full(case):
        return candidate.name in (BASELINE, fastest(device, "float32")) and not layer_norm
    if options.every_candidate:
        return True
    if candidate.compiles_each_size:
        soon = candidate.name in COMPILED_SOON[device.type]
        return dtype == "float32" and (soon or (case.name in COMPILED_ON and not layer_norm))
    if case.lengths and not candidate.follows_tokens:
        return False
    on = options.every_workload or (case.name, layer_norm) in FORMS_ON[device.type]
    if candidate.name in SLOW_FORMS and not on:
        return False
    # A GPU times the forms that autograd differentiates in the first dtype alone.
    return device.type == "cpu" or candidate.hand_written or dtype == options.dtype[0]


def left_out(options: argparse.Namespace) -> list[str]:
    """What the defaults leave out, in a line for each option that asks for it."""
    lines: list[str] = []
    for candidate in () if options.every_candidate else map(find, options.implementation):
        out: list[str] = []
        for case in cases(options):
            if (case.lengths and not candidate.takes_packed) or (shortens(options) and full(case)):
                continue
            forms = product(options.dtype, candidate.layer_norms)
            runs = [timed(options, candidate, case, dtype, norm) for dtype, norm in forms]
            out += [f"{case.name}{' in part' * any(runs)}"] * (not all(runs))
        lines += [f"--implementation {candidate.name}: {', '.join(out)}"] * bool(out)
    others = [name for name in WORKLOADS if name not in options.workload and not options.every_workload]
    cut = [name for name in options.workload if shortens(options) and name in SHORT]
    lines += [f"--workload: {', '.join(others)}"] * bool(others)
    return lines + [f"--full: {', '.join(cut)} at the paper's T and B"] * bool(cut)
