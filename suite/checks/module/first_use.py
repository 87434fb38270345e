"""Uses of the module as the first one in a process, which must leave it right for plain training afterwards.

What is made while a module is imported, or kept by a first call, is made inside whatever that call runs under: a
`FakeTensorMode`, inference mode, a default device. An earlier plain call would hide that, so each use runs in a child,
forked from a process that has imported the project and called nothing.

`python -m suite.checks.module.first_use DEVICE FILE NAME ...` writes to FILE, as JSON, how each use of each
implementation ended: a word and, unless it passed, the reason.
"""

import json
import multiprocessing
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

from impls import HyperLSTM, why_unavailable
from impls.registry import UnsupportedError
from suite.checks.module.capabilities import CAPABILITIES, CPU, long_sequence, right
from suite.checks.module.runs import CASE, F32
from suite.comparison.draws import DRAWS, implementation, model_and_draw
from suite.comparison.runs import plain
from suite.comparison.tolerance import reference
from suite.shared.devices import DeviceType
from suite.shared.files import write_whole


def fake(name: str, device: torch.device) -> None:
    """Call a model that was made under a FakeTensorMode."""
    with FakeTensorMode():
        model = implementation(name)(CASE, F32, device)
        x = torch.randn(CASE.T, CASE.B, CASE.I, device=device)
        model(x)[0].sum().backward()


def faked(name: str, device: torch.device) -> None:
    """Call a real model under a FakeTensorMode, which makes its arguments fake."""
    model, sample = model_and_draw(name, CASE, F32, device)
    mode = FakeTensorMode()
    with mode:
        parameters: dict[str, Tensor] = {key: mode.from_tensor(q) for key, q in model.named_parameters()}
        torch.func.functional_call(model, parameters, (mode.from_tensor(sample.x),))


def under(context: Callable[[], AbstractContextManager[object]], name: str, device: torch.device) -> None:
    """Call a model in a context, and go back where there is a gradient."""
    model, sample = model_and_draw(name, CASE, F32, device)
    with context():
        out, _ = model(sample.x)
        if out.requires_grad:
            out.sum().backward()


@contextmanager
def default_dtype() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def anomaly(name: str, device: torch.device) -> None:
    with torch.autograd.detect_anomaly(check_nan=True):
        right(CASE, name, device)


def printed(name: str, device: torch.device) -> None:
    repr(implementation(name)(CASE, F32, device))


def forked(name: str, device: torch.device) -> None:
    """Train in a child of this process first."""
    if device.type != DeviceType.CPU:
        return  # CUDA cannot be used on both sides of a fork
    child = os.fork()
    if child == 0:
        status = 1
        try:
            right(CASE, name, device)
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError(f"the forked child ended with {os.waitstatus_to_exitcode(status)}")


def spawned(name: str, device: torch.device) -> None:
    """Send a model that was never called to a new process, and train there first."""
    model, _ = model_and_draw(name, CASE, F32, CPU)
    child = multiprocessing.get_context("spawn").Process(target=_trained, args=(model, name, str(device)))
    child.start()
    child.join()
    if child.exitcode:
        raise RuntimeError(f"the spawned child ended with {child.exitcode}")


def _trained(model: HyperLSTM, name: str, device: str) -> None:
    sample = model_and_draw(name, CASE, F32, torch.device(device))[1]
    plain(model.to(device), CASE, sample)
    right(CASE, name, torch.device(device))


#: By name, uses that are no capability of the table; and of that all but `long_sequence`, which takes too long.
USES: dict[str, Callable[[str, torch.device], object]] = {
    "a model made under FakeTensorMode": fake,
    "FakeTensorMode": faked,
    "inference_mode": partial(under, torch.inference_mode),
    "no_grad": partial(under, torch.no_grad),
    "a default device": partial(under, partial(torch.device, "meta")),
    "a default dtype": partial(under, default_dtype),
    "detect_anomaly": anomaly,
    "repr": printed,
    "fork": forked,
    **{
        title: capability.attempt for title, capability in CAPABILITIES.items() if capability.check is not long_sequence
    },
}
#: Takes seconds, since the new process imports torch: run with "auto" alone.
SPAWN = "spawn"
#: What torch imports for some of the uses, which takes seconds: once, in the parent of all children.
IMPORTED = ("torch._inductor.compile_fx", "torch.distributed.fsdp", "torch.fx.experimental.symbolic_shapes")
#: How a use ended, and the plain training step after it: a reason is one to skip, or a traceback.
PASSED, SKIPPED, FAILED = "passed", "skipped", "failed"
#: Outcome and reason by implementation and use.
Outcomes = dict[str, dict[str, tuple[str, str]]]


def in_child(use: str, name: str, device: torch.device) -> tuple[str, str]:
    """Run a use and then a plain training step, in a child of this process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "w", encoding="utf-8") as pipe:
            json.dump(_tried(use, name, device), pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        written = pipe.read()
    _, status = os.waitpid(child, 0)
    if status:
        return FAILED, f"the process ended with {os.waitstatus_to_exitcode(status)}"
    outcome, reason = json.loads(written)
    return outcome, reason


def runs_here(name: str, device: torch.device) -> bool:
    """Whether an implementation runs on the device; asked in a child, since the question imports it."""
    child = os.fork()
    if child == 0:
        os._exit(0 if why_unavailable(name, device) is None else 1)
    _, status = os.waitpid(child, 0)
    return status == 0


def _tried(use: str, name: str, device: torch.device) -> tuple[str, str]:
    run = spawned if use == SPAWN else USES[use]
    try:
        run(name, device)
    except (pytest.skip.Exception, UnsupportedError) as reason:
        return SKIPPED, str(reason)
    except BaseException:
        return FAILED, f"{use}:\n{traceback.format_exc()}"
    try:
        right(CASE, name, device)
    except BaseException:
        return FAILED, f"plain training after {use}:\n{traceback.format_exc()}"
    return PASSED, ""


def prepare(device: torch.device) -> None:
    """Import what the uses take, and compute what every child compares with: the parent's pages are the child's.

    No results beside a GPU: a backward pass would start autograd's thread for it, and no child could use it.
    """
    for module in IMPORTED:
        import_module(module)
    if torch.cuda.is_available():
        return
    for dtype in (torch.float64, F32):
        reference("naive", CASE, dtype, device, F32, DRAWS)


def main(device: str, file: str, *names: str) -> None:
    """Try every use with these implementations, where they run."""
    place = torch.device(device)
    # What a compiled operator would do wrong with a fake tensor that was kept.
    warnings.filterwarnings("error", "Accessing the data pointer of FakeTensor")
    prepare(place)
    ended = {name: {use: in_child(use, name, place) for use in USES} for name in names if runs_here(name, place)}
    ended["auto"] = {SPAWN: in_child(SPAWN, "auto", place)}
    write_whole(Path(file), json.dumps(ended))


if __name__ == "__main__":
    main(*sys.argv[1:])
