"""Whatever a process does first with an implementation, a plain training step is right afterwards."""

import json
from pathlib import Path

import pytest
import torch

from impls.registry import IMPLS, find
from suite.checks.implementations import skip_unless_checked
from suite.checks.module.capabilities import CAPABILITIES
from suite.checks.module.first_use import PASSED, SKIPPED, SPAWN, USES, Outcomes
from suite.shared import machine, process
from suite.shared.marks import impl_param

#: Those written like the equation keep nothing between calls; those that autograd differentiates hardly do.
NAMES = {
    True: [impl.name for impl in IMPLS if not impl.literal],
    False: [impl.name for impl in IMPLS if impl.hand_written],
}
SLOW = [name for name in NAMES[True] if name not in NAMES[False]]


def pair(name: str, use: str) -> object:
    """An implementation and a use as parameters of a test."""
    marks = [*CAPABILITIES[use].marks] if use in CAPABILITIES else []
    if name in SLOW:
        marks.append(pytest.mark.thorough("a first use"))
    return impl_param(name, use, marks=marks, id=f"{name}-{use.replace(' ', '-')}")


@pytest.fixture(scope="module")
def ended(request: pytest.FixtureRequest, device: torch.device, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """How each use ended, by implementation and use."""
    if machine.exclusive(device):
        pytest.skip(f"{device} takes one process at a time, which is this one.")
    file: Path = tmp_path_factory.mktemp("first") / "ended.json"
    names = [name for name in NAMES[request.config.getoption("--thorough")] if not find(name).interpreted(device)]
    # A forked child must not need threads of its parent; and the parent may count GPUs, but not start CUDA.
    environment = {"OMP_NUM_THREADS": "1", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
    process.run("suite.checks.module.first_use", str(device), str(file), *names, limit=600, **environment)
    rows: Outcomes = json.loads(file.read_text())
    return rows


def check(outcome: str, reason: str) -> None:
    if outcome == SKIPPED:
        pytest.skip(reason)
    assert outcome == PASSED, reason


@pytest.mark.parametrize(("name", "use"), [pair(name, use) for name in NAMES[True] for use in USES])
def test_training_is_right_after_any_first_use(name: str, use: str, device: torch.device, ended: Outcomes) -> None:
    skip_unless_checked(name, device)
    if find(name).interpreted(device):
        pytest.skip(f"{name} would run in Triton's interpreter, whose uses take minutes.")
    check(*ended[name][use])


def test_training_is_right_in_a_spawned_process(ended: Outcomes) -> None:
    check(*ended["auto"][SPAWN])
