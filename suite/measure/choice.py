"""The jobs of a run: those of the plan, and of options that name others."""

import argparse
import math
from collections.abc import Sequence
from itertools import product

import torch

from impls import registry
from suite.candidates import submission
from suite.candidates.catalogue import candidates, find
from suite.candidates.names import BASELINE, PADDED
from suite.cases import plan
from suite.cases.plan import DTYPES, ELSEWHERE, PLAN, Line
from suite.cases.spelling import MEDIUM, along, short
from suite.cases.workloads import WORKLOADS, Workload
from suite.measure.guard import guard
from suite.measure.job import Job, RefusedError
from suite.shared import machine
from suite.shared.arithmetic import Arithmetic
from suite.shared.devices import DeviceType
from suite.shared.files import path_of

#: By kind of device, the default minutes of a run for each dtype.
MINUTES = {DeviceType.CPU: 5.0, DeviceType.CUDA: 8.0}


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
    add("--workload", nargs="+", choices=WORKLOADS, help="default: those of the plan, see --list")
    add("--implementation", nargs="+", choices=names, help="default: those of the plan")
    add("--dtype", nargs="+", choices=[*map(str, Arithmetic)], help="default: those of the plan")
    add("--full", action="store_true", help="the paper's T and B, which a run without a GPU shortens")
    about = "default: CUDA if there is one, else the CPU"
    add("--device", type=machine.device_of, default=machine.DEFAULT, help=about)
    add("--results", type=path_of, help="folder with a folder for each machine; default: results/")
    return result


def taken_by_auto(device: torch.device, dtypes: Sequence[str]) -> list[str]:
    """The implementations that `auto` takes in some dtypes; none in a dtype in which none runs, as without a GPU."""
    taken = list[str]()
    for dtype in dtypes:
        try:
            taken.append(registry.resolve(registry.AUTO, device, Arithmetic(dtype).dtype).name)
        except RuntimeError:
            continue
    return taken


def with_submitted(options: argparse.Namespace) -> argparse.Namespace:
    """Register the implementations of `--impl`, and return options that time them, by default beside that of `auto`.

    SystemExit says what is wrong with a file.
    """
    dtypes = options.dtype or ["float32"]
    try:
        loaded = submission.load_all(options.impl, options.device, guard())
    except RefusedError as error:
        raise SystemExit(f"--impl: {error}.") from error
    others = options.implementation or [*taken_by_auto(options.device, dtypes), "jax"]
    changed = {
        "implementation": [*dict.fromkeys((*loaded, *others))],
        "dtype": dtypes,
        "minutes": 2.0 if options.minutes is None else options.minutes,
        "results": submission.results_of(options.results, options.impl),
    }
    return argparse.Namespace(**vars(options) | changed)


def multiplies_bfloat16() -> bool:
    """True if the processor has instructions that multiply bfloat16."""
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def is_plan(options: argparse.Namespace) -> bool:
    """True if a run of the benchmark is asked for the whole plan, at least as long as by default."""
    selects = (options.workload, options.implementation, options.dtype, options.full, options.size, options.sweep)
    default = argparse.Namespace(device=options.device, dtype=None, minutes=None)
    return not any([*selects, options.impl]) and minutes(options) >= minutes(default)


def workloads(options: argparse.Namespace) -> list[Workload]:
    """The sizes that a run is told, by their names; or workloads, which without a GPU are shortened unless it is told.

    SizeError if a sweep is over what lengths have.
    """
    if options.size or options.sweep:
        cases = options.size or [MEDIUM]
        if options.sweep:
            cases = [resized for case in cases for resized in along(case, *options.sweep)]
        return [Workload(short(case), case, of_size=True) for case in dict.fromkeys(cases)]
    chosen = [WORKLOADS[name] for name in options.workload or plan.workloads(options.device.type)]
    cut = options.device.type == DeviceType.CPU and not options.full
    return [workload.shortened for workload in chosen] if cut else chosen


def lines(options: argparse.Namespace, workload: Workload) -> list[Line]:
    """Lines of the plan for a workload, with what options name instead."""
    device = DeviceType(options.device.type)
    of_plan = [line for line in PLAN[device] if line.workload == workload.name]
    if options.implementation or not of_plan:
        of_plan = [Line(workload.name, options.implementation or ELSEWHERE[device])]
    if options.dtype:
        of_plan = [line for line in of_plan if not line.dtypes]
    elif device == DeviceType.CPU and not multiplies_bfloat16():
        of_plan = [line for line in of_plan if "bfloat16" not in line.dtypes]
    return [line._replace(dtypes=tuple(options.dtype or line.dtypes or DTYPES[device])) for line in of_plan]


def jobs(options: argparse.Namespace) -> list[Job]:
    """Jobs of a run, in the order of tables: those of `lines`, and the baselines that take the workload's case."""
    todo = list[Job]()
    for dtype, workload, candidate in product(map(str, Arithmetic), workloads(options), candidates()):
        asked = set[bool]()
        for line in lines(options, workload):
            if dtype in line.dtypes and candidate.name in (*line.candidates, BASELINE, PADDED):
                asked.update(line.layer_norms)
        norms = candidate.layer_norms
        if candidate.compared:  # the baselines have none
            norms = tuple(norm for norm in norms if norm in workload.layer_norms and norm in asked)
        if asked and norms and candidate.takes(workload.case):
            todo.append(Job(candidate.name, workload, dtype, options.device, norms))
    return todo


def incapable(options: argparse.Namespace) -> list[str]:
    """What a run is asked to time, and cannot, as the candidate lacks what the case has."""
    asked = options.implementation or ()
    return [
        f"{name} on {each.name}" for each in workloads(options) for name in asked if not find(name).takes(each.case)
    ]


def minutes(options: argparse.Namespace) -> float:
    """Minutes that a run of the benchmark may take."""
    if options.minutes is not None:
        return float(options.minutes)
    device = DeviceType(options.device.type)
    return MINUTES[device] * len(options.dtype or DTYPES[device])
