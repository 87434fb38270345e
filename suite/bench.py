"""`nox -s bench`: time implementations on workloads, each in a process of its own."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console

from suite import report
from suite.checks.kernels.compiled import precompile
from suite.measure import ceilings as hardware
from suite.measure import choice, cost
from suite.measure.jobs import Job
from suite.measure.load import Others, at_first, warning
from suite.measure.options import memory_limit, parent
from suite.measure.plan import WRONG, Planned, plan, rows_of
from suite.measure.processes import run
from suite.measure.progress import display
from suite.pages.bench_tables import answer, bench_view, without_busy
from suite.pages.sheets import Sheet
from suite.shared import process
from suite.shared.candidates import find
from suite.shared.cases import SELECTION, WORKLOADS
from suite.shared.format import count
from suite.shared.results import ResultsError, make_folder
from suite.shared.rows import folder_of, table


def parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    result = argparse.ArgumentParser(prog="nox -s bench --", description=__doc__, parents=[parent()])
    add = result.add_argument
    add("--workload", nargs="+", choices=WORKLOADS, help=f"default: {', '.join(SELECTION)}; more on a GPU")
    add("--layer-norm", choices=("off", "on", "both"), default="both", help="default: both")
    add("--full", action="store_true", help="the paper's T and B, which a run without a GPU shortens")
    usual = f"default: {choice.SHORT_LIMIT}, with --full or on a GPU {choice.LONG_LIMIT}"
    limits = f"{usual}; {choice.COMPILING} more for what compiles for each size"
    add("--time-limit", type=float, help=f"seconds that a row may take; {limits}")
    add(
        "--list",
        action="store_true",
        help="show what would run and for how long, and what the defaults leave out, and end",
    )
    add("--resume", action="store_true", help="skip what has rows of this commit and environment")
    add("--unverified", action="store_true", help="time what verify.csv calls red or stale too, and say so in its rows")
    return result


def jobs(options: argparse.Namespace) -> list[Job]:
    """Jobs to run, in the order of the tables."""
    found: list[Job] = []
    for dtype in options.dtype:
        for case in choice.cases(options):
            for candidate in map(find, options.implementation):
                asked = choice.layer_norms(options, candidate)
                norms = tuple(norm for norm in asked if choice.timed(options, candidate, case, dtype, norm))
                limits: dict[str, Any] = {
                    "memory_limit": memory_limit(options),
                    "time_limit": choice.limit(options, candidate),
                }
                job = Job("bench", candidate.name, (candidate.name,), case, dtype, options.device, norms, **limits)
                found += [job] * bool(norms)
    return found


def measured_ceilings(options: argparse.Namespace, folder: Path, todo: Sequence[Planned]) -> dict[str, dict[str, Any]]:
    """Return the hardware's ceilings by dtype, and keep them among the results, if anything is to be timed."""
    dtypes = [d for d in options.dtype if any(p.runs and p.job.dtype == d for p in todo)]
    if not dtypes:
        return {}
    # In a process of its own, which takes its memory with it.
    rows = process.rows_of("suite.measure.ceilings", options.device, *dtypes, one_thread=False).to_dict("records")
    table("hardware").put(folder, rows, torch.device(options.device))
    return {row["dtype"]: row for row in rows}


def sweep(options: argparse.Namespace) -> int:
    """Run what is planned, keeping the rows of each job as it ends; return the exit status."""
    folder = folder_of(options.results, torch.device(options.device))
    todo = plan(jobs(options), folder, resume=options.resume, unverified=options.unverified)
    if options.list:
        show_plan(todo, choice.left_out(options))
        return 0
    say_refused(todo)
    others = Others()
    if any(p.runs for p in todo) and (said := warning(at_first(torch.device(options.device)))):
        print(said, flush=True)
    log = make_folder(folder / "raw") / "log.txt"
    log.unlink(missing_ok=True)
    done: list[Planned] = []
    try:
        interested = [p.job for p in todo if p.runs and "batched_cuda" in p.job.candidates]
        precompile([(case, job.dtype) for job in interested for case in job.cases], torch.device(options.device))
        ceilings = measured_ceilings(options, folder, todo)
        with display([p.job for p in todo], [p.seconds for p in todo], Console()) as shown:
            for p in todo:
                shown.start(p.job)
                others.cores()
                rows = outcome(p, folder, log)
                if rows:
                    taken = others.taken(p.job.torch_device)
                    rests = {"verify": p.verification.status, "verify_rows": p.verification.rows, "taken_cores": taken}
                    whole = [row | rests | hardware.share(row, ceilings) for row in rows]
                    table("bench").put(folder, whole, p.job.torch_device)
                shown.end(p.job, rows)
                done.append(p)
    except KeyboardInterrupt:
        print(f"\nInterrupted: {len(done)} of {len(todo)} jobs are done and kept; --resume goes on from there.")
    wrong = conclude(options, folder, done)
    return 130 if len(done) < len(todo) else int(wrong)


