"""`nox -s study`: memory, scaling, threads, peers and training on text, each job in a process of its own."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch

from impls import registry
from suite import report
from suite.measure.jobs import Job, run
from suite.measure.load import Others, at_first, warning
from suite.measure.options import memory_limit, parent
from suite.shared.arithmetic import dtype_of, why_not
from suite.shared.candidates import LABML, Candidate, candidates, find
from suite.shared.cases import OF_ONE_LENGTH, Case
from suite.shared.process import Row
from suite.shared.results import ResultsError
from suite.shared.rows import folder_of, table

#: By name, which is also the name of its page: a module with `jobs(options)` and `rows(job)`.
STUDIES: Mapping[str, ModuleType] = {
    name: import_module(f"suite.measure.{name}") for name in ("memory", "scaling", "threads", "peers", "text")
}


def _study(name: str) -> str:
    if name not in STUDIES:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(STUDIES)}; got {name!r}")
    return name


def parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    result = argparse.ArgumentParser(prog="nox -s study --", description=__doc__, parents=[parent()])
    add = result.add_argument
    add("studies", nargs="*", type=_study, metavar="STUDY", help=f"{', '.join(STUDIES)}; default: all")
    add("--workload", choices=OF_ONE_LENGTH, default="medium", help="default: medium")
    add(
        "--layer-norm",
        choices=("off", "on", "both", "default"),
        default="default",
        help="default: off, and what labml is compared with on",
    )
    add("--T", type=int, help="memory: steps of the ledger; default: the workload's")
    add("--memory", type=float, default=0.25, help="memory: GiB that the longest T is to fit in; default: 0.25")
    add("--seconds", type=float, default=12, help="text: how long each model trains; default: 12")
    add("--time-limit", type=float, default=180, help="seconds that a row may take; default: 180")
    return result


class Options(argparse.Namespace):
    """The arguments, and what follows from them."""

    @property
    def layer_norms(self) -> tuple[bool, ...]:
        """Whether to study the form without layer norm, that with it, or both."""
        return {"off": (False,), "on": (True,)}.get(self.layer_norm, (False, True))

    def jobs(self, table: str, case: Case) -> list[Job]:
        """Return a job of a study for each candidate that runs, in each dtype, without layer norm and with it."""
        return [
            Job(table, candidate.name, (candidate.name,), replace(case, layer_norm=norm), dtype, self.device)
            for dtype in self.dtype
            for norm in self.layer_norms
            for candidate in self.chosen(norm, dtype)
        ]

    def chosen(self, layer_norm: bool, dtype: str) -> list[Candidate]:
        """Candidates that run, with layer norm or without.

        By default what compiles for each size is left out, and only labml's module and the fastest implementation are
        studied with layer norm.
        """
        wanted = self.implementation or [s.name for s in candidates() if not s.compiles_each_size]
        if self.layer_norm == "default" and layer_norm:
            compared = (registry.resolve("auto", torch.device(self.device), dtype_of(dtype)).name, LABML.name)
            wanted = [name for name in wanted if name in compared]
        return self.able(wanted, layer_norm, dtype)

    def able(self, wanted: Sequence[str], layer_norm: bool, dtype: str) -> list[Candidate]:
        """Candidates of these names that run, with layer norm or without."""
        device, torch_dtype = torch.device(self.device), dtype_of(dtype)
        if why_not(dtype, device) is not None:
            return []
        able = [s for s in map(find, wanted) if layer_norm in s.layer_norms]
        return [s for s in able if s.why_unavailable(device, torch_dtype) is None]


def study(name: str, options: Options) -> bool:
    """Do one study and leave its rows; return whether every job reached its end."""
    folder = folder_of(options.results, torch.device(options.device))
    module, whole = STUDIES[name], True
    for job in module.jobs(options):
        job = replace(job, memory_limit=memory_limit(options), time_limit=options.time_limit)
        others = Others()
        rows = done(job, folder / "raw" / "study.txt")
        taken = others.taken(job.torch_device)
        table(name).put(folder, [row | {"taken_cores": taken} for row in rows], job.torch_device)
        failures = sorted({str(row["status"]) for row in rows if row["status"] not in ("ok", "out of memory")})
        whole = whole and not failures
        print(f"{job.label}: {', '.join(failures) or f'{len(rows)} rows'}", flush=True)
    return whole


def done(job: Job, log: Path) -> list[Row]:
    """Do a job in a process of its own and return its rows; if it did not reach its end, the last one says why."""
    rows, ended = run(job, "suite.measure.study_step", log=log)
    return rows if ended == "ok" else [*rows, job.row("end", job.candidate, status=ended)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the studies asked for; exit 1 if a job was refused, failed or ran out of time, 2 if there is no result."""
    options = parser().parse_args(arguments, Options())
    names = options.studies or list(STUDIES)
    if said := warning(at_first(torch.device(options.device))):
        print(said, flush=True)
    try:
        whole = [study(name, options) for name in names]
        print(f"Report: {report.write_tables(options.results)}")
        folder = folder_of(options.results, torch.device(options.device))
    except ResultsError as error:
        print(f"study: {error}", file=sys.stderr)
        return 2
    for name in names:
        print(f"{name}: {folder / name}.md")
    return 0 if all(whole) else 1


if __name__ == "__main__":
    sys.exit(main())
