"""`nox -s study`: how time and memory change beyond the workloads of the benchmark.

    nox -s study                          all sweeps, about three minutes each on two cores, random up to eight
    nox -s study -- threads random        only these
    nox -s study -- T B --workload small --implementation batched batched_cpu --dtype bfloat16

| sweep | what it measures |
| --- | --- |
| T, B, H, S, Z | time and memory of a training step against that size |
| length | memory of a training step at lengths that double, up to 0.25 GiB |
| threads | 1 to all threads, at B 1, 4 and 32 |
| random | the implementation that `auto` takes against JAX, labml's module, torch.compile and `batched`, at 20 sizes |

Each job is visited in fresh processes, as in the benchmark, and prints a line such as `T medium B16 plain float32: 40
rows`.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from suite import report
from suite.measure.choice import parent
from suite.measure.load import warn
from suite.measure.runner import Side, passes
from suite.measure.server import Server, new_log
from suite.measure.sweep import VARIED, jobs
from suite.shared.cases import WORKLOADS
from suite.shared.statistics import with_intervals
from suite.shared.tables import TABLES, folder_of


def parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    result = argparse.ArgumentParser("nox -s study --", description=__doc__, formatter_class=raw, parents=[parent()])
    add = result.add_argument
    # argparse also checks the empty default.
    add("varied", nargs="*", choices=[*VARIED, []], metavar="SWEEP", help=f"{', '.join(VARIED)}; default: all")
    of_one_length = [name for name, case in WORKLOADS.items() if not case.lengths]
    add("--workload", choices=of_one_length, default="medium", help="default: medium")
    return result


def study(varied: str, options: argparse.Namespace, server: Server) -> bool:
    """Run a sweep and put its rows into the results; return True if no job failed."""
    folder, side, whole = folder_of(options.results, options.device), Side(server), True
    for visit in passes([side], jobs(varied, options), most=VARIED[varied]):
        every = with_intervals(row for rows in side.rows.values() for row in rows)
        TABLES["sweep"].put(folder, every, options.device)
        if visit.number == VARIED[varied]:
            rows = side.rows[visit.job]
            failures = sorted({str(row["status"]) for row in rows if row["status"] not in ("ok", "out of memory")})
            whole = whole and not failures
            print(f"{visit.job.label}: {', '.join(failures) or f'{len(rows)} rows'}", flush=True)
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sweeps asked for; exit 1 if a job was refused, failed or ran out of time."""
    options = parser().parse_args(arguments)
    folder = folder_of(options.results, options.device)
    warn(options.device)
    log = new_log(folder, "study.txt")
    try:
        with tempfile.TemporaryDirectory() as scratch, Server(log, Path(scratch), device=options.device.type) as server:
            failed = [varied for varied in options.varied or VARIED if not study(varied, options, server)]
    except KeyboardInterrupt:
        print("\nInterrupted: the results have the rows of the jobs that were visited.")
        return 130
    report.write_machine(folder)
    print(f"Tables: {folder / 'sweep.md'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
