"""What commands say of a GPU, as nvidia-smi and torch tell of one that is not here."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from suite import bench, bench_compare, run_tests
from suite.checks.triton import native
from suite.shared import machine
from suite.verify import processes

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nvidia-smi is a script for a shell.")
#: By name, a command that takes a device.
COMMANDS: dict[str, Callable[[], object]] = {
    "bench": lambda: bench.main(["--list"]),
    "verify": lambda: run_tests.main(["--testpaths", "suite/shared", "--"]),
    "cuda": lambda: sys.exit(native.main([])),
}
H100 = "NVIDIA H100 80GB HBM3"
OF_TORCH = "The driver is too old."
#: What nvidia-smi does where torch sees no GPU, the variable that hides GPUs, and what commands name.
UNSEEN = {
    "an old driver": (
        f"echo {H100}, 570.86.15",
        None,
        ("CUDA 13.0", H100, "570.86.15", OF_TORCH),
    ),
    "hidden": (
        f"echo {H100}, 580.65.06",
        "",
        (H100, "580.65.06", "CUDA_VISIBLE_DEVICES", OF_TORCH),
    ),
    "no driver": ("exit 9", None, None),
    "no GPU": ("true", None, None),
}


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a nvidia-smi that does as a script says in the place of all other commands."""

    def put(script: str) -> None:
        tool = tmp_path / "nvidia-smi"
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return put


@pytest.mark.parametrize("what", UNSEEN)
def test_no_command_takes_the_cpu_for_a_gpu_that_torch_does_not_see(
    what: str, nvidia_smi: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script, visible, named = UNSEEN[what]
    nvidia_smi(script)

    def init() -> None:
        raise RuntimeError("The driver\nis too old.")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.delenv(machine.VISIBLE, raising=False)
    if visible is not None:
        monkeypatch.setenv(machine.VISIBLE, visible)
    if named is None:
        assert machine.device_of(machine.DEFAULT).type == "cpu"
        assert native.main([]) == 0
        return
    for command in COMMANDS.values():
        with pytest.raises(SystemExit) as ended:
            command()
        assert ended.value.code
        output = "".join(capsys.readouterr())
        assert [name for name in named if name not in output] == []
    assert machine.device_of("cpu").type == "cpu"


@pytest.mark.parametrize(
    ("count", "device", "reason"),
    [
        (0, "cuda", "--device: .*cuda:0"),
        (1, "cuda", "torch has no code for it"),
        (1, "cuda:1", "--device: .*cuda:1"),
    ],
)
def test_a_gpu_that_is_not_here_is_named(
    count: int, device: str, reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    monkeypatch.setattr(machine, "why_no_code", lambda device: "torch has no code for it")
    for command, arguments in ((bench.main, []), (bench_compare.main, ["--base", "HEAD"])):
        with pytest.raises(SystemExit, match=r"^2$"):
            command([*arguments, "--device", device])
        assert re.search(reason, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("mode", "gigabytes", "workers"), [("Exclusive_Process", 80, 0), ("Default", 80, 16), ("Default", 24, 8)]
)
def test_workers_fit_into_a_gpu(
    mode: str, gigabytes: int, workers: int, nvidia_smi: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    nvidia_smi(f'[ "$1" = --id=GPU-1-2 ] && echo {mode}')
    properties = SimpleNamespace(uuid="1-2", total_memory=gigabytes << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 32)
    config: Any = SimpleNamespace(getoption=lambda name: torch.device("cuda", 0))
    assert processes.pytest_xdist_auto_num_workers(config) == workers
