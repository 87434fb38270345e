"""`nox -s bench`: time the implementations against `torch.nn.LSTM`, within minutes.

    nox -s bench                               the plan: about 5 minutes, or 16 on a GPU
    nox -s bench -- --list                     what would run
    nox -s bench -- --workload medium --implementation batched compiled --dtype float32 bfloat16
    nox -s bench -- --full --minutes 60        the paper's T and B, which a run without a GPU shortens
    nox -s bench -- --impl mine.py             an implementation in a file, for 2 minutes
    nox -s bench -- --size H512-L2-norm --minutes 1     your sizes
    nox -s bench -- --sweep H=128,256,512,1024          how cost grows along one size, of medium or of a --size

A run ends with tables and a summary; suite/measure/README.md says how it measures. A run of the whole plan replaces the
results of this machine. Any other run, or one that is interrupted, has a folder of its own, whose path it prints.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import pandas as pd
import torch

from impls import names
from suite import report
from suite.acceptance import why_not_kept
from suite.candidates import submission
from suite.cases.plan import DTYPES
from suite.cases.spelling import SPELLING, SizeError, axis, parse
from suite.cases.workloads import Pass
from suite.checks.triton import TRITON
from suite.checks.triton.compiled import precompile
from suite.comparison.memory import most_bytes, shortage
from suite.measure import choice, hardware, other_processes
from suite.measure.believed import believed
from suite.measure.choice import MINUTES, amount, is_plan, minutes, parent, with_submitted
from suite.measure.job import Job
from suite.measure.runner import NAME, REPEATED, Revision, by_result, run
from suite.measure.server import Server, new_log
from suite.measure.work import ROUNDS_AS_NAIVE
from suite.pages import sweep, text
from suite.pages.bench import terminal_table
from suite.pages.headline import about_files, summary
from suite.pages.plots import svg
from suite.pages.ranking import places, ranked, unable
from suite.results import provenance
from suite.results.columns import Row, key_of
from suite.results.format import NORM, heading
from suite.results.run import Run, folder_for, folder_of, new_run, read, red
from suite.results.status import WRONG, Ended, Status
from suite.shared import machine
from suite.shared.arithmetic import Arithmetic
from suite.shared.devices import DeviceType
from suite.shared.files import path_of, write_whole

#: By kind of device, the seconds that a first visit to a job usually takes, and those after which none starts; IMPORTS
#: come before them.
USUAL = {DeviceType.CPU: 5, DeviceType.CUDA: 15}
MOST = {DeviceType.CPU: 10, DeviceType.CUDA: 30}
IMPORTS = 60


def parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    result = argparse.ArgumentParser("nox -s bench --", description=__doc__, formatter_class=raw, parents=[parent()])
    add = result.add_argument
    default = f"default: {MINUTES[DeviceType.CPU]:g} for each dtype, on a GPU {MINUTES[DeviceType.CUDA]:g}"
    add("--minutes", type=amount, help=f"how long the run may take, beyond a first visit to each job; {default}")
    add("--size", type=parse, nargs="+", action="extend", default=[], help=f"time these sizes: {SPELLING}")
    add("--sweep", type=axis, metavar="H=128,256,512", help="time several values of one size, and plot over them")
    add("--list", action="store_true", help="show what would run, and end")
    add("--impl", type=path_of, nargs="+", action="extend", default=[], help="time implementations in files")
    return result


def benchmark(options: argparse.Namespace) -> int:
    """Run the benchmark, show its tables, and write its results; return the exit status."""
    provenance.at_start("bench")
    device = options.device
    until = time.time() + 60 * minutes(options)
    results = submission.results_of(options.results)
    verify = read(folder_of(results, device), "verify")
    planned = [fitting(job.planned(verify)) for job in choice.jobs(options)]
    if options.list:
        show_plan(planned)
        return 0
    for sentence in about_run(options, planned, verify):
        print(f"{sentence}\n")
    reason = why_no_file(planned)
    if reason:
        raise SystemExit(reason)
    jobs = [job for job in planned if not job.skipped]
    skipped = [row for job in planned if job.skipped for row in job.rows(job.skipped)]
    log = new_log(folder_for(results, device, whole=False).with_suffix(".txt"))
    measured, rates, ended = measure(jobs, log, until)
    result = new_run("bench", device, {"bench": in_order(planned, [*skipped, *measured]), "hardware": rates})
    whole = ended and is_plan(options)
    reason = why_not_kept(result.rows, sum(len(job.rows(Ended())) for job in planned)) if whole else None
    folder = folder_for(results, device, whole=whole and reason is None)
    size = options.sweep[0] if options.sweep else ""
    swept = sweep.sweeps(ranked(result.rows), size) if options.sweep else {}
    show(result, size, swept)
    if reason:
        print(f"\nThe results of this machine stay as they were: {reason}.")
    result.write(folder)
    report.write_machine(folder)
    for name, rows in swept.items():
        write_whole(folder / f"{name}.svg", svg(sweep.plot(rows, size)))
        print(f"\nPlot: {folder / name}.svg")
    print(f"\nResults: {folder}")
    if not ended:
        return 130
    return int(result.rows["status"].isin(WRONG).any())


def about_run(options: argparse.Namespace, planned: Sequence[Job], verify: Run | None) -> list[str]:
    """Sentences about what a run does not time, and about its verification."""
    sentences, files = list[str](), submission.files().values()
    refused = {job.candidate for job in planned if red(verify, job.candidate, job.dtype)}
    if refused:
        verified = " ".join(["nox -s verify", *(["-- --impl"] if files else []), *map(str, files)])
        sentences.append(f"Refused, as verify.csv is red: {', '.join(sorted(refused))}. Run {verified}.")
    elif verify is not None and verify.stale:
        sentences.append("Code has changed since the last verification on this machine: run nox -s verify.")
    incapable = choice.incapable(options)
    if incapable:
        sentences.append(f"Not timed, for what the case has: {', '.join(incapable)}.")
    return sentences


def why_no_file(planned: Sequence[Job]) -> str | None:
    """Sentence about a file of `--impl` that no job of a run times; None if each is timed."""
    for name in submission.files():
        of_file = [job for job in planned if job.candidate == name]
        if all(job.skipped for job in of_file):
            reasons = dict.fromkeys(str(job.skipped) for job in of_file)
            return f"--impl: {name} would not be timed: {'; '.join(reasons) or 'the case has what it lacks'}"
    return None


def in_order(planned: Sequence[Job], rows: Sequence[Row]) -> list[Row]:
    """Rows in the order of the jobs."""
    numbers = {key_of(row): number for number, row in enumerate(row for job in planned for row in job.rows(Ended()))}
    return sorted(rows, key=lambda row: numbers[key_of(row)])


def why_too_large(options: argparse.Namespace) -> str | None:
    """Sentence about a size that would not fit into memory, before anything of it is there; None if all fit."""
    if not (options.size or options.sweep):
        return None
    named = options.dtype or DTYPES[DeviceType(options.device.type)]
    dtypes = [Arithmetic(dtype).dtype for dtype in named]
    limit = most_bytes(options.device)
    for workload in choice.workloads(options):
        for dtype in dtypes:
            lacking = shortage(ROUNDS_AS_NAIVE, workload.case, dtype, limit, training=workload.case.training)
            if lacking:
                return f"--size: {workload.name}: {lacking}"
    return None


def fitting(job: Job) -> Job:
    """A job at a size that is named, which does not run if the candidate needs more memory than the comparison."""
    if not job.workload.of_size or job.skipped or job.candidate not in names():
        return job
    limit = most_bytes(job.device)
    lacking = shortage(job.candidate, job.case, job.torch_dtype, limit, training=job.case.training)
    return replace(job, skipped=Ended(Status.TOO_LARGE, lacking)) if lacking else job


def measure(jobs: Sequence[Job], log: Path, until: float) -> tuple[list[Row], list[Row], bool]:
    """Visit jobs until the time is up; return rows, rates of the hardware, and whether it was not interrupted."""
    if not jobs:
        return [], [], True
    device = jobs[0].device
    compile_kernels(jobs, device)
    share = other_processes.share_now()
    if share > other_processes.BUSY:
        print(
            f"This machine is busy: other processes have {share:.0%} of its cores. Visits beside more than "
            f"{other_processes.BUSY:.0%} are repeated, and rows that meet nothing else are marked.\n"
        )
    rates = list[Row]()
    with tempfile.TemporaryDirectory() as scratch, Server(log, Path(scratch), device=DeviceType(device.type)) as server:
        here = Revision(server)
        ended = False
        try:
            for of_dtype in hardware.jobs(device, {job.dtype for job in jobs}):
                best = rates_of(server, of_dtype)
                if best:
                    rates.append(best)
            run([here], jobs, until, by_result, latest_of(jobs, until))
            ended = True
        except KeyboardInterrupt:
            print("\nInterrupted: the results have the rows of the visits that ended.")
    ceilings = {row["dtype"]: row for row in rates}
    return believed(here.summary(), ceilings), rates, ended


def latest_of(jobs: Sequence[Job], until: float) -> float:
    """Print how long a first visit to all jobs takes, and return the time after which none starts."""
    device = DeviceType(jobs[0].device.type)
    now = time.time()
    latest = max(until, now + IMPORTS + MOST[device] * len(jobs))
    first = f"A first visit to each takes about {len(jobs) * USUAL[device] / 60:.1f} minutes"
    print(f"{len(jobs)} jobs. {first}; the last one starts within {(latest - now) / 60:.1f} minutes.\n")
    return latest


def rates_of(server: Server, job: Job) -> Row:
    """The best rates of the hardware of some visits, one beside a quiet machine; without any if these failed."""
    best: Row = {}
    for _ in range(REPEATED):
        share = other_processes.share_since(server.cpu_s)
        for row in server.visit(job, hardware.rows):
            faster = not best or row["multiply_adds_per_s"] > best["multiply_adds_per_s"]
            copied = max(row["bytes_per_s"], best.get("bytes_per_s", 0.0))
            best = (row if faster else best) | {"bytes_per_s": copied}
        if share(server.cpu_s) <= other_processes.BUSY:
            break
    return best


def compile_kernels(jobs: Sequence[Job], device: torch.device) -> None:
    """Compile kernels ahead of time, on all cores."""
    passes = []
    for job in jobs:
        if job.candidate == TRITON:
            for case, step in product(job.cases, job.workload.passes):
                passes.append((replace(case, training=step is Pass.TRAIN), job.dtype, None))
    precompile(passes, device)


def show(result: Run, size: str, swept: Mapping[str, pd.DataFrame]) -> None:
    """Print the tables of a run, or of sweeps over a size one for all its values; and the summary."""
    rows = ranked(result.rows)
    for name, reason in unable(result.rows):
        print(f"\n{name} was not timed: {reason}")
    for of_sweep in swept.values():
        text.show(sweep.table(of_sweep, size), sweep.title(of_sweep, size))
        print("", *sweep.growth(of_sweep, size), sep="\n")
    for place in places(rows) if not swept else ():
        text.show(terminal_table(place), heading(place.iloc[0]))
    print()
    wrong = result.rows["status"].isin(WRONG).sum()
    if wrong:
        print(f"{wrong} of {len(result.rows)} rows went wrong; the page says how.")
    print("\n".join([*summary(rows, result.device), *about_files(rows)]))


def show_plan(planned: Sequence[Job]) -> None:
    """Print the jobs, and why some would not run."""
    width = max([NAME, *(len(job.label) for job in planned)])
    for job in planned:
        norms = " and ".join(NORM[norm] for norm in job.layer_norms)
        print(f"{job.label:{width}} layer norm {norms:10} {job.skipped or ''}".rstrip())
    would_run = sum(not job.skipped for job in planned)
    print(f"\n{would_run} of {len(planned)} jobs would run.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit 1 if anything was refused or failed, other than by running out of memory."""
    commands = parser()
    options = commands.parse_args(arguments)
    reason = machine.why_missing(options.device)
    if reason:
        commands.error(reason)
    if (options.size or options.sweep) and (options.workload or options.full):
        commands.error("--size and --sweep: expected no --workload and no --full beside them, as they name the sizes")
    try:
        too_large = why_too_large(options)
    except SizeError as error:
        commands.error(f"--sweep: {error}")
    if too_large:
        commands.error(too_large)
    return benchmark(with_submitted(options) if options.impl else options)


if __name__ == "__main__":
    sys.exit(main())
