"""`nox -s study`: how memory, time and training behave beyond the workloads of the benchmark.

    nox -s study                          all studies: each some three minutes on two cores, peers up to eight
    nox -s study -- memory threads        these alone
    nox -s study -- scaling --workload small --implementation batched batched_cpu --dtype bfloat16

| study | what it measures |
| --- | --- |
| memory | what a training step holds, and the longest T that fits in 0.25 GiB |
| scaling | time and memory of a training step against T, B, H, S and Z |
| threads | 1 to all threads, at B 1, 4 and 32 |
| peers | the implementation that `auto` takes against JAX, labml's module, torch.compile and `batched`, at 20 sizes |

Each job is visited in fresh processes, as in the benchmark, and prints a line such as `memory medium plain float32
batched: 12 rows`.

A new study is a table of the groups `study` and `case` in suite/shared/tables.toml, a module of that name in
suite/measure with `jobs(options)`, `rows(job, first)`, which yields rows as they are measured, and VISITS, the number
of visits of each job, and a page of that name in suite/pages.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

from suite import report
from suite.measure.load import warn
from suite.measure.options import parent
from suite.measure.runner import Side, passes
from suite.measure.server import Server
from suite.shared.cases import WORKLOADS
from suite.shared.files import make_folder
from suite.shared.statistics import with_intervals
from suite.shared.tables import TABLES, folder_of

#: By name, which is also that of its table and of its page.
STUDIES: Mapping[str, ModuleType] = {
    name: import_module(f"suite.measure.{name}") for name, table in TABLES.items() if "part" in table.columns
}


def parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    result = argparse.ArgumentParser("nox -s study --", description=__doc__, formatter_class=raw, parents=[parent()])
    add = result.add_argument
    # argparse checks the empty default, too.
    add("studies", nargs="*", choices=[*STUDIES, []], metavar="STUDY", help=f"{', '.join(STUDIES)}; default: all")
    of_one_length = [name for name, case in WORKLOADS.items() if not case.lengths]
    add("--workload", choices=of_one_length, default="medium", help="default: medium")
    return result


def study(name: str, options: argparse.Namespace, server: Server) -> bool:
    """Do a study and put its rows into the results; return whether every job reached its end."""
    module, folder, side, whole = STUDIES[name], folder_of(options.results, options.device), Side(server), True
    for visit in passes([side], module.jobs(options), most=module.VISITS):
        rows = with_intervals(side.rows[visit.job])
        TABLES[name].put(folder, rows, options.device)
        if visit.number == module.VISITS:
            failures = sorted({str(row["status"]) for row in rows if row["status"] not in ("ok", "out of memory")})
            whole = whole and not failures
            print(f"{visit.job.label}: {', '.join(failures) or f'{len(rows)} rows'}", flush=True)
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the studies asked for; exit 1 if a job was refused, failed or ran out of time."""
    options = parser().parse_args(arguments)
    names, folder = options.studies or list(STUDIES), folder_of(options.results, options.device)
    warn(options.device)
    log = make_folder(folder / "raw") / "study.txt"
    try:
        with tempfile.TemporaryDirectory() as scratch, Server(log, Path(scratch), device=options.device.type) as server:
            failed = [name for name in names if not study(name, options, server)]
    except KeyboardInterrupt:
        print("\nInterrupted: rows of the jobs that were visited are kept.")
        return 130
    report.write_machine(folder)
    for name in names:
        print(f"{name}: {folder / name}.md")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
