"""Errors and choices of `batched_cuda`, which take no GPU; `test_native.py` runs it on one."""

import re
from collections.abc import Callable
from importlib.util import find_spec
from types import SimpleNamespace
from unittest import mock

import pytest
import torch

from impls import why_unavailable
from impls.batched_cuda import split, why_no_driver
from impls.gradient.chunks import limited, limits
from impls.registry import find, resolve
from suite.checks.triton import TRITON

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed.")
CPU = torch.device("cpu")


def test_chunks_follow_the_memory_of_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    for total in (24 << 30, 80 << 30):
        properties = SimpleNamespace(total_memory=total)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device, result=properties: result)
        with limited("cuda", backward=8):
            assert limits(torch.device("cuda")).backward == 8
        assert total / 200 < limits(torch.device("cuda")).backward < total / 100


@needs_triton
def test_lengths_and_batches_compile_nothing_again() -> None:
    from impls.batched_cuda.backward_kernel import backward_steps
    from impls.batched_cuda.forward_kernel import forward_steps

    for kernel in (forward_steps, backward_steps):
        assert {"B", "members"} <= {parameter.name for parameter in kernel.params}
        constant = {parameter.name for parameter in kernel.params if parameter.is_constexpr}
        assert all(parameter.is_constexpr or parameter.do_not_specialize for parameter in kernel.params)
        assert constant.isdisjoint({"T", "B", "K", "lead", "members"}), kernel.__name__


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
    with pytest.raises(RuntimeError, match=r"expected 132 .*forward_steps .*impl='deferred'"):
        launching.start(refused, 132, {}, CPU)
    refused.__getitem__.return_value.side_effect = RuntimeError("Triton Error [CUDA]: device kernel image is invalid")
    for capability, variable in (((8, 6), "TRITON_PTXAS_PATH"), ((10, 0), "TRITON_PTXAS_BLACKWELL_PATH")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, result=capability: result)
        with pytest.raises(RuntimeError, match=f" {variable} "):
            launching.start(refused, 132, {}, CPU)
    refused.__getitem__.return_value.side_effect = RuntimeError("misaligned address")
    with pytest.raises(RuntimeError, match=r"^misaligned address$"):
        launching.start(refused, 132, {}, CPU)


def test_the_interpreter_has_to_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert why_unavailable(TRITON, CPU) is not None


def test_auto_never_takes_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert find(TRITON).interpreted(CPU)
    assert resolve("auto", CPU, torch.float32).name != TRITON


def _no_driver(patch: pytest.MonkeyPatch) -> None:
    driver = mock.MagicMock()
    type(driver).active = mock.PropertyMock(side_effect=RuntimeError("Failed to find C compiler."))
    patch.setattr("triton.runtime.driver", driver)


def _capability(number: tuple[int, int]) -> Callable[[pytest.MonkeyPatch], object]:
    return lambda patch: patch.setattr(torch.cuda, "get_device_capability", lambda device: number)


#: What a card or its driver is like, and names and numbers of why the implementation does not run there.
CARDS: dict[str, tuple[Callable[[pytest.MonkeyPatch], object], str | None]] = {
    "8.0": (_capability((8, 0)), None),
    "12.1": (_capability((12, 1)), None),
    "7.5": (_capability((7, 5)), r"8\.0 .* 7\.5\."),
    "no Triton": (
        lambda patch: patch.setattr("impls.batched_cuda.find_spec", lambda name: None),
        r'Triton 3\.6 .*pip install "hyperlstm\[cuda\]"',
    ),
    "no driver": (
        _no_driver,
        r"Triton .*: Failed to find C compiler\.",
    ),
}


@needs_triton
@pytest.mark.parametrize("card", CARDS)
def test_says_why_a_card_does_not_run_it(card: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change, reason = CARDS[card]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_arch_list", list)
    _capability((8, 0))(monkeypatch)
    monkeypatch.setattr("triton.runtime.driver", SimpleNamespace(active=SimpleNamespace(utils=None)))
    change(monkeypatch)
    why_no_driver.cache_clear()
    try:
        why = why_unavailable(TRITON, "cuda")
        assert why is None if reason is None else re.search(reason, str(why))
    finally:
        why_no_driver.cache_clear()


def test_the_arithmetic_follows_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    for precision, expected in (("tf32", "tf32"), ("ieee", "float32"), ("tf32", "tf32")):
        monkeypatch.setattr(torch.backends.cuda, "matmul", SimpleNamespace(fp32_precision=precision))
        assert split.arithmetic(torch.float32) == expected
        assert split.arithmetic(torch.bfloat16) == "bfloat16"
