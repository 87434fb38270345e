"""Errors and choices of `batched_cuda`, which take no GPU; `test_native.py` runs it on one."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch

from impls import why_unavailable
from impls.batched_cuda import split, why_no_driver
from impls.gradient.chunks import limited, limits
from impls.registry import find, resolve
from suite.cases.workloads import WORKLOADS
from suite.checks.triton import TRITON, native, told_card
from suite.checks.triton.ahead import FULL, STEPS
from suite.checks.triton.launched import recorded
from suite.verify import processes

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed.")
CPU = torch.device("cpu")


def test_chunks_follow_the_memory_of_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    for total in (24 << 30, 80 << 30):
        properties = SimpleNamespace(total_memory=total)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device, result=properties: result)
        with limited("cuda", backward=8):
            assert limits(torch.device("cuda")).backward == 8
        assert total / 200 < limits(torch.device("cuda")).backward < total / 100


@pytest.mark.parametrize(
    ("workload", "arithmetic", "forward", "backward"),
    [
        ("small", "float32", 6.3, 7.1),
        ("small", "bfloat16", 3.8, 6.2),
        ("medium", "float32", 8.2, 9.0),
        ("medium", "tf32", 6.9, 7.7),
        ("medium", "bfloat16", 5.3, 6.6),
        ("char-ptb", "float32", 32.3, 35.1),
        ("char-ptb", "bfloat16", 10.6, 18.0),
    ],
)
def test_a_step_on_an_h100_takes_no_longer_by_the_model(
    workload: str, arithmetic: str, forward: float, backward: float
) -> None:
    """Microseconds of the chosen split. They rise with a wrong constant or split; a better one lowers them here too."""
    case = WORKLOADS[workload].case
    sizes = split.Sizes(case.B, 8 * -(-case.H // 8), 8 * -(-case.S // 8), case.Z, False, arithmetic)
    assert split.forward(sizes, split.H100).microseconds == pytest.approx(forward, rel=0.02)
    assert split.backward(sizes, split.H100).microseconds == pytest.approx(backward, rel=0.02)


@needs_triton
def test_a_split_is_chosen_once_for_a_size_and_pass() -> None:
    """Of thousands, in Python."""
    sizes = split.Sizes(B=32, H=256, S=64, Z=4, layer_norm=True, arithmetic="float32")
    split._split.cache_clear()
    for _ in range(3):
        split.forward(sizes, split.H100)
        split.backward(sizes, split.H100)
    assert split._split.cache_info().misses == 2


@needs_triton
def test_lengths_and_batches_compile_nothing_anew() -> None:
    from impls.batched_cuda.backward_kernel import backward_steps
    from impls.batched_cuda.forward_kernel import forward_steps

    for kernel in (forward_steps, backward_steps):
        assert {"B", "members"} <= {parameter.name for parameter in kernel.params}
        constant = {parameter.name for parameter in kernel.params if parameter.is_constexpr}
        assert all(parameter.is_constexpr or parameter.do_not_specialize for parameter in kernel.params)
        assert constant.isdisjoint({"T", "B", "K", "lead", "members"}), kernel.__name__


@needs_triton
def test_the_driver_is_asked_about_a_card_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It takes up to a millisecond."""
    told_card.tell(monkeypatch, tmp_path)
    asked = mock.Mock(wraps=torch.cuda.get_device_properties)
    monkeypatch.setattr(torch.cuda, "get_device_properties", asked)
    split._card.cache_clear()
    cards = [split.Card.of(torch.device("cuda", 0)) for _ in range(3)]
    split._card.cache_clear()
    assert cards == [split.H100] * 3
    asked.assert_called_once()


def test_a_kernel_starts_on_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    launching = pytest.importorskip("impls.batched_cuda.launching")
    current, kernel = mock.MagicMock(), mock.MagicMock(arg_names=("T",))
    monkeypatch.setattr(torch.cuda, "device", current)
    kernel.__getitem__.return_value.side_effect = lambda *_, **__: current.return_value.__exit__.assert_not_called()
    launching.start(kernel, 1, {"T": 3, "B": 2}, torch.device("cuda", 1))
    kernel.__getitem__.return_value.assert_called_once_with(T=3, **launching.OPTIONS)
    current.assert_called_once_with(torch.device("cuda", 1))
    current.return_value.__exit__.assert_called_once()


