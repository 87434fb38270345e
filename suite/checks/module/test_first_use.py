"""What a process does first with an implementation leaves it right for plain training.

What is made while a module is imported, or kept by a first call, is made inside the context of that call: a
`FakeTensorMode`, inference mode, a default device. An earlier plain call would hide that, so each use runs in a child,
forked from a process that has imported the project and called nothing.
"""

import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from multiprocessing import forkserver
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

from impls import HyperLSTM
from impls.registry import IMPLS, UnsupportedError, find
from suite.candidates import submission
from suite.checks.implementations import skip_unless_checked
from suite.checks.module.capabilities import CAPABILITIES, CPU, long_sequence, right
from suite.checks.module.runs import CASE, F32
from suite.comparison.draws import implementation, model_and_draw
from suite.comparison.runs import plain
from suite.shared import machine
from suite.shared.devices import DeviceType
from suite.shared.marks import impl_param

#: What torch imports for some of the uses, which takes seconds: once, in the process whose forks the children are.
IMPORTED = ("torch._inductor.compile_fx", "torch.distributed.fsdp", "torch.fx.experimental.symbolic_shapes")


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
    if device.type == DeviceType.CPU:  # CUDA cannot be used on both sides of a fork
        in_new_process("fork", name, device)


def in_new_process(method: str, name: str, device: torch.device) -> None:
    """Send a model that was never called to a new process, and train there first."""
    model, _ = model_and_draw(name, CASE, F32, CPU)
    with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
        pool.submit(trained, model, name, device).result()


def trained(model: HyperLSTM, name: str, device: torch.device) -> None:
    sample = model_and_draw(name, CASE, F32, device)[1]
    plain(model.to(device), CASE, sample)
    right(CASE, name, device)


#: By name, uses beyond the table of capabilities, then every capability but `long_sequence`, which takes too long.
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


def first(use: str, name: str, device: torch.device) -> str:
    """Run a use and then a plain training step; returns a reason to skip both, or ""."""
    submission.inherit()
    # A compiled operator would read from a fake tensor of an earlier call.
    warnings.filterwarnings("error", "Accessing the data pointer of FakeTensor")
    run = partial(in_new_process, SPAWN) if use == SPAWN else USES[use]
    try:
        run(name, device)
    except (UnsupportedError, pytest.skip.Exception) as reason:
        return str(reason)
    right(CASE, name, device)
    return ""


@pytest.fixture(scope="module")
def in_child(device: torch.device) -> Callable[[str, str], None]:
    """A function that runs `first` in a child."""
    if machine.exclusive(device):
        pytest.skip(f"{device} takes one process at a time, which is this one.")
    forkserver.set_forkserver_preload([__name__, *IMPORTED])
    # A forked child must not need threads of its parent; and the parent may count GPUs, but not start CUDA.
    with mock.patch.dict(os.environ, OMP_NUM_THREADS="1", PYTORCH_NVML_BASED_CUDA_CHECK="1"):
        forkserver.ensure_running()

    def run(use: str, name: str) -> None:
        with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as pool:
            reason = pool.submit(first, use, name, device).result()
        if reason:
            pytest.skip(reason)

    return run


def pair(name: str, use: str) -> object:
    """An implementation and a use as parameters of a test."""
    marks = []
    if not find(name).hand_written:  # what autograd differentiates hardly keeps anything between calls
        marks.append(pytest.mark.thorough("a first use"))
    return impl_param(name, use, marks=marks, id=f"{name}-{use.replace(' ', '-')}")


#: Those written like the equation keep nothing between calls.
PAIRS = [pair(impl.name, use) for impl in IMPLS if not impl.literal for use in USES]


@pytest.mark.parametrize(("name", "use"), PAIRS)
def test_training_is_right_after_any_first_use(
    name: str, use: str, device: torch.device, in_child: Callable[[str, str], None]
) -> None:
    skip_unless_checked(name, device)
    if find(name).interpreted(device):
        pytest.skip(f"{name} would run in Triton's interpreter, whose uses take minutes.")
    in_child(use, name)


def test_training_is_right_in_a_spawned_process(in_child: Callable[[str, str], None]) -> None:
    in_child(SPAWN, "auto")
