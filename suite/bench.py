"""`nox -s bench`: time every implementation on every workload, each in a process of its own."""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from impls import names, registry

from . import machine, report
from .bench_tables import bench_view
from .cases import SELECTION, SHORT, WORKLOADS, Case
from .jobs import Job, run
from .pages import page
from .results import RESULTS
from .subjects import find, subjects
from .tables import show

#: Of the machine's memory, what one process may take.
MEMORY_SHARE = 0.6


def parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    result = argparse.ArgumentParser(prog="nox -s bench --", description=__doc__)
    add = result.add_argument
    everything = [subject.name for subject in subjects()]
    add("--workload", nargs="+", choices=WORKLOADS, help=f"default: {', '.join(SELECTION)}; on a GPU all")
    add("--implementation", nargs="+", choices=everything, help="default: all but what compiles for minutes")
    add("--layer-norm", choices=("off", "on", "both"), default="both", help="default: both")
    add("--dtype", nargs="+", choices=("float32", "bfloat16", "float16", "float64"), default=["float32"])
    add("--device", default=str(machine.default_device()), help="default: CUDA if there is one, else the CPU")
    add("--full", action="store_true", help="the paper's T and B, which a run without a GPU shortens")
    add("--everything", action="store_true", help="every workload at --full, implementation and dtype")
    add("--time-limit", type=float, default=None, help="seconds a process may take; default: 30, with --full 900")
    add("--memory-limit", type=float, default=None, help="GiB a process may take; default: 60 %% of what there is")
    add("--results", type=Path, default=RESULTS, help="folder with a folder for each machine")
    return result


def choose(options: argparse.Namespace) -> None:
    """Fill in what was not said."""
    gpu = torch.device(options.device).type == "cuda"
    quick = [s.name for s in subjects() if s.name not in names() or not registry.find(s.name).compiles_each_size]
    if options.everything:
        options.full, options.dtype = True, ["float32", "bfloat16", "float16", "float64"]
    complete = options.everything or gpu
    options.workload = options.workload or list(WORKLOADS if complete else SELECTION)
    options.implementation = options.implementation or ([s.name for s in subjects()] if complete else quick)


def cases(arguments: argparse.Namespace) -> Iterator[Case]:
    """Yield the workloads asked for, with layer norm off and on, shortened where there is no GPU."""
    short = not arguments.full and torch.device(arguments.device).type == "cpu"
    for name in arguments.workload:
        case = replace(WORKLOADS[name], **SHORT[name]) if short and name in SHORT else WORKLOADS[name]
        for layer_norm in (False, True):
            if arguments.layer_norm in ("both", "on" if layer_norm else "off"):
                yield replace(case, layer_norm=layer_norm)


def jobs(arguments: argparse.Namespace, folder: Path) -> list[Job]:
    """Return what to run, in the order of the tables."""
    limit = memory_limit(arguments)
    chosen = [find(name) for name in arguments.implementation]
    return [
        Job(subject.name, case, dtype, arguments.device, limit, folder)
        for dtype in arguments.dtype
        for case in cases(arguments)
        for subject in chosen
        if case.layer_norm in subject.layer_norms
        and subject.why_unavailable(torch.device(arguments.device), getattr(torch, dtype)) is None
    ]


def memory_limit(arguments: argparse.Namespace) -> int:
    """Return the bytes that one process may take."""
    if arguments.memory_limit is not None:
        return int(arguments.memory_limit * 2**30)
    device = torch.device(arguments.device)
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return int(MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def line(job: Job, rows: Sequence[dict[str, Any]]) -> str:
    """Return what one job came to, in words."""
    parts = [
        f"{row['pass']} {row['median_s'] * 1e3:.4g} ms" if row["status"] == "ok" else f"{row['pass']} {row['status']}"
        for row in rows
    ]
    return f"{job.label}: {', '.join(parts)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit 1 if anything was refused or failed, which running out of memory or time is not."""
    options = parser().parse_args(arguments)
    choose(options)
    time_limit = options.time_limit or (900 if options.full else 30)
    device = torch.device(options.device)
    folder = options.results / machine.slug(device)
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    done: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryDirectory() as temporary,
        Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress,
    ):
        todo = jobs(options, Path(temporary))
        task = progress.add_task("starting", total=len(todo))
        log = folder / "raw" / "log.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        for job in todo:
            progress.update(task, description=job.label)
            rows = run(job, time_limit, folder / "raw" / f"{job.label.replace(' ', '-')}.json", log)
            page("bench").put(folder, rows)
            progress.console.print(line(job, rows), soft_wrap=True, highlight=False)
            done += rows
            progress.advance(task)
    report.write_tables(options.results)
    for title, table in bench_view(pd.DataFrame(done)).items():
        console.print()
        show(table, title, console)
    console.print(f"\nTables: {folder / 'bench.md'}", soft_wrap=True, highlight=False)
    return 1 if any(row["status"].startswith(("refused", "failed", "crashed")) for row in done) else 0


if __name__ == "__main__":
    sys.exit(main())
