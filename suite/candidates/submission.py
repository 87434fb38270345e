"""An implementation in a file outside the project: `--impl path/to/mine.py`.

The file has `run(p, inputs)`, the function of one layer that every implementation is, and maybe `IMPL = Impl(...)`,
which says what it supports; without it, that is every device, dtype and option. Its name is that of the file. It may
import modules beside it, at its top.
"""

import faulthandler
import json
import keyword
import os
import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

import impls.gradient.chunks  # noqa: F401, so that files can import its package by the other name
from impls import Impl, names, register
from impls.definition import dtype_name
from impls.registry import AUTO, find
from suite.candidates.names import ORDER
from suite.cases.case import Case
from suite.comparison.draws import implementation, model_and_draw
from suite.comparison.runs import plain
from suite.comparison.tolerance import evaluate
from suite.shared import process
from suite.shared.files import RESULTS, ROOT, write_whole

#: Seconds that the first calls of all files may take, which may compile them.
LIMIT = 120.0
TRIAL = Case(T=3, B=2, I=5, H=7, S=4, Z=2, state="shared")
#: Environment variable with the files, which `written` writes and `files` reads. It reaches all processes that this one
#: starts: workers of xdist, fork servers, processes of tests.
VARIABLE = "HYPERLSTM_IMPL"
#: The project's own modules, beside which a file may be.
PROJECT = (ROOT / "impls", ROOT / "suite", ROOT / "noxfile.py")
#: What is said about a file that fails.
DECLARES = (
    'A file says what it supports: from hyperlstm import Impl; IMPL = Impl("mine", devices=("cpu",), '
    'dtypes=(torch.float64, torch.float32), options=frozenset({"layer_norm"})). Without it, every dtype and option is '
    "tried."
)


def nothing(_: str) -> None:
    """Check nothing."""


class NotAnImplementationError(ValueError):
    """A file is none of an implementation; the message says why."""


def load(path: Path) -> Impl:
    """Import a file and register its implementation; raises what the file or `register` raises, and the above."""
    if path.suffix != ".py" or not path.is_file():
        raise NotAnImplementationError(f"{path}: expected a Python file; tests of the suite are named before --impl")
    if path.stem in (AUTO, *ORDER, *names()):
        taken = ", ".join(dict.fromkeys((AUTO, *ORDER, *names())))
        raise NotAnImplementationError(f"{path}: expected a name of its own, other than {taken}")
    # The package by the name that it has once it is installed.
    for name, module in [*sys.modules.items()]:
        if name.split(".")[0] == "impls":
            installed = name.replace("impls", "hyperlstm", 1)
            sys.modules[installed] = module
    with importable(path.parent):
        try:
            module = imported(path)
        except ImportError as error:
            if "attempted relative import" not in str(error):
                raise
            how = "import by full names, with the folder of the package in PYTHONPATH"
            raise NotAnImplementationError(f"{path}: is taken by itself, without its package: {how}") from error
    impl = getattr(module, "IMPL", Impl(path.stem))
    run: Any = getattr(module, "run", None)
    if not isinstance(impl, Impl):
        raise NotAnImplementationError(f"{path}: expected IMPL = Impl(...) or none, got {impl!r:.100}")
    if not callable(run):
        raise NotAnImplementationError(f"{path}: expected a function run(p, inputs), got {run!r:.100}")
    register(replace(impl, name=path.stem, preference=0), run)  # "auto" stays ours
    by_name = files() | {path.stem: path}
    os.environ[VARIABLE] = written(by_name.values())
    return find(path.stem)