def test_a_refused_launch_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    launching = pytest.importorskip("impls.batched_cuda.launching")
    refused = mock.MagicMock(__name__="forward_steps", arg_names=())
    refused.__getitem__.return_value.side_effect = RuntimeError("[CUDA]: too many blocks in cooperative launch")
    with pytest.raises(
        RuntimeError, match=r"expected 132 programs of forward_steps to run at a time.* impl='deferred'"
    ):
        launching.start(refused, 132, {}, CPU)
    refused.__getitem__.return_value.side_effect = RuntimeError("Triton Error [CUDA]: device kernel image is invalid")
    for capability, variable in (((8, 6), "TRITON_PTXAS_PATH"), ((10, 0), "TRITON_PTXAS_BLACKWELL_PATH")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, result=capability: result)
        with pytest.raises(RuntimeError, match=f"or set {variable} to the ptxas of a CUDA that the driver knows: "):
            launching.start(refused, 132, {}, CPU)
    refused.__getitem__.return_value.side_effect = RuntimeError("misaligned address")
    with pytest.raises(RuntimeError, match=r"^misaligned address$"):
        launching.start(refused, 132, {}, CPU)


def test_the_interpreter_has_to_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert why_unavailable(TRITON, CPU) == f"{TRITON} runs on cuda, not on cpu."


def test_auto_never_takes_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert find(TRITON).interpreted(CPU)
    assert resolve("auto", CPU, torch.float32).name != TRITON


def _no_driver(patch: pytest.MonkeyPatch) -> None:
    driver = mock.MagicMock()
    type(driver).active = mock.PropertyMock(side_effect=RuntimeError("Failed to find C compiler."))
    patch.setattr("triton.runtime.driver", driver)


#: What a driver says of a card, or how it fails to be built; and what of it is why the implementation does not run.
REASONS: dict[str | None, Callable[[pytest.MonkeyPatch], object]] = {
    "batched_cuda needs compute capability 8.0 or higher; this card has 7.5.": lambda patch: patch.setattr(
        torch.cuda, "get_device_capability", lambda device: (7, 5)
    ),
    'batched_cuda needs Triton 3.6 or newer, which is not installed: pip install "hyperlstm[cuda]" installs it.': (
        lambda patch: patch.setattr("impls.batched_cuda.find_spec", lambda name: None)
    ),
    "Triton cannot build its driver, which takes a C compiler and Python.h: Failed to find C compiler.": _no_driver,
    None: lambda patch: None,
}


