"""What a run times, by default and with options."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import torch

from impls import registry
from suite.candidates import submission
from suite.candidates.candidate import Candidate
from suite.candidates.catalogue import alternatives, candidates, find
from suite.candidates.names import BASELINE, PADDED
from suite.cases.case import Case
from suite.cases.spelling import MEDIUM, short
from suite.cases.workloads import WORKLOADS, Workload
from suite.measure.guard import guard
from suite.measure.job import Job, RefusedError
from suite.shared import machine
from suite.shared.arithmetic import Arithmetic
from suite.shared.devices import DeviceType
from suite.shared.files import path_of

#: By kind of device, the default minutes of a run for each dtype asked for.
MINUTES = {DeviceType.CPU: 5.0, DeviceType.CUDA: 16.0}


def amount(text: str) -> float:
    """A number of at least 0, of an argument of the command line."""
    number = float(text)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {text}")
    return number


def parent() -> argparse.ArgumentParser:
    """Options of every command that measures."""
    result = argparse.ArgumentParser(add_help=False)
    add = result.add_argument
    names = [candidate.name for candidate in candidates()]
    add("--implementation", nargs="+", choices=names, help="default: all, what is slow in few places")
    dtypes = [str(arithmetic) for arithmetic in Arithmetic]
    add("--dtype", nargs="+", choices=dtypes, default=["float32"], help="default: float32")
    device = machine.default_device()
    add("--device", type=machine.device_of, default=device, help="default: CUDA if there is one, else the CPU")
    add("--results", type=path_of, help="folder with a folder for each machine; default: results/")
    return result


def fastest(device: torch.device, dtype: str) -> str | None:
    """The implementation that `auto` takes; None if none runs, as without a GPU on "cuda"."""
    try:
        return registry.resolve(registry.AUTO, device, Arithmetic(dtype).dtype).name
    except RuntimeError:
        return None


def fastest_of(device: torch.device, dtypes: Sequence[str]) -> list[str]:
    """The implementations that `auto` takes in some dtypes; none in a dtype in which none runs."""
    taken = [fastest(device, dtype) for dtype in dtypes]
    return [name for name in taken if name is not None]


def with_submitted(options: argparse.Namespace) -> argparse.Namespace:
    """Register the implementations of `--impl`, and return options that time them, by default beside the fastest.

    SystemExit says what is wrong with a file.
    """
    dtypes = options.dtype or ["float32"]
    check = guard()
    loaded = submission.load_all(options.impl, options.device)
    try:
        check()
    except RefusedError as error:
        raise SystemExit(f"--impl: {error}.") from error
    beside = options.implementation or [BASELINE, *fastest_of(options.device, dtypes), "jax"]
    changed = {
        "implementation": [*dict.fromkeys((*loaded, *beside))],
        "dtype": dtypes,
        "minutes": 2.0 if options.minutes is None else options.minutes,
        "results": submission.results_of(options.results, options.impl),
    }
    return argparse.Namespace(**vars(options) | changed)


def multiplies_bfloat16() -> bool:
    """True if the processor has instructions that multiply bfloat16."""
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def by_default(device: str) -> list[str]:
    """Workloads that are timed by default on a kind of device."""
    return [name for name, workload in WORKLOADS.items() if device in workload.by_default]


def names_sizes(options: argparse.Namespace) -> bool:
    """True if a run is told sizes, instead of workloads."""
    return bool(options.size or options.sweep)


def workloads(options: argparse.Namespace) -> list[Workload]:
    """The sizes that a run is told, by their names; or workloads, which without a GPU are shortened unless it is told.

    SizeError if a sweep is over what lengths have.
    """
    if names_sizes(options):
        cases = options.size or [MEDIUM]
        if options.sweep:
            cases = [resized for case in cases for resized in options.sweep.along(case)]
        return [Workload(short(case), case, asked_for=True) for case in dict.fromkeys(cases)]
    chosen = [WORKLOADS[name] for name in options.workload or by_default(options.device.type)]
    cut = options.device.type == DeviceType.CPU and not options.full
    return [workload.shortened for workload in chosen] if cut else chosen


def jobs(options: argparse.Namespace) -> list[Job]:
    """Jobs of a run of the benchmark: what its options name, and the defaults where they name nothing."""
    dtypes = options.dtype or ["float32"]
    if options.dtype is None and options.device.type == DeviceType.CPU and multiplies_bfloat16():
        dtypes = [*dtypes, "bfloat16"]
    timed = candidates()
    if options.implementation:
        timed = [find(name) for name in options.implementation]
    todo = list[Job]()
    for dtype, workload, candidate in product(dtypes, workloads(options), timed):
        norms = list[bool]()
        for norm in candidate.layer_norms:
            in_workload = norm in workload.layer_norms or not candidate.compared
            if in_workload and _timed(options, candidate, workload, dtype, norm):
                norms.append(norm)
        if norms:
            todo.append(Job("bench", candidate.name, workload, dtype, options.device, tuple(norms)))
    return _each_once(todo) if names_sizes(options) else todo


def _each_once(todo: Sequence[Job]) -> list[Job]:
    """The first job of each candidate on a case: `torch.nn.LSTM` has one at sizes that differ in layer norm alone."""
    first = dict[tuple[str, str, tuple[Case, ...]], Job]()
    for job in todo:
        first.setdefault((job.candidate, job.dtype, tuple(job.cases)), job)
    return list(first.values())


def _timed(options: argparse.Namespace, candidate: Candidate, workload: Workload, dtype: str, layer_norm: bool) -> bool:
    """True if a candidate is timed on a workload."""
    device = options.device.type
    if options.dtype is None and dtype != "float32":  # bfloat16, which the processor multiplies
        return workload.time_bfloat16 and candidate.name in (BASELINE, fastest(options.device, dtype))
    if not candidate.takes(workload.case):
        return False
    if options.implementation:
        return True
    if not options.workload and device in (*workload.time_fastest_alone, *workload.time_headline_alone):
        timed = [BASELINE, PADDED, fastest(options.device, dtype)]
        if device in workload.time_fastest_alone:
            return candidate.name in timed
        if candidate.name not in (*timed, *alternatives()):
            return False
    if candidate.of_others and device == DeviceType.CPU:
        asked = workload.time_others or bool(options.workload)
        return asked and (candidate.of_torch or dtype == "float32")
    if candidate.compiles_each_size:
        return dtype == "float32" and workload.time_compiled and not layer_norm
    if candidate.literal and not options.workload and (device, layer_norm) not in workload.time_reference_forms:
        return False
    # A GPU times the forms that autograd differentiates in the first dtype alone.
    first_dtype = options.dtype[0] if options.dtype else "float32"
    return device == DeviceType.CPU or candidate.hand_written or dtype == first_dtype


class Pair(NamedTuple):
    """A candidate on a workload, by their names."""

    candidate: str
    workload: str


def incapable(options: argparse.Namespace) -> list[Pair]:
    """What a run is asked to time, and cannot, as the candidate lacks what the case has."""
    pairs = list[Pair]()
    for name, workload in product(options.implementation or (), workloads(options)):
        if not find(name).takes(workload.case):
            pairs.append(Pair(name, workload.name))
    return pairs


def left_out(options: argparse.Namespace, todo: Sequence[Job]) -> list[Pair]:
    """What a run whose options name no implementation leaves out of its workloads in its first dtype."""
    if options.implementation:
        return []
    timed = {(job.candidate, replace(job.case, layer_norm=False)) for job in todo}
    pairs = list[Pair]()
    for candidate, workload in product(candidates(), workloads(options)):
        able = options.device.type in candidate.devices and candidate.takes(workload.case)
        if able and (candidate.name, replace(workload.case, layer_norm=False)) not in timed:
            pairs.append(Pair(candidate.name, workload.name))
    return pairs


def minutes(options: argparse.Namespace) -> float:
    """Minutes that a run of the benchmark may take."""
    if options.minutes is not None:
        return float(options.minutes)
    return MINUTES[DeviceType(options.device.type)] * len(options.dtype or ["float32"])
