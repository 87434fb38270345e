"""What a run of the benchmark times by default and with options, and which option asks for the rest."""

import argparse
from collections.abc import Iterator
from itertools import product

import torch

from impls import names
from suite.measure.jobs import Job
from suite.measure.options import fastest
from suite.shared.candidates import Candidate, candidates, find
from suite.shared.cases import BASELINE, WORKLOADS, Case

#: naive and row_scaled take longest and say the same on any workload, so each `Case` has where they are timed.
SLOW_FORMS = names()[:2]
#: By kind of device, what compiles for each size in seconds instead of tens of seconds, so that it is timed on every
#: workload, with layer norm too.
COMPILED_SOON = {"cpu": ("jax",), "cuda": ()}
#: By kind of device, the minutes that a run may take for each dtype asked for.
MINUTES = {"cpu": 5.0, "cuda": 15.0}


def choose(options: argparse.Namespace) -> None:
    device = options.device.type
    options.half = options.dtype is None and device == "cpu" and multiplies_bfloat16()
    options.dtype = options.dtype or ["float32"]
    options.every_candidate, options.every_workload = bool(options.implementation), bool(options.workload)
    options.workload = options.workload or by_default(device)
    options.implementation = options.implementation or [candidate.name for candidate in candidates()]
    options.minutes = MINUTES[device] * len(options.dtype) if options.minutes is None else options.minutes


def multiplies_bfloat16() -> bool:
    """True if the processor has instructions that multiply bfloat16."""
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def by_default(device: str) -> list[str]:
    """Workloads that are timed by default on a kind of device."""
    return [name for name, case in WORKLOADS.items() if device in case.by_default]


def jobs(options: argparse.Namespace) -> list[Job]:
    """Jobs to do."""
    todo: list[Job] = []
    for dtype in (*options.dtype, *["bfloat16"] * options.half):
        answer = fastest(options.device, dtype)
        for case, candidate in product(cases(options), map(find, options.implementation)):
            norms = tuple(norm for norm in candidate.layer_norms if timed(options, candidate, case, dtype, norm))
            twice = candidate.name == answer and dtype in options.dtype
            job = Job("bench", candidate.name, (candidate.name,), case, dtype, options.device, norms, twice)
            todo += [job] * bool(norms)
    return todo


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield the workloads asked for, shortened if there is no GPU."""
    for case in map(WORKLOADS.__getitem__, options.workload):
        yield case.shortened if shortens(options) else case


def shortens(options: argparse.Namespace) -> bool:
    """True if T and B are less than the paper's, since there is no GPU."""
    return not options.full and options.device.type == "cpu"


def timed(options: argparse.Namespace, candidate: Candidate, case: Case, dtype: str, layer_norm: bool) -> bool:
    """True if a candidate is timed on a case."""
    device = options.device
    if dtype not in options.dtype:  # bfloat16, which the processor multiplies
        return case.half and candidate.name in (BASELINE, fastest(device, dtype))
    if case.lengths and not candidate.takes_packed:
        return False
    if options.every_candidate:
        return True
    if candidate.compiles_each_size:
        soon = candidate.name in COMPILED_SOON[device.type]
        return dtype == "float32" and (soon or (case.compiles and not layer_norm))
    if case.lengths and not candidate.follows_tokens:
        return False
    on = options.every_workload or (device.type, layer_norm) in case.slow_forms
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
            if case.lengths and not candidate.takes_packed:
                continue
            forms = product(options.dtype, candidate.layer_norms)
            runs = [timed(options, candidate, case, dtype, norm) for dtype, norm in forms]
            out += [f"{case.name}{' in part' * any(runs)}"] * (not all(runs))
        lines += [f"--implementation {candidate.name}: {', '.join(out)}"] * bool(out)
    others = [name for name in WORKLOADS if name not in options.workload and not options.every_workload]
    cut = [name for name in options.workload if shortens(options) and WORKLOADS[name].short]
    lines += [f"--workload: {', '.join(others)}"] * bool(others)
    return lines + [f"--full: {', '.join(cut)} at the paper's T and B"] * bool(cut)
