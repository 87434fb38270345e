"""An implementation in a file outside the project: `--impl path/to/mine.py`.

The file has `run(p, inputs)`, the function of one layer that every implementation is, and maybe `IMPL = Impl(...)`,
which says what it supports; without it, that is every device, dtype and option. Its name is that of the file.
"""

import importlib.util
import os
import signal
import subprocess
import sys
import tomllib
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

import impls
from impls import Impl, register, registry
from impls.definition import Inputs, LayerParams, LayerState, Mask, dtype_name
from impls.registry import find
from suite.shared.cases import Case
from suite.shared.compare import draw
from suite.shared.files import ROOT, make_folder, write_whole

#: Seconds that the first calls of an implementation may take, which may compile it.
LIMIT = 120.0
#: A trial that found what is wrong, and printed it, ends with this status.
WRONG = 3
#: The package's name once it is installed.
INSTALLED = "hyperlstm"
SMALL = Case(T=3, B=2, I=5, H=7, S=4, Z=2, state="plain")
#: Paths of the files whose implementations this process has, and processes that it starts.
VARIABLE = "HYPERLSTM_IMPL"


class SubmissionError(SystemExit):
    """A file cannot be checked or timed as an implementation; a command ends with this sentence."""


def load(path: Path) -> Impl:
    """Import a file and register its implementation; SubmissionError says what is wrong with it."""
    if not path.is_file() or path.suffix != ".py":
        there = "a folder" if path.is_dir() else path.name if path.exists() else "no such file"
        raise SubmissionError(f"--impl {path}: expected a Python file, got {there}.")
    _install()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        first = next((i for i, frame in enumerate(frames) if Path(frame.filename) == path), len(frames))
        lines = [*traceback.format_list(frames[first:]), *traceback.format_exception_only(error)]
        raise SubmissionError(f"{''.join(lines)}--impl {path}: it cannot be imported, see above.") from error
    run, impl = getattr(module, "run", None), getattr(module, "IMPL", Impl(path.stem, "", preference=0))
    if not callable(run):
        raise SubmissionError(f"--impl {path}: expected a function run(p, inputs), got {run!r}.")
    if not isinstance(impl, Impl):
        raise SubmissionError(f"--impl {path}: expected IMPL to be a hyperlstm.Impl, got {impl!r}.")
    try:
        register(replace(impl, name=path.stem, preference=0), run)  # "auto" stays ours
    except (TypeError, ValueError, RuntimeError) as error:
        raise SubmissionError(f"--impl {path}: {error}") from error
    os.environ[VARIABLE] = os.pathsep.join(map(str, [*files().values(), path]))
    return find(path.stem)


def faults(path: Path) -> dict[str, tuple[str, str, str]]:
    """Faults to plant in a file, by name: the tensor that each damages, a text of the file, and its replacement."""
    listed = path.with_suffix(".toml")
    return tomllib.loads(listed.read_text(encoding="utf-8")) if listed.exists() else {}


def files() -> dict[str, Path]:
    """Files of the implementations that this process has, or is to have, by name."""
    return {Path(path).stem: Path(path) for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path}


def inherit() -> list[str]:
    """Register the implementations that the process which started this one has, and return their names."""
    inherited = files()
    os.environ.pop(VARIABLE, None)
    return [load(path).name for path in inherited.values()]


def _install() -> None:
    """Let files import this package by the name that it has once it is installed."""
    import_module(f"{impls.__name__}.gradient.operator")
    modules = {name: module for name, module in sys.modules.items() if name.split(".")[0] == impls.__name__}
    sys.modules.update({name.replace(impls.__name__, INSTALLED, 1): module for name, module in modules.items()})


def try_all(paths: Sequence[Path], device: torch.device) -> None:
    """Call the implementations in a process that may crash or hang; SubmissionError says what is wrong."""
    command = [sys.executable, "-m", __name__, str(device), *map(str, paths)]
    named = " ".join(f"--impl {path}" for path in paths)
    try:
        trial = subprocess.run(command, cwd=ROOT, timeout=LIMIT, stdout=subprocess.PIPE, text=True, check=False)
    except subprocess.TimeoutExpired as error:
        raise SubmissionError(f"{named}: the first calls did not end within {LIMIT:g} s.") from error
    if trial.returncode == WRONG:
        raise SubmissionError(trial.stdout.rstrip())
    if trial.returncode:
        ended = trial.returncode
        how = signal.Signals(-ended).name if ended < 0 else f"status {ended}"
        raise SubmissionError(f"{named}: the process of its first calls ended by {how}.")


