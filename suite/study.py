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
| text | bits per character of a model with each, after the same training time |

Each job is a process of its own, and prints a line such as `memory medium plain float32 batched: 12 rows`.

A new study is a table of the groups `study` and `case` in suite/shared/rows.toml, a module of that name in
suite/measure with `jobs(options)`, each run in a process, and `rows(job)`, which yields rows as they are measured, and
a page of that name in suite/pages.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

from suite import report
from suite.measure.jobs import Job
from suite.measure.load import warn
from suite.measure.options import parent
from suite.measure.processes import started
from suite.shared.cases import OF_ONE_LENGTH
from suite.shared.process import Row, read_rows
from suite.shared.rows import TABLES, folder_of

#: By name, which is also that of its table and of its page.
STUDIES: Mapping[str, ModuleType] = {
    name: import_module(f"suite.measure.{name}") for name, made in TABLES.items() if "part" in made.columns
}
#: Seconds that a job may take.
LIMIT = 900


def parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    result = argparse.ArgumentParser("nox -s study --", description=__doc__, formatter_class=raw, parents=[parent()])
    add = result.add_argument
    # argparse checks the empty default, too.
    add("studies", nargs="*", choices=[*STUDIES, []], metavar="STUDY", help=f"{', '.join(STUDIES)}; default: all")
    add("--workload", choices=OF_ONE_LENGTH, default="medium", help="default: medium")
    return result


def study(name: str, options: argparse.Namespace) -> bool:
    """Do a study and put down its rows; return whether every job reached its end."""
    folder, whole = folder_of(options.results, options.device), True
    for job in STUDIES[name].jobs(options):
        rows = done(job, folder / "raw" / "study.txt")
        TABLES[name].put(folder, rows, job.device)
        failures = sorted({str(row["status"]) for row in rows if row["status"] not in ("ok", "out of memory")})
        whole = whole and not failures
        print(f"{job.label}: {', '.join(failures) or f'{len(rows)} rows'}", flush=True)
    return whole


def done(job: Job, log: Path, limit: float = LIMIT) -> list[Row]:
    """Do a job in a process of its own and return its rows; if it did not reach its end, the last one says why."""
    with started("suite.measure.study_step", [job], log) as child:
        ended = child.wait(limit)
        rows = read_rows(child.path)
    return rows if ended == "ok" else [*rows, job.row("end", job.candidate, status=ended)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the studies asked for; exit 1 if a job was refused, failed or ran out of time."""
    options = parser().parse_args(arguments)
    names = options.studies or list(STUDIES)
    warn(options.device)
    whole = [study(name, options) for name in names]
    folder = folder_of(options.results, options.device)
    report.write_machine(folder)
    for name in names:
        print(f"{name}: {folder / name}.md")
    return 0 if all(whole) else 1


if __name__ == "__main__":
    sys.exit(main())
