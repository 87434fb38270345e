"""`nox -s bench`: time the implementations against `torch.nn.LSTM`, within minutes.

    nox -s bench                               the defaults: about 5 minutes, or 16 on a GPU, for each --dtype
    nox -s bench -- --list                     what would run
    nox -s bench -- --workload medium --implementation batched compiled --dtype float32 bfloat16
    nox -s bench -- --full --minutes 60        the paper's T and B, which a run without a GPU shortens
    nox -s bench -- --impl mine.py             an implementation in a file, for 2 minutes; its results are beside it
    nox -s bench -- --size H512-L2-norm --minutes 1     your sizes; what is left out is as in the workload medium
    nox -s bench -- --sweep H=128,256,512,1024          how cost grows along one size, of medium or of a --size

A run ends with tables and a summary; suite/measure/README.md says how it measures.
"""

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from impls import names
from suite import report
from suite.bench_compare import same_twice
from suite.candidates import submission
from suite.candidates.names import BASELINE
from suite.cases.case import Case
from suite.cases.spelling import SPELLING, Axis, SizeError, axis, parse
from suite.cases.workloads import WORKLOADS, Pass
from suite.checks.kernels import TRITON
from suite.checks.kernels.compiled import Way, precompile
from suite.comparison.memory import Shortage, memory_of, most_bytes, shortage
from suite.measure import choice, hardware, roofline
from suite.measure.choice import MINUTES, Pair, amount, by_default, minutes, parent, with_submitted
from suite.measure.job import Job
from suite.measure.others import BUSY, Others, share_now
from suite.measure.runner import NAME, REPEATED, Side, rests_on, run
from suite.measure.server import Server, new_log
from suite.measure.work import ROUNDS_AS_NAIVE
from suite.pages import bench as pages_of_bench
from suite.pages import sizes as pages_of_sizes
from suite.pages.bench_tables import terminal_table
from suite.pages.benchmark import NORM, Benchmark
from suite.pages.headline import in_words, summary
from suite.pages.markdown import TERMINAL
from suite.results import provenance
from suite.results.format import ratio_text
from suite.results.names import TableName
from suite.results.statistics import FEWEST
from suite.results.status import WRONG, Ended, Status
from suite.results.tables import TABLES, Row, Table, folder_of
from suite.shared import machine
from suite.shared.arithmetic import Arithmetic
from suite.shared.devices import DeviceType
from suite.shared.files import ResultsError, path_of

#: Times as long as alone that the baseline may take beside a file.
SLOWED = 1.5


def parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    result = argparse.ArgumentParser("nox -s bench --", description=__doc__, formatter_class=raw, parents=[parent()])
    add = result.add_argument
    result.set_defaults(dtype=None)
    add("--workload", nargs="+", choices=WORKLOADS, help=f"default: {', '.join(by_default('cpu'))}")
    default = f"default: {MINUTES[DeviceType.CPU]:g} for each dtype, on a GPU {MINUTES[DeviceType.CUDA]:g}"
    add("--minutes", type=amount, help=f"how long the run may take, once every job was visited; {default}")
    add("--size", type=parse, nargs="+", action="extend", default=[], help=f"time these sizes: {SPELLING}")
    add("--sweep", type=axis, metavar="H=128,256,512", help="time several values of one size, and plot over them")
    add("--full", action="store_true", help="the paper's T and B, which a run without a GPU shortens")
    add("--list", action="store_true", help="show what would run, and end")
    add("--impl", type=path_of, nargs="+", action="extend", default=[], help="time implementations in files")
    return result


def benchmark(options: argparse.Namespace) -> int:
    """Run the benchmark, and put its rows into the results; return the exit status."""
    device = options.device
    until = time.time() + 60 * minutes(options)
    folder = folder_of(submission.results_of(options.results), device)
    table = TABLES[TableName.SIZES] if choice.names_sizes(options) else TABLES[TableName.BENCH]
    verify = TABLES[TableName.VERIFY].read(folder)
    planned = [fitting(job.planned(verify)) for job in choice.jobs(options)]
    if options.list:
        show_plan(planned)
        return 0
    if any(job.skipped and job.skipped.refused for job in planned):
        print("Refused, as verify.csv is red or stale: run nox -s verify.\n")
    sentence = about_untimed(choice.incapable(options), choice.left_out(options, planned))
    if sentence:
        print(f"{sentence}\n")
    jobs = list[Job]()
    skipped = list[Row]()
    for job in planned:
        if job.skipped:
            skipped += job.rows(job.skipped)
        else:
            jobs.append(job)
    before = same_code(TABLES[TableName.BENCH].read(folder))
    table.put(folder, skipped, device)
    rows = measure(jobs, folder, until, table) if jobs else []
    if table.of_project:
        same_twice(folder, before, rows, device)
    return int(conclude(folder, planned, table, options.sweep))