def try_out(impl: Impl, device: torch.device) -> None:
    """Call an implementation with each option and in each dtype; SubmissionError says what is wrong but for numbers."""
    for dtype in impl.dtypes:
        for option in ("", *sorted(impl.options)):
            if impl.why_unavailable(device, dtype, [option] if option else []) is None:
                case = replace(SMALL, **{option: type(getattr(SMALL, option))(0.5)} if option else {})
                if wrong := problem(impl, case, dtype, device):
                    where = f"{dtype_name(dtype)}{f' with {option}' if option else ''}"
                    raise SubmissionError(f"--impl {impl.name}: run(p, inputs) in {where}: {wrong}.")


@contextmanager
def withdrawn() -> Iterator[None]:
    """Withdraw afterwards what is registered in a `with` block."""
    before, variable = len(registry.IMPLS), os.environ.get(VARIABLE, "")
    try:
        yield
    finally:
        for impl in registry.IMPLS[before:]:
            del registry._RUNS[impl.name]
        del registry.IMPLS[before:]
        os.environ[VARIABLE] = variable


def problem(impl: Impl, case: Case, dtype: torch.dtype, device: torch.device) -> str | None:
    """What is wrong with a call and its gradient, other than numbers; None if nothing is."""
    params, x, state, _ = draw(case, 0, dtype, device)
    assert state is not None
    values = {"x": x, **dict(zip(LayerState._fields, state, strict=True)), **params}
    before = {name: value.clone() for name, value in values.items()}
    leaves = [value.requires_grad_() for value in values.values()]
    kept = torch.arange(case.T * case.B * case.H, device=device).view(case.T, case.B, case.H) % 2 == 0
    mask = Mask(kept, 2.0) if case.recurrent_dropout else None
    p = LayerParams(**{name.removeprefix("layers.0."): value for name, value in params.items()})
    results: Any = impl.run(p, Inputs(x, LayerState(*state), mask))
    try:
        out, last = results
        returned = dict(zip(("out", *LayerState._fields), (out, *last), strict=True))
    except (TypeError, ValueError):
        return f"expected out and (h, c, h_hat, c_hat), got {results!r:.100}"
    for (name, value), like in zip(returned.items(), (None, *state), strict=True):
        shape = tuple(like.shape) if like is not None else (case.T, case.B, case.H)
        expected = f"{list(shape)} in {dtype_name(dtype)} on {device.type}"
        if not isinstance(value, torch.Tensor):
            return f"expected {name} {expected}, got {type(value).__name__}"
        if (tuple(value.shape), value.dtype, value.device.type) != (shape, dtype, device.type):
            came = f"{list(value.shape)} in {dtype_name(value.dtype)} on {value.device.type}"
            return f"expected {name} {expected}, got {came}"
        if not value.requires_grad:
            return f"expected {name} to have a gradient, as its inputs require one; got none"
    total = torch.stack([value.sum() for value in returned.values()]).sum()
    gradients: Sequence[torch.Tensor | None] = torch.autograd.grad(total, leaves, allow_unused=True)
    for (name, value), gradient in zip(values.items(), gradients, strict=True):
        if not value.equal(before[name]):
            return f"{name} was changed, which only its owner may do"
        if gradient is None:
            return f"expected a gradient of {name.removeprefix('layers.0.')}, got none"
    return None


def results_of(path: Path) -> Path:
    """Folder of an implementation's results, beside its file, which git ignores."""
    folder = make_folder(path.parent / f"{path.stem}-results")
    write_whole(folder / ".gitignore", "*\n")
    return folder


def main(device: str, *paths: str) -> int:
    """Try files, in a process of their own; print what is wrong and return `WRONG`, or 0 if nothing is."""
    try:
        for path in paths:
            try_out(load(Path(path)), torch.device(device))
    except SubmissionError as error:
        print(error)
        return WRONG
    except Exception:
        traceback.print_exc(file=sys.stdout)
        print(f"--impl {path}: run(p, inputs) raised this error, see above.")
        return WRONG
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
