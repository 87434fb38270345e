"""`nox -s bench`: time the implementations against `torch.nn.LSTM`, within minutes.

    nox -s bench                               the defaults: about 5 minutes, or 15 on a GPU
    nox -s bench -- --list                     what would run, for how long, and what the defaults leave out
    nox -s bench -- --workload medium --implementation batched compiled --dtype float32 bfloat16
    nox -s bench -- --full --minutes 60        the paper's T and B, which a run without a GPU shortens
    nox -s bench -- --resume                   continue after an interruption, or do what there was no time for

A line is printed for each candidate, with the time left; tables of all workloads come last, such as

    medium, T 50, B 32, float32, layer norm off
    implementation   forward, ms   train, ms   train / LSTM       verdict     MB / LSTM
    batched                 38.7         108   4.96 (4.54-5.31)   slower           1.49
    batched_cpu             7.02        24.8   1.37 (1.33-1.40)   slower           0.60

A ratio is of paired rounds, with its 95 % interval. suite/shared/rows.toml describes all columns, and
suite/measure/README.md how they are measured. A new workload is a `Case` in suite/shared/cases.py, new external code a
`Candidate` in suite/shared/candidates.py.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from suite import report
from suite.checks.kernels.compiled import precompile
from suite.measure import ceilings as hardware
from suite.measure import choice, cost, processes
from suite.measure.jobs import Job
from suite.measure.load import warn
from suite.measure.options import parent
from suite.measure.plan import WRONG, Planned, batches, first_rounds, part, plan, rows_of
from suite.measure.progress import Progress
from suite.measure.work import short
from suite.pages.bench_tables import answer, bench_view, without_busy
from suite.pages.sheets import Sheet
from suite.shared import process
from suite.shared.cases import SELECTION, WORKLOADS
from suite.shared.format import count
from suite.shared.process import Row
from suite.shared.results import make_folder
from suite.shared.rows import TABLES, folder_of

#: More rounds end with the minutes of a run, first rounds at the latest after this share of them.
LATEST = 1.1


def parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    result = argparse.ArgumentParser("nox -s bench --", description=__doc__, formatter_class=raw, parents=[parent()])
    add = result.add_argument
    add("--workload", nargs="+", choices=WORKLOADS, help=f"default: {', '.join(SELECTION)}; more on a GPU")
    usual = "default: {cpu:g}, on a GPU {cuda:g}".format_map(choice.MINUTES)
    add("--minutes", type=float, help=f"how long the run may take; {usual}")
    add("--full", action="store_true", help="the paper's T and B, which a run without a GPU shortens")
    add("--list", action="store_true", help="show what would run and for how long, and what is left out, and end")
    add("--resume", action="store_true", help="skip what has rows of this commit and environment")
    add("--unverified", action="store_true", help="time what verify.csv calls red or stale too, and say so in its rows")
    return result


def sweep(options: argparse.Namespace) -> int:
    """Run what is planned, and put the rows of each job into the results as they come; return the exit status."""
    device, start, done = options.device, time.time(), list[Job]()
    folder = folder_of(options.results, device)
    todo = plan(choice.jobs(options), folder, resume=options.resume, unverified=options.unverified)
    if options.list:
        show_plan(todo, choice.left_out(options), options.minutes)
        return 0
    if refused := {p.verification.status for p in todo if (p.instead or "").startswith("refused")}:
        print(f"Refused, as verify.csv is {' or '.join(sorted(refused))}: run nox -s verify, or give --unverified.\n")
    jobs = [p.job for p in todo if p.runs]
    if jobs:
        warn(device)
    try:
        ceilings = prepared(device, folder, jobs)
        progress = Progress((p.job for p in todo), start + 60 * options.minutes)
        for p, rows in measured(todo, folder, start, options.minutes):
            rests = {"verify": p.verification.status, "verify_rows": p.verification.rows}
            TABLES["bench"].put(folder, [row | rests | hardware.share(row, ceilings) for row in rows], device)
            progress.show(p.job, rows)
            done += [p.job] * (p.job not in done)
    except KeyboardInterrupt:
        print(f"\nInterrupted: {len(done)} of {len(todo)} jobs have their rows; --resume continues from there.")
    wrong = conclude(options, folder, done)
    return 130 if len(done) < len(todo) else int(wrong)


def prepared(device: torch.device, folder: Path, jobs: Sequence[Job]) -> dict[str, Row]:
    """Compile kernels ahead of time, and measure the rates of the hardware, which are returned by dtype."""
    timed = [(case, job.dtype) for job in jobs if job.candidate == "batched_cuda" for case in job.cases]
    steps = [(each, dtype) for case, dtype in timed for each in (case, short(case))]
    wanted = [(replace(case, training=training), dtype) for case, dtype in steps for training in (True, False)]
    precompile(wanted, device)
    if not jobs:
        return {}
    # A process of its own frees their memory.
    dtypes = dict.fromkeys(job.dtype for job in jobs)
    rows = process.rows_of("suite.measure.ceilings", str(device), *dtypes, one_thread=False).to_dict("records")
    TABLES["hardware"].put(folder, rows, device)
    return {row["dtype"]: row for row in rows}


def measured(
    todo: Sequence[Planned], folder: Path, start: float, minutes: float
) -> Iterator[tuple[Planned, Sequence[Row]]]:
    """Yield what is planned with its rows, none if they exist already; again if it had more rounds."""
    planned, left = {p.job: p for p in todo}, batches(todo)
    yield from ((p, [] if p.finished else p.job.rows(str(p.instead))) for p in todo if not p.runs)
    log = make_folder(folder / "raw") / "log.txt"
    log.unlink(missing_ok=True)
    while left:
        seconds, limit = (max(0.0, start + 60 * minutes * share - time.time()) for share in (1.0, LATEST))
        ends = part(left, seconds, limit)
        for job, rows in processes.run([p.job for p in left.pop(0)], ends, limit, log):
            yield planned[job], rows


def conclude(options: argparse.Namespace, folder: Path, done: Sequence[Job]) -> bool:
    """Write the pages and show the tables of what was done; return True if anything went wrong."""
    report.write_machine(folder)
    rows = TABLES["bench"].read(folder)
    here = pd.concat([pd.DataFrame(), *(rows_of(job, rows) for job in done)])
    for title, view in bench_view(here).items():
        view.show(title)
    print(f"\nTables: {folder / 'bench.md'}\n{conclusion(here)}")
    return len(here) > 0 and bool(here["status"].str.startswith(WRONG).any())


def conclusion(rows: pd.DataFrame) -> str:
    """Last lines of a run: what went wrong, what other processes slowed, and the summary."""
    if rows.empty:
        return "No rows."
    counted = without_busy(rows)
    numbers = {
        "went wrong; bench.md says how.": rows["status"].str.startswith(WRONG).sum(),
        "ran out of time: --resume does them.": rows["status"].str.startswith("time-out").sum(),
        "were made while other processes took cores: marked, and in no summary.": (
            counted["status"] != rows["status"]
        ).sum(),
    }
    lines = [f"{n} of {len(rows)} rows {what}" for what, n in numbers.items() if n]
    return "\n".join([*lines, answer(counted).replace("`", "") or "No implementation was timed in training."])


def show_plan(todo: Sequence[Planned], left_out: Sequence[str], minutes: float) -> None:
    """Print what would run, for how long by prediction, and what runs only if it is asked for."""
    lines: list[dict[str, Any]] = [
        {
            "job": p.job.label,
            "layer norm": " and ".join("on" if norm else "off" for norm in p.job.layer_norms),
            "seconds": p.seconds if p.runs else 0,
            "note": p.instead or ("has its rows" if p.finished else ""),
        }
        for p in todo
    ]
    if todo:
        Sheet(lines, {"seconds": count}).show("")
    runs = [p.job for p in todo if p.runs]
    needed = (cost.before(runs) + sum(map(first_rounds, batches(todo)))) / 60
    rest = f"more rounds in the rest of {minutes:g}" if needed < minutes else f"no time for all within {minutes:g}"
    first = f"first rounds in {needed:.1f} minutes, by prediction"
    print(f"\n{len(runs)} of {len(todo)} jobs would run: {first}, and {rest}.")
    if left_out:
        print("\nNot run unless asked for:", *left_out, sep="\n  ")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit 1 if anything was refused or failed, which running out of memory or time is not."""
    options = parser().parse_args(arguments)
    choice.choose(options)
    return sweep(options)


if __name__ == "__main__":
    sys.exit(main())
