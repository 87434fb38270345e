"""`nox -s study`: memory, scaling, payback and training on text, each task of a study in a process of its own."""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import torch
from rich.console import Console

from impls import names, registry
from suite import report
from suite.bench import memory_limit
from suite.shared import machine
from suite.shared.arithmetic import ARITHMETICS, dtype_of, why_not
from suite.shared.cases import WORKLOADS
from suite.shared.results import RESULTS
from suite.shared.rows import table
from suite.shared.subjects import LABML, Subject, find, subjects
from suite.studies import memory as study_memory
from suite.studies import payback as study_payback
from suite.studies import scaling as study_scaling
from suite.studies import text as study_text
from suite.studies.tasks import run

#: By name, which is also the name of its page: a module with `tasks(options)` and `rows(task)`.
STUDIES: Mapping[str, ModuleType] = {
    "memory": study_memory,
    "scaling": study_scaling,
    "payback": study_payback,
    "text": study_text,
}


def _study(name: str) -> str:
    if name not in STUDIES:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(STUDIES)}; got {name!r}")
    return name


def parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    result = argparse.ArgumentParser(prog="nox -s study --", description=__doc__)
    add = result.add_argument
    everything = [subject.name for subject in subjects()]
    add("studies", nargs="*", type=_study, metavar="STUDY", help=f"{', '.join(STUDIES)}; default: all")
    add("--workload", choices=WORKLOADS, default="medium", help="default: medium")
    add("--implementation", nargs="+", choices=everything, help="default: all but what compiles for minutes")
    add(
        "--layer-norm",
        choices=("off", "on", "both", "default"),
        default="default",
        help="default: off, and what labml is compared with on",
    )
    add("--dtype", nargs="+", choices=ARITHMETICS, default=["float32"])
    add("--device", default=str(machine.default_device()), help="default: CUDA if there is one, else the CPU")
    add("--T", type=int, help="memory: steps of the ledger; default: the workload's")
    add("--memory", type=float, default=0.25, help="memory: GiB that the longest T is to fit in; default: 0.25")
    add("--seconds", type=float, default=12, help="text: how long each model trains; default: 12")
    add("--time-limit", type=float, default=180, help="seconds a process may take; default: 180")
    add("--memory-limit", type=float, default=None, help="GiB a process may take; default: 60 %% of what there is")
    add("--results", type=Path, default=RESULTS, help="folder with a folder for each machine")
    return result


class Options(argparse.Namespace):
    """The arguments, and what follows from them."""

    @property
    def layer_norms(self) -> tuple[bool, ...]:
        """Whether to study the form without layer norm, that with it, or both."""
        return {"off": (False,), "on": (True,)}.get(self.layer_norm, (False, True))

    def chosen(self, layer_norm: bool, dtype: str, compiling: bool = False) -> list[Subject]:
        """Return the subjects that run, with layer norm or without.

        compiling: those too that compile for each size. By default only labml's module and the fastest implementation
        are studied with layer norm.
        """
        device, torch_dtype = torch.device(self.device), dtype_of(dtype)
        if why_not(dtype, device) is not None:
            return []
        wanted = self.implementation or [s.name for s in subjects() if compiling or not _compiles(s.name)]
        if self.layer_norm == "default" and layer_norm:
            compared = (registry.resolve("auto", device, torch_dtype).name, LABML.name)
            wanted = [name for name in wanted if name in compared]
        able = [s for s in map(find, wanted) if layer_norm in s.layer_norms]
        return [s for s in able if s.why_unavailable(device, torch_dtype) is None]


def _compiles(name: str) -> bool:
    return name in names() and registry.find(name).compiles_each_size


def study(name: str, options: Options, console: Console) -> bool:
    """Do one study and leave its rows; return whether every task reached its end."""
    folder = options.results / machine.slug(torch.device(options.device))
    module, whole = STUDIES[name], True
    for task in module.tasks(options):
        with tempfile.TemporaryDirectory() as fresh:
            environment = module.environment(Path(fresh)) if hasattr(module, "environment") else {}
            task = replace(task, memory_limit=memory_limit(options))
            rows = run(task, options.time_limit, folder / "raw" / "study.txt", environment)
        table(name).put(folder, rows, task.torch_device)
        failures = sorted({str(row["status"]) for row in rows if row["status"] not in ("ok", "out of memory")})
        whole = whole and not failures
        console.print(f"{task.label}: {', '.join(failures) or f'{len(rows)} rows'}", soft_wrap=True, highlight=False)
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the studies asked for; exit 1 if a task was refused, failed or ran out of time."""
    options = parser().parse_args(arguments, Options())
    console = Console()
    whole = [study(name, options, console) for name in options.studies or STUDIES]
    console.print(f"Report: {report.write_tables(options.results)}", soft_wrap=True, highlight=False)
    for name in options.studies or STUDIES:
        path = options.results / machine.slug(torch.device(options.device)) / f"{name}.md"
        console.print(f"{name}: {path}", soft_wrap=True, highlight=False)
    return 0 if all(whole) else 1


if __name__ == "__main__":
    sys.exit(main())