def about_untimed(incapable: Sequence[Pair], left_out: Sequence[Pair]) -> str | None:
    """Sentence that names what a run does not time; None if that is nothing."""
    if incapable:
        lacking = [f"{pair.candidate} on {pair.workload}" for pair in incapable]
        return f"Not timed, for what the case has: {', '.join(lacking)}."
    workloads = defaultdict[str, list[str]](list)
    for pair in left_out:
        workloads[pair.candidate].append(pair.workload)
    candidates = defaultdict[tuple[str, ...], list[str]](list)
    for candidate, of_candidate in workloads.items():
        candidates[tuple(of_candidate)].append(candidate)
    parts = [f"{' and '.join(names)} on {', '.join(where)}" for where, names in candidates.items()]
    return f"Left out unless asked for: {'; '.join(parts)}." if parts else None


def shortage_here(name: str, case: Case, dtype: torch.dtype, device: torch.device) -> Shortage | None:
    """The shortage of a device's memory for what is timed of a case, None if there is enough."""
    return shortage(name, case, dtype, most_bytes(memory_of(device)), training=case.training)


def why_too_large(options: argparse.Namespace) -> str | None:
    """Sentence about a size that would not fit into memory, before anything of it is there; None if all fit."""
    if not choice.names_sizes(options):
        return None
    dtypes = [Arithmetic(dtype).dtype for dtype in options.dtype or ["float32"]]
    for workload in choice.workloads(options):
        for dtype in dtypes:
            lacking = shortage_here(ROUNDS_AS_NAIVE, workload.case, dtype, options.device)
            if lacking:
                return f"--size: {workload.name}: {lacking}"
    return None


def fitting(job: Job) -> Job:
    """A job at a size that is named, which does not run if the candidate needs more memory than the comparison."""
    if not job.workload.asked_for or job.skipped or job.candidate not in names():
        return job
    lacking = shortage_here(job.candidate, job.case, job.torch_dtype, job.device)
    return replace(job, skipped=Ended(Status.TOO_LARGE, str(lacking))) if lacking else job


