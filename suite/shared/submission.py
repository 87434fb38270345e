"""An implementation in a file outside the project: `--impl path/to/mine.py`.

The file has `run(p, inputs)`, the function of one layer that every implementation is, and maybe `IMPL = Impl(...)`,
which says what it supports; without it, that is every device, dtype and option. Its name is that of the file.
"""

import faulthandler
import os
import runpy
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import impls.gradient.chunks  # noqa: F401, so that files can import its package by the other name
from impls import Impl, register
from impls.registry import find
from suite.shared import process
from suite.shared.cases import Case
from suite.shared.compare import MUTATED, evaluate, implementation
from suite.shared.files import RESULTS, write_whole

#: Seconds that the first calls of all files may take, which may compile them.
LIMIT = 120.0
SMALL = Case(T=3, B=2, I=5, H=7, S=4, Z=2, state="plain")
#: Environment variable with the paths of the files, for the processes that this one starts.
VARIABLE = "HYPERLSTM_IMPL"


def load(path: Path) -> Impl:
    """Import a file and register its implementation; raises what the file or `register` raises."""
    # The package by the name that it has once it is installed.
    package = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "impls"}
    sys.modules.update({name.replace("impls", "hyperlstm", 1): module for name, module in package.items()})
    module: dict[str, Any] = runpy.run_path(str(path), run_name=path.stem)
    impl, run = module.get("IMPL", Impl(path.stem)), module.get("run")
    if isinstance(impl, Impl):
        impl = replace(impl, name=path.stem, preference=0)  # "auto" stays ours
    register(impl, run)  # type: ignore[arg-type]  # which checks both
    os.environ[VARIABLE] = os.pathsep.join(map(str, (files() | {path.stem: path}).values()))
    return find(path.stem)


def files() -> dict[str, Path]:
    """Files of the implementations that this process has, or that the one which started it had, by name."""
    return {Path(path).stem: Path(path) for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path}


def inherit() -> list[str]:
    """Register the implementations that the process which started this one has, and return their names."""
    return [load(path).name for path in files().values()]


def results_of(files: Sequence[Path], asked: Path) -> Path:
    """Folder of results: the one asked for or, by default, one beside the first file, which git ignores."""
    if asked != RESULTS:
        return asked
    folder = files[0].with_name(f"{files[0].stem}-results")
    write_whole(folder / ".gitignore", "*\n")
    return folder


def load_all(paths: Sequence[Path], device: torch.device) -> list[str]:
    """Register implementations, tried before in a process that may crash or hang, and return their names.

    SystemExit says what is wrong with a file.
    """
    try:
        process.run(__name__, str(device), str(LIMIT), *map(str, paths), PYTHONFAULTHANDLER="1")
    except RuntimeError as error:
        output, status = str(error).partition("\n")[2], getattr(error.__cause__, "returncode", None)
        raise SystemExit(f"{output}The trial ended with exit status {status}.") from error
    return [load(path).name for path in paths]


def try_out(impl: Impl, device: torch.device) -> None:
    """Train a step with an implementation and its options in each dtype; raise what is wrong other than numbers."""
    case = replace(SMALL, **{option: type(getattr(SMALL, option))(0.5) for option in impl.options})
    for dtype in impl.dtypes:
        if impl.why_unavailable(device, dtype) is None:
            results = evaluate(implementation(impl.name), case, dtype, device, rounded=dtype, draws=1)
            if changed := [name.removeprefix(MUTATED) for name in results if name.startswith(MUTATED)]:
                raise ValueError(f"run(p, inputs) changed {', '.join(changed)}, which only their owner may do")


def main(device: str, limit: str, *paths: str) -> None:
    """Try files, and name each before; an error, or a call that takes too long, ends with its traceback."""
    faulthandler.dump_traceback_later(float(limit), exit=True)
    for path in paths:
        print(f"--impl {path}", flush=True)
        try:
            try_out(load(Path(path)), torch.device(device))
        except Exception:
            traceback.print_exc(limit=-6)  # without what started this process
            sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
