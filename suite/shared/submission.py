"""An implementation in a file outside the project: `--impl path/to/mine.py`.

The file has `run(p, inputs)`, the function of one layer that every implementation is, and maybe `IMPL = Impl(...)`,
which says what it supports; without it, that is every device, dtype and option. Its name is that of the file.
"""

import os
import runpy
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch

import impls.gradient.chunks  # noqa: F401, so that files can import its package by the other name
from impls import Impl, register
from impls.calls import draw as draw_mask
from impls.definition import Inputs, LayerParams, LayerState, dtype_name
from impls.registry import ORACLE, find
from suite.shared import process
from suite.shared.cases import Case
from suite.shared.compare import draw
from suite.shared.files import make_folder, write_whole
from suite.shared.oracle import OUTPUTS, named

#: Seconds that the first calls of all files may take, which may compile them.
LIMIT = 120.0
SMALL = Case(T=3, B=2, I=5, H=7, S=4, Z=2, state="plain")
#: Environment variable with the paths of the files, for the processes that this one starts.
VARIABLE = "HYPERLSTM_IMPL"


class SubmissionError(SystemExit):
    """A file cannot be checked or timed as an implementation; a command ends with this sentence."""


def load(path: Path) -> Impl:
    """Import a file and register its implementation; SubmissionError says what is wrong with it."""
    if not path.is_file() or path.suffix != ".py":
        raise SubmissionError(
            f"--impl {path}: expected a Python file, got {path.name if path.exists() else 'no such file'}."
        )
    # The package by the name that it has once it is installed.
    package = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "impls"}
    sys.modules.update({name.replace("impls", "hyperlstm", 1): module for name, module in package.items()})
    with _traced(path, "it cannot be imported"):
        module = runpy.run_path(str(path), run_name=path.stem)
    run, impl = module.get("run"), module.get("IMPL", Impl(path.stem))
    if not callable(run) or not isinstance(impl, Impl):
        expected = "a function run(p, inputs), and IMPL, if there is one, to be a hyperlstm.Impl"
        raise SubmissionError(f"--impl {path}: expected {expected}, got {run!r} and {impl!r}.")
    try:
        register(replace(impl, name=path.stem, preference=0), run)  # "auto" stays ours
    except (TypeError, ValueError) as error:
        raise SubmissionError(f"--impl {path}: {error}.") from error
    os.environ[VARIABLE] = os.pathsep.join(map(str, (files() | {path.stem: path}).values()))
    return find(path.stem)


@contextmanager
def _traced(path: Path, sentence: str) -> Iterator[None]:
    """Raise SubmissionError for any error, with its traceback from the file on."""
    try:
        yield
    except Exception as error:
        frames = error.__traceback__
        while frames and frames.tb_frame.f_code.co_filename != str(path):
            frames = frames.tb_next
        shown = "".join(traceback.format_exception(type(error), error, frames))
        raise SubmissionError(f"{shown}--impl {path}: {sentence}, see above.") from error


def files() -> dict[str, Path]:
    """Files of the implementations that this process has, or that the one which started it had, by name."""
    return {Path(path).stem: Path(path) for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path}


def inherit() -> list[str]:
    """Register the implementations that the process which started this one has, and return their names."""
    return [load(path).name for path in files().values()]


def results_of(path: Path) -> Path:
    """Folder of an implementation's results, beside its file, which git ignores."""
    folder = make_folder(path.parent / f"{path.stem}-results")
    write_whole(folder / ".gitignore", "*\n")
    return folder


def try_all(paths: Sequence[Path], device: torch.device) -> None:
    """Try the implementations in a process that may crash or hang; SubmissionError says what is wrong."""
    try:
        process.run(__name__, str(device), *map(str, paths), limit=LIMIT)
    except RuntimeError as error:
        output, ended = str(error).partition("\n")[2].rstrip(), error.__cause__
        if isinstance(ended, subprocess.TimeoutExpired):
            how = f"took more than {LIMIT:g} s"
        elif isinstance(ended, subprocess.CalledProcessError) and ended.returncode == 1 and output:
            raise SubmissionError(output) from error
        else:
            how = str(ended).rpartition("' ")[2].rstrip(".")  # without the command
        raise SubmissionError(f"{output}\n--impl {', '.join(map(str, paths))}: its first calls {how}.") from error


def try_out(path: Path, device: torch.device) -> None:
    """Call a file's implementation in each dtype and with its options; SubmissionError says what is wrong, if any."""
    impl = load(path)
    with_options = replace(SMALL, **{option: type(getattr(SMALL, option))(0.5) for option in impl.options})
    for case, dtype in product(dict.fromkeys((SMALL, with_options)), impl.dtypes):
        if impl.why_unavailable(device, dtype) is None:
            with _traced(path, "run(p, inputs) raised this error"):
                wrong = problem(impl, case, dtype, device)
            if wrong:
                raise SubmissionError(f"--impl {path}: run(p, inputs) of {case.id} in {dtype_name(dtype)}: {wrong}.")


def problem(impl: Impl, case: Case, dtype: torch.dtype, device: torch.device) -> str:
    """What is wrong with a call, other than numbers; "" if nothing is."""
    sample = draw(case, 0, dtype, device)
    before = {name: value.clone() for name, value in named(sample).items()}
    p = LayerParams(**{name.removeprefix("layers.0."): value for name, value in sample.params.items()})
    mask = draw_mask(case.recurrent_dropout, (case.T, case.B, case.H), device)
    inputs = Inputs(sample.x, LayerState(*sample.state or ()), mask)
    right_out, right_last = find(ORACLE).run(p, inputs)
    results = impl.run(p, inputs)
    try:
        out, last = results
        values = dict(zip(OUTPUTS, (out, *last), strict=True))
    except (TypeError, ValueError):
        return f"expected out and (h, c, h_hat, c_hat), got {results!r:.100}"
    for (name, value), right in zip(values.items(), (right_out, *right_last), strict=True):
        if _described(value) != _described(right):
            return f"expected {name} {_described(right)}, got {_described(value)}"
    changed = [name for name, value in named(sample).items() if not value.equal(before[name])]
    return f"{' and '.join(changed)} changed, which only their owner may do" if changed else ""


def _described(value: object) -> str:
    if not isinstance(value, torch.Tensor):
        return type(value).__name__
    return f"{list(value.shape)} in {dtype_name(value.dtype)} on {value.device.type}"


if __name__ == "__main__":
    for path in sys.argv[2:]:
        try_out(Path(path), torch.device(sys.argv[1]))