def conclude(options: argparse.Namespace, folder: Path, done: Sequence[Planned]) -> bool:
    """Make the pages and show the tables of what was done; return whether anything went wrong."""
    whole = report.write_tables(options.results)
    rows = table("bench").read(folder)
    here = pd.concat([pd.DataFrame(), *(rows_of(p.job, rows) for p in done)])
    for title, view in bench_view(here).items():
        view.show(title)
    print(f"\nTables: {folder / 'bench.md'}\nReport: {whole}\n{conclusion(here)}")
    return len(here) > 0 and bool(here["status"].str.startswith(WRONG).any())


def outcome(p: Planned, folder: Path, log: Path) -> list[dict[str, Any]]:
    """Return the rows of a job: by running it, or as labelled beforehand; none where there are rows already."""
    if p.finished:
        return []
    if p.instead is not None:
        return p.job.rows(p.job.cases, p.instead)
    return run(p.job, folder / "raw" / f"{p.job.label.replace(' ', '-')}.json", log)


def say_refused(todo: Sequence[Planned]) -> None:
    """Say once, before the minutes pass, what will be refused and what to do."""
    words = sorted({p.verification.status for p in todo if p.instead is not None and p.instead.startswith("refused")})
    if words:
        said = f"verify.csv is {' and '.join(words)} for some: run nox -s verify first, or add --unverified."
        print(said, flush=True)


def conclusion(rows: pd.DataFrame) -> str:
    """Return the last lines: what went wrong, what other processes slowed, and the answer."""
    if rows.empty:
        return "No rows."
    counted = without_busy(rows)
    wrong, busy = rows["status"].str.startswith(WRONG).sum(), (counted["status"] != rows["status"]).sum()
    marked = f"{busy} of {len(rows)} rows were made while other processes kept cores busy: marked, and not counted."
    lines = [f"{wrong} of {len(rows)} rows went wrong; bench.md says how."] * bool(wrong) + [marked] * bool(busy)
    return "\n".join([*lines, answer(counted).replace("`", "") or "No answer: nothing of ours has trained."])


def show_plan(todo: Sequence[Planned], left_out: Sequence[dict[str, str]]) -> None:
    """Print what would run, for how long as far as that is known, and what is run only if it is asked for."""
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
    runs = [p for p in todo if p.runs]
    earlier = [p.seconds for p in runs if p.seconds is not None and not p.predicted]
    predicted = [p.seconds for p in runs if p.seconds is not None and p.predicted]
    said = [f"{sum(earlier) / 60:.1f} minutes by earlier rows"] * bool(earlier or not predicted)
    if predicted:
        before = cost.before([p.job for p in runs])
        said.append(f"{(sum(predicted) + before) / 60:.1f} minutes by prediction")
    if len(earlier) + len(predicted) < len(runs):
        said.append(f"and {len(runs) - len(earlier) - len(predicted)} that have not run here yet")
    print(f"\n{len(runs)} of {len(todo)} jobs would run: {', '.join(said)}.")
    if left_out:
        print("\nNot run unless asked for:")
    for line in left_out:
        how = f"; {line['dtype']}; layer norm {line['layer norm']}" if "dtype" in line else ""
        print(f"  {line['option']} {line.get('implementation', '')}".rstrip() + f": {line['workload']}{how}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit 1 if anything was refused or failed, which running out of memory or time is not."""
    options = parser().parse_args(arguments)
    choice.choose(options)
    try:
        return sweep(options)
    except ResultsError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
