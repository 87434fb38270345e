"""What a run of the benchmark times unless it is told otherwise, and which option asks for the rest."""

import argparse
from collections.abc import Iterator
from dataclasses import replace

import torch

from impls import names
from impls.registry import resolve
from suite.measure.jobs import full
from suite.shared.candidates import Candidate, candidates, find
from suite.shared.cases import BASELINE, SELECTION, SHORT, WORKLOADS, Case

#: By kind of device, the workloads.
SELECTED = {"cpu": SELECTION, "cuda": ("small", "medium", "stream", "char-ptb", "enwik8", "char-ptb-ragged")}
#: The equation as it reads, twice, which takes longest and says the same on any workload: timed on these alone.
SLOW_FORMS, FORMS_ON = names()[:2], {"cpu": ("small", "medium"), "cuda": ("medium",)}
#: Where what compiles for each size is timed: in float32 without layer norm. What takes seconds for it in place of tens
#: of seconds is timed on every workload in both forms, if there is no GPU, which few have JAX for.
COMPILED_ON, COMPILED_SOON = ("medium",), {"cpu": ("jax",), "cuda": ()}
#: What a run without a GPU times at the paper's own T and B beside the shortened ones: its fastest alone.
FULL = "char-ptb"

#: Seconds that each row of a process may take: at the paper's T and B, and shortened.
LONG_LIMIT, SHORT_LIMIT = 900, 45
#: Seconds on top for what compiles for each size, which it does some four times before its first row.
COMPILING = 180


def choose(options: argparse.Namespace) -> None:
    """Fill in what was not said."""
    device = torch.device(options.device)
    options.every_candidate, options.every_workload = bool(options.implementation), bool(options.workload)
    options.workload = options.workload or list(SELECTED[device.type])
    options.implementation = options.implementation or [candidate.name for candidate in candidates()]


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield the workloads asked for, shortened where there is no GPU."""
    for name in options.workload:
        yield replace(WORKLOADS[name], **SHORT[name]) if shortens(options) and name in SHORT else WORKLOADS[name]
    if shortens(options) and not (options.every_candidate or options.every_workload):
        yield WORKLOADS[FULL]


def shortens(options: argparse.Namespace) -> bool:
    """Return whether T and B are less than the paper's, since there is no GPU."""
    return not options.full and torch.device(options.device).type == "cpu"


def layer_norms(options: argparse.Namespace, candidate: Candidate) -> tuple[bool, ...]:
    """Return which forms of a candidate are asked for: without layer norm, with it, or both."""
    asked = {"both": (False, True), "off": (False,), "on": (True,)}[options.layer_norm]
    return tuple(norm for norm in asked if norm in candidate.layer_norms)


def limit(options: argparse.Namespace, candidate: Candidate) -> float:
    """Return the seconds that a row may take."""
    usual = SHORT_LIMIT if shortens(options) else LONG_LIMIT
    return options.time_limit or usual + COMPILING * candidate.compiles_each_size


def timed(options: argparse.Namespace, candidate: Candidate, case: Case, dtype: str, layer_norm: bool) -> bool:
    """Return whether to time a candidate, which takes what is asked for, on a case."""
    device = torch.device(options.device)
    if case.lengths and not candidate.takes_packed:
        return False
    if shortens(options) and full(case):
        return candidate.name in (BASELINE, resolve("auto", device, torch.float32).name)
    if options.every_candidate:
        return True
    if candidate.compiles_each_size:
        soon = candidate.name in COMPILED_SOON[device.type]
        return dtype == "float32" and (soon or (case.name in COMPILED_ON and not layer_norm))
    if case.lengths and not candidate.follows_tokens:
        return False
    if candidate.name in SLOW_FORMS and not (options.every_workload or case.name in FORMS_ON[device.type]):
        return False
    return device.type == "cpu" or candidate.hand_written or dtype == options.dtype[0]


def left_out(options: argparse.Namespace) -> list[dict[str, str]]:
    """Return what the choice leaves out where no option was given, in a line for each option that asks for it."""
    lines: list[dict[str, str]] = []
    for candidate in () if options.every_candidate else map(find, options.implementation):
        able = [case for case in cases(options) if not (shortens(options) and full(case))]
        able = [case for case in able if candidate.takes_packed or not case.lengths]
        for dtype in options.dtype:
            for norm in layer_norms(options, candidate):
                out = [case.name for case in able if not timed(options, candidate, case, dtype, norm)]
                where = "all" if len(out) == len(able) > 1 else ", ".join(out)
                line = {"option": "--implementation", "implementation": candidate.name, "workload": where}
                lines += [line | {"dtype": dtype, "layer norm": "on" if norm else "off"}] * bool(out)
    for column in ("dtype", "layer norm", "implementation"):
        lines = _joined(lines, column)
    others = [] if options.every_workload else [name for name in WORKLOADS if name not in options.workload]
    lines += [{"option": "--workload", "workload": ", ".join(others)}] * bool(others)
    cut = [name for name in options.workload if shortens(options) and name in SHORT]
    return lines + [{"option": "--full", "workload": f"{', '.join(cut)} at the paper's T and B"}] * bool(cut)


def _joined(lines: list[dict[str, str]], column: str) -> list[dict[str, str]]:
    """Return lines in which those that differ in a column alone are one."""
    found: dict[str, dict[str, str]] = {}
    for line in lines:
        key = str(line | {column: ""})
        before = f"{found[key][column]}, " if key in found else ""
        found[key] = line | {column: before + line[column]}
    return list(found.values())