def same_code(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the benchmark that this code measured with this torch, on any day."""
    if rows.empty:
        return rows
    of_torch = rows["torch"].astype(str) == torch.__version__
    same: pd.DataFrame = rows[~provenance.stale(TableName.BENCH, rows) & of_torch]
    return same


def measure(jobs: Sequence[Job], folder: Path, until: float, table: Table) -> list[Row]:
    """Visit jobs until the time is up, and put their rows into the results, after an interruption too; return them."""
    device = jobs[0].device
    log = new_log(folder, "log.txt")
    compile_kernels(jobs, device)
    sentence = about_others(share_now())
    if sentence:
        print(f"{sentence}\n")
    with tempfile.TemporaryDirectory() as scratch, Server(log, Path(scratch), device=DeviceType(device.type)) as server:
        rates = list[Row]()
        side = Side(server)
        try:
            for of_dtype in hardware.jobs(device, {job.dtype for job in jobs}):
                best = rates_of(server, of_dtype)
                if best:
                    rates.append(best)
            if table.of_project:
                TABLES[TableName.HARDWARE].put(folder, rates, device)
            run([side], jobs, until, rests_on(is_ours))
        finally:
            ceilings = {row["dtype"]: row for row in rates}
            rows = believed(side.summary(), ceilings, table)
            put(folder, rows, device, table)
    return rows


def about_others(share: float) -> str | None:
    """Sentence that says which share of the cores other processes have; None if that disturbs no visit."""
    if share <= BUSY:
        return None
    return (
        f"This machine is busy: other processes have {share:.0%} of its cores. Visits beside more than {BUSY:.0%} are "
        "repeated, and rows that meet nothing else are marked."
    )


def put(folder: Path, rows: Sequence[Row], device: torch.device, table: Table) -> None:
    """Put the rows of a run into the results; if they cannot be written, show them before that ends the run."""
    try:
        stayed = table.put(folder, rows, device)
    except ResultsError:
        show(pd.DataFrame([row | {"device": device.type} for row in rows]), table)
        raise
    if stayed:
        print(f"\n{stayed} of {len(rows)} rows stay those of an earlier run with over twice the visits.")


def is_ours(job: Job) -> bool:
    """True for our fastest implementation, files of `--impl`, and `torch.nn.LSTM` against itself."""
    return job.candidate in (BASELINE, choice.fastest(job.device, job.dtype), *submission.files())


def rates_of(server: Server, job: Job) -> Row:
    """The best rates of the hardware of some visits, one beside a quiet machine; without any if these failed."""
    best: Row = {}
    for _ in range(REPEATED):
        others = Others(server.cpu_s)
        rows = list[Row]()
        server.visit(job, rows)
        for row in rows:
            faster = not best or row["multiply_adds_per_s"] > best["multiply_adds_per_s"]
            copied = max(row["bytes_per_s"], best.get("bytes_per_s", 0.0))
            best = (row if faster else best) | {"bytes_per_s": copied}
        if others.share(server.cpu_s) <= BUSY:
            break
    return best


def believed(rows: Sequence[Row], ceilings: Mapping[str, Row], table: Table) -> list[Row]:
    """Rows with their shares of the ceilings; those refused that are too fast, or beside which the baseline is slow."""
    of_one_baseline = [*table.setting, "pass"]
    alone = dict[tuple[Any, ...], Row]()
    for row in rows:
        if row["implementation"] == BASELINE:
            beside = tuple(row[column] for column in of_one_baseline)
            alone[beside] = row
    result = []
    for row in rows:
        columns = roofline.share(row, ceilings)
        if row["implementation"] in submission.files():
            beside = tuple(row[column] for column in of_one_baseline)
            reason = baseline_slowed(row, alone.get(beside, {}))
            if reason:
                columns = roofline.without_figures(Ended(Status.REFUSED, reason))
        result.append(row | columns)
    return result


def baseline_slowed(row: Row, alone: Row) -> str | None:
    """Sentence that says that the baseline of a row took longer than beside itself; None if not, or of few visits."""
    visits = min(row.get("visits") or 0, alone.get("visits") or 0)
    if visits < FEWEST:
        return None
    slower = row["baseline_s"] / alone["median_s"]
    if slower <= SLOWED:
        return None
    return f"beside it {BASELINE} takes {slower:.2g} times as long as beside itself"


def compile_kernels(jobs: Sequence[Job], device: torch.device) -> None:
    """Compile kernels ahead of time, on all cores."""
    ways = []
    for job in jobs:
        if job.candidate == TRITON:
            for case, step in product(job.cases, job.workload.passes):
                ways.append(Way(replace(case, training=step is Pass.TRAIN), job.dtype))
    precompile(ways, device)


def conclude(folder: Path, jobs: Sequence[Job], table: Table, sweep: Axis | None) -> bool:
    """Write the pages and show the tables of these jobs; return True if anything went wrong."""
    rows = table.read(folder)
    if len(rows):
        of_jobs = [row for job in jobs for row in job.rows(Ended())]
        rows = rows.merge(pd.DataFrame(of_jobs, columns=list(table.key)))
    # Of sizes that are named, nothing of the project changes.
    page = pages_of_bench.PAGE if table.of_project else pages_of_sizes.PAGE
    pages = report.PAGES if table.of_project else (page,)
    try:
        report.write_machine(folder, pages)
    except ResultsError:
        show(rows, table)
        raise
    show(rows, table, page.path(folder), sweep)
    return len(rows) > 0 and bool(rows["status"].isin(WRONG).any())


def show(rows: pd.DataFrame, table: Table, page: Path | None = None, sweep: Axis | None = None) -> None:
    """Print the tables of rows of a run, or of a sweep one for all its sizes; the page that has them; the summary."""
    benchmark = Benchmark.of(rows, table)
    for name, reason in benchmark.unable:
        print(f"\n{name} was not timed: {reason}")
    if sweep:
        for over in pages_of_sizes.sweeps(benchmark, [sweep.size]):
            over.view().show(over.title)
            print("", *over.growth(), sep="\n")
            if page and over.grown():
                print(f"\nPlot: {page.with_name(over.name)}.svg")
    else:
        for place in benchmark.places():
            terminal_table(place).show(place.heading)
    print(f"\nTables: {page}" if page else "")
    print(conclusion(rows, table))


def conclusion(rows: pd.DataFrame, table: Table) -> str:
    """Last lines of a run: what went wrong, and the summary."""
    if rows.empty:
        return "No rows."
    lines = []
    wrong = rows["status"].isin(WRONG).sum()
    if wrong:
        lines.append(f"{wrong} of {len(rows)} rows went wrong; the page says how.")
    lines += summary(Benchmark.of(rows, table), TERMINAL)
    lines += about_files(rows, table)
    return "\n".join(lines)


def about_files(rows: pd.DataFrame, table: Table) -> list[str]:
    """How long a training step of each file of `--impl` takes, or why it was not timed, a sentence for each row."""
    sentences = list[str]()
    place = table.place
    trained = rows[rows["pass"] == Pass.TRAIN]
    timed = trained[trained["status"] == Status.OK]
    files = submission.files()
    ours = timed[timed["implementation"].isin(set(names()) - set(files))]
    for _, row in trained[trained["implementation"].isin(files)].iterrows():
        where = f"{row['implementation']} on {in_words(row)}"
        if row["status"] != Status.OK:
            sentences.append(f"{where} has no figure: {Ended.of(row)}.")
            continue
        beside = ours[(ours[place] == row[place]).all(axis=1)]
        others = {BASELINE: 1.0}
        for _, fastest in beside.sort_values("ratio").head(1).iterrows():
            others[fastest["implementation"]] = fastest["ratio"]
        words = [f"{ratio_text(row['ratio'] / ratio)} times as long as one of {name}" for name, ratio in others.items()]
        sentences.append(f"{where}: a training step takes {', and '.join(words)}.")
    return sentences


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
    if choice.names_sizes(options) and (options.workload or options.full):
        commands.error("--size and --sweep: expected no --workload and no --full beside them, as they name the sizes")
    try:
        too_large = why_too_large(options)
    except SizeError as error:
        commands.error(f"--sweep: {error}")
    if too_large:
        commands.error(too_large)
    try:
        return benchmark(with_submitted(options) if options.impl else options)
    except KeyboardInterrupt:
        print("\nInterrupted: the results have the rows of the visits that ended.")
        return 130


if __name__ == "__main__":
    sys.exit(main())