def imported(path: Path) -> ModuleType:
    """The module of a file, by a name that an operator can have and no other module has.

    torch.compile imports it by that name once more, to read what `run` finds among the file's globals.
    """
    name = re.sub(r"\W", lambda other: f"_{ord(other[0]):x}_", path.stem, flags=re.ASCII)
    if keyword.iskeyword(name) or not name.isidentifier():
        name = f"_{name}"
    while name in sys.modules or ((other := find_spec(name)) and other.origin != str(path)):
        name += "_"
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    exec(compile(path.read_bytes(), path, "exec"), vars(module))
    return module


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Let imports find modules in a folder whose names no others have; an error if another folder's was imported.

    Only here, so that no file in it is ever imported in place of a package that is not installed, such as jax.
    """
    before = siblings()
    ours = [str(folder)] if str(folder) not in sys.path else []
    sys.path.extend(ours)
    try:
        yield
    finally:
        for path in ours:
            sys.path.remove(path)
    for name, file in before.items():
        if file.parent != folder and (folder / file.name).exists():
            why = f"{name} was imported from {file}; take each file alone"
            raise NotAnImplementationError(f"{folder / file.name}: {why}")


def siblings() -> dict[str, Path]:
    """Modules, by name, that were imported from folders of the files: their files, or folders of packages."""
    folders = {file.parent for file in files().values()}
    modules = dict[str, Path]()
    for name, module in [*sys.modules.items()]:
        origin = Path(getattr(module, "__file__", None) or "/")
        path = origin.parent if origin.stem == "__init__" else origin
        if "." in name or path.parent not in folders or path in files().values():
            continue
        if not any(path.is_relative_to(part) for part in PROJECT):
            modules[name] = path
    return modules


def written(paths: Iterable[Path]) -> str:
    """The text of VARIABLE for these files."""
    return json.dumps([str(path) for path in paths])


def files() -> dict[str, Path]:
    """Files of the implementations that this process has, or that the one which started it had, by name."""
    paths = map(Path, json.loads(os.environ.get(VARIABLE) or "[]"))
    return {path.stem: path for path in paths}


def inherit(check: Callable[[str], None] = nothing) -> list[str]:
    """Register the implementations that the process which started this one has, and return their names.

    check: called with the name of each file after it was imported.
    """
    return [impl.name for impl in loaded(files().values(), check)]


def loaded(paths: Iterable[Path], check: Callable[[str], None]) -> list[Impl]:
    """Register the implementations of files, and check after each what it did."""
    impls = list[Impl]()
    for path in paths:
        impls.append(load(path))
        check(path.name)
    return impls


def results_of(asked: Path | None, files: Sequence[Path] = ()) -> Path:
    """Folder of results: the one asked for; by default the project's or, of files, one beside the first.

    Git ignores one beside a file.
    """
    if asked is not None:
        return asked
    if not files:
        return RESULTS
    folder = files[0].with_name(f"{files[0].stem}-results")
    write_whole(folder / ".gitignore", "*\n")
    return folder


def load_all(paths: Sequence[Path], device: torch.device, check: Callable[[str], None] = nothing) -> list[str]:
    """Register implementations, tried before in a process that may crash or hang, and return their names.

    check: as of `inherit`. SystemExit says what is wrong with a file, or that it does not run on the device.
    """
    os.environ.pop(VARIABLE, None)
    with tempfile.TemporaryDirectory() as folder:
        tried = Path(folder) / "tried"
        try:
            process.run(__name__, str(device), str(LIMIT), str(tried), *map(str, paths), PYTHONFAULTHANDLER="1")
        except subprocess.CalledProcessError as error:
            raise SystemExit(f"{error.output}The trial ended with exit status {error.returncode}.") from error
        if not tried.exists():
            raise SystemExit(f"--impl {' '.join(map(str, paths))}: the file ended the process that tried it.")
    impls = loaded(paths, check)
    for path, impl in zip(paths, impls, strict=True):
        reasons = [impl.why_unavailable(device, dtype) for dtype in impl.dtypes]
        if all(reasons):
            raise SystemExit(f"--impl {path}: nothing of it was checked or timed: {reasons[0]}")
    return [impl.name for impl in impls]


def try_out(impl: Impl, device: torch.device) -> None:
    """Train a step with an implementation and its options in each dtype; raise what is wrong other than numbers.

    Where it runs, it also has to run on the meta device, as torch.compile and torch.export have it run.
    """
    options = {option: type(getattr(TRIAL, option))(0.5) for option in impl.options}
    case = replace(TRIAL, **options).fitting(impl.multiples)
    for dtype in impl.dtypes:
        if impl.why_unavailable(device, dtype) is None:
            print(f"a training step in {dtype_name(dtype)} on {device}, {case.id}", flush=True)
            outcome = evaluate(implementation(impl.name), case, dtype, device, rounded=dtype, draws=1)
            if outcome.findings:
                changes = ", ".join(map(str, outcome.findings))
                raise ValueError(f"run(p, inputs): expected no change, {changes}")
            _try_shapes(impl, dtype)


def _try_shapes(impl: Impl, dtype: torch.dtype) -> None:
    """Run an implementation on tensors that have shapes alone; TypeError says what a function with kernels needs."""
    meta = torch.device("meta")
    if not impl.runs_on(meta):
        return
    case = TRIAL.fitting(impl.multiples)
    model, sample = model_and_draw(impl.name, case, dtype, meta)
    try:
        plain(model, case, sample)
    except Exception as error:
        raise TypeError(
            "run(p, inputs) does not run on the meta device, which torch.compile and torch.export need; if it starts "
            f"kernels by itself, as Triton's, make it an operator with hyperlstm.gradient.as_operator: {error}"
        ) from error


def main(device: str, limit: str, tried: str, *paths: str) -> None:
    """Try files, and name each before; an error, or a call that takes too long, ends with its traceback.

    tried: path of a file that is written at the end.
    """
    faulthandler.dump_traceback_later(float(limit), exit=True)
    for path in paths:
        print(f"--impl {path}", flush=True)
        said = f"{path} cannot be imported."
        try:
            impl = load(Path(path))
            said = DECLARES
            try_out(impl, torch.device(device))
        except NotAnImplementationError as error:
            sys.exit(str(error))
        except (Exception, SystemExit):
            traceback.print_exc(limit=-6)  # without what started this process
            sys.exit(said)
    Path(tried).touch()


if __name__ == "__main__":
    main(*sys.argv[1:])
