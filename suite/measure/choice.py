"""What a run times, by default and with options."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch

from impls import registry
from suite.measure.job import Job
from suite.shared import machine
from suite.shared.arithmetic import ARITHMETICS, dtype_of
from suite.shared.candidates import Candidate, candidates, find
from suite.shared.cases import BASELINE, WORKLOADS, Case
from suite.shared.files import RESULTS

#: By kind of device, what compiles for each size in seconds instead of tens of seconds, so that it is timed on every
#: workload, with layer norm too.
COMPILED_SOON = {"cpu": ("jax",), "cuda": ()}
#: By kind of device, the minutes that a run may take for each dtype asked for.
MINUTES = {"cpu": 5.0, "cuda": 16.0}


def parent() -> argparse.ArgumentParser:
    """Options of every command that measures."""
    result = argparse.ArgumentParser(add_help=False)
    add = result.add_argument
    names = [candidate.name for candidate in candidates()]
    add("--implementation", nargs="+", choices=names, help="default: all, what is slow in few places")
    add("--dtype", nargs="+", choices=ARITHMETICS, default=["float32"], help="default: float32")
    device = machine.default_device()
    add("--device", type=machine.device_of, default=device, help="default: CUDA if there is one, else the CPU")
    add("--results", type=Path, default=RESULTS, help="folder with a folder for each machine")
    return result


def fastest(device: torch.device, dtype: str) -> str:
    """The implementation that "auto" takes; "" if none runs."""
    try:
        return registry.resolve("auto", device, dtype_of(dtype)).name
    except RuntimeError:
        return ""


def multiplies_bfloat16() -> bool:
    """True if the processor has instructions that multiply bfloat16."""
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def by_default(device: str) -> list[str]:
    """Workloads that are timed by default on a kind of device."""
    return [name for name, case in WORKLOADS.items() if device in case.by_default]


@dataclass(frozen=True)
class Choice:
    """What a run of the benchmark times; a tuple is empty where nothing was asked for, and has the defaults.

    add_bfloat16: what `auto` takes is timed in bfloat16, too, on the workloads that say so.
    """

    device: torch.device
    dtypes: Sequence[str]
    implementations: Sequence[str]
    workloads: Sequence[str]
    full: bool
    add_bfloat16: bool

    def jobs(self) -> list[Job]:
        """Jobs to do."""
        todo = list[Job]()
        named = self.implementations or [candidate.name for candidate in candidates()]
        for dtype in (*self.dtypes, "bfloat16") if self.add_bfloat16 else self.dtypes:
            auto = fastest(self.device, dtype)
            for case, candidate in product(self.cases(), map(find, named)):
                norms = tuple(norm for norm in candidate.layer_norms if self.times(candidate, case, dtype, norm))
                headline = candidate.name == auto and dtype in self.dtypes
                if norms:
                    todo.append(Job("bench", (candidate.name,), case, dtype, self.device, norms, headline))
        return todo

    def cases(self) -> list[Case]:
        """The workloads, with the paper's T and B on a GPU or if `full`."""
        cases = [WORKLOADS[name] for name in self.workloads or by_default(self.device.type)]
        return cases if self.full or self.device.type == "cuda" else [case.shortened for case in cases]

    def times(self, candidate: Candidate, case: Case, dtype: str, layer_norm: bool) -> bool:
        """True if a candidate is timed on a case."""
        if dtype not in self.dtypes:  # bfloat16, which the processor multiplies
            return case.time_bfloat16 and candidate.name in (BASELINE, fastest(self.device, dtype))
        if not candidate.takes_packed if case.lengths else candidate.packed_only:
            return False
        if self.implementations:
            return True
        if candidate.compiles_each_size:
            soon = candidate.name in COMPILED_SOON[self.device.type]
            return dtype == "float32" and (soon or (case.time_compiled and not layer_norm))
        if case.lengths and not candidate.follows_tokens:
            return False
        if candidate.literal and not self.workloads and (self.device.type, layer_norm) not in case.time_reference_forms:
            return False
        # A GPU times the forms that autograd differentiates in the first dtype alone.
        return self.device.type == "cpu" or candidate.hand_written or dtype == self.dtypes[0]


def chosen(options: argparse.Namespace) -> Choice:
    """What the options of a command ask for, and the defaults for the rest."""
    device = options.device
    return Choice(
        device,
        options.dtype or ["float32"],
        options.implementation or (),
        options.workload or (),
        options.full,
        add_bfloat16=options.dtype is None and device.type == "cpu" and multiplies_bfloat16(),
    )


def minutes(options: argparse.Namespace) -> float:
    """Minutes that a run of the benchmark may take."""
    return (
        MINUTES[options.device.type] * len(options.dtype or ["float32"]) if options.minutes is None else options.minutes
    )