@needs_triton
@pytest.mark.parametrize("reason", REASONS)
def test_says_why_a_card_does_not_run_it(reason: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr("triton.runtime.driver", SimpleNamespace(active=SimpleNamespace(utils=None)))
    REASONS[reason](monkeypatch)
    why_no_driver.cache_clear()
    try:
        assert why_unavailable(TRITON, "cuda") == reason
    finally:
        why_no_driver.cache_clear()


@pytest.mark.parametrize("capability", [(8, 0), (9, 0), (10, 0), (12, 1)])
def test_the_capability_of_every_newer_card_suffices(
    capability: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert find(TRITON).why_unsuited(torch.device("cuda"), torch.float32) is None


#: What nvidia-smi does where torch sees no GPU, and the variable that hides GPUs; the status of `nox -s cuda`, and what
#: it says.
UNSEEN = {
    "an old driver": ("echo NVIDIA H100 80GB HBM3, 570.86.15", None, 1, "made for CUDA 13.0, does not see the NVIDIA "
                      "H100 80GB HBM3 with driver 570.86.15. torch says: The driver is too old."),
    "hidden": ("echo NVIDIA H100 80GB HBM3, 580.65.06", "", 1, "H100 80GB HBM3 with driver 580.65.06. "
               "CUDA_VISIBLE_DEVICES is ''. torch says: The driver is too old."),
    "no driver": ("exit 9", None, 0, "batched_cuda runs on cuda, not on cpu."),
    "no card": ("true", None, 0, "batched_cuda runs on cuda, not on cpu."),
}  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="The script is for a shell.")
@pytest.mark.parametrize("what", UNSEEN)
def test_a_card_that_torch_does_not_see_is_a_failure(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    script, visible, status, sentence = UNSEEN[what]
    (tool := tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", mock.Mock(side_effect=RuntimeError("The driver\nis too old.")))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.delenv(native.VISIBLE, raising=False)
    if visible is not None:
        monkeypatch.setenv(native.VISIBLE, visible)
    assert native.main([]) == status
    assert f"{sentence} Not run: kernels as" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="The script is for a shell.")
@pytest.mark.parametrize(("mode", "workers"), [("Exclusive_Process", 0), ("Default", 4)])
def test_a_card_that_takes_one_process_gets_one(
    mode: str, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tool := tmp_path / "nvidia-smi").write_text(f'#!/bin/sh\n[ "$1" = --id=GPU-1-2 ] && echo {mode}\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="1-2"))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    asked: Any = SimpleNamespace(getoption=lambda name: torch.device("cuda", 0))
    assert processes.pytest_xdist_auto_num_workers(asked) == workers


class ToldQueues:
    """Streams and events of a GPU that runs what is queued at once, unless it waits; `_sleep` lasts until a limit.

    waiting: how many calls waited when the last one was queued. limit: calls for which the GPU sleeps.
    """

    def __init__(self, limit: int) -> None:
        self.queues: dict[int, list[Any]] = {}
        self.current, self.limit, self.waiting = 0, limit, 0

    def queue(self, what: Any, stream: int | None = None) -> None:
        """Queue a call, "sleep" or an event that a stream waits for; and run what does not wait."""
        self.queues[self.current if stream is None else stream].append(what)
        self.waiting = sum(queue.count("call") for queue in self.queues.values())
        self.run(awake=self.waiting > self.limit)

    def run(self, awake: bool) -> None:
        """Run the queues up to what waits; awake: the sleep is over."""
        for queue in self.queues.values():  # that of the sleep is the first
            while queue and (queue[0] == "call" or (queue[0] == "sleep" and awake) or getattr(queue[0], "done", False)):
                if queue.pop(0) == "sleep":
                    for event in self.events:
                        event.done = True

    def told(self, patch: pytest.MonkeyPatch) -> None:
        """Patch torch to queue here."""
        self.events = list[SimpleNamespace]()

        def stream(device: torch.device) -> SimpleNamespace:
            number = len(self.queues)
            self.queues[number] = []
            return SimpleNamespace(number=number, wait_event=lambda event: self.queue(event, number))

        def event() -> SimpleNamespace:
            new = SimpleNamespace(done=False, record=lambda: None)
            new.query = lambda: new.done
            self.events.append(new)
            return new

        @contextmanager
        def entered(one: SimpleNamespace) -> Iterator[None]:
            self.current = one.number
            yield

        for name, replacement in {
            "Stream": stream,
            "Event": event,
            "stream": entered,
            "_sleep": lambda clocks: self.queue("sleep"),
            "synchronize": lambda device: self.run(awake=True),
        }.items():
            patch.setattr(torch.cuda, name, replacement)


def test_passes_meet_on_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """All are queued before the first one runs, and the host's queue has room for their launches."""
    (gpu := ToldQueues(limit=2 * native.ROUNDS)).told(monkeypatch)

    def call(n: int) -> int:
        gpu.queue("call")
        return n

    results = native.at_once([partial(call, n) for n in range(2)], CPU)
    assert gpu.waiting == 2 * native.ROUNDS
    assert not any(gpu.queues.values())
    assert results == [[0] * native.ROUNDS, [1] * native.ROUNDS]


def test_passes_that_were_queued_too_slowly_did_not_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    (gpu := ToldQueues(limit=2 * native.ROUNDS - 1)).told(monkeypatch)
    with pytest.raises(AssertionError, match="the host queued for longer"):
        native.at_once([lambda: gpu.queue("call")] * 2, CPU)


@needs_triton
@pytest.mark.parametrize("layer_norm", [False, True], ids=["off", "on"])
def test_a_queue_has_room_for_the_passes(layer_norm: bool) -> None:
    """A GPU takes 1,024 launches of a stream before the host waits; each operator of a pass is at most one."""
    case = replace(FULL[layer_norm], T=STEPS)
    launches, operators = recorded(case, split.H100, "bfloat16")
    assert native.ROUNDS * (len(launches) + len(operators)) < 1000


def test_the_arithmetic_follows_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    for precision, expected in (("tf32", "tf32"), ("ieee", "float32"), ("tf32", "tf32")):
        monkeypatch.setattr(torch.backends.cuda, "matmul", SimpleNamespace(fp32_precision=precision))
        assert split.arithmetic(torch.float32) == expected
        assert split.arithmetic(torch.bfloat16) == "bfloat16"
