"""Memory of a pass is counted, and the kernels that ran show whether cuDNN did."""

from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from suite.shared import usage
from suite.shared.examples import CPU


@pytest.mark.parametrize(
    ("kernel", "note"),
    [
        ("void elemWiseRNNcell<float, float, float, (cudnnRNNMode_t)2>(int, int)", "a kernel seen"),
        ("void RNN_blockPersist_fp_LSTM_HMMA<__half, __half, float, 1, 128>(int)", "a kernel seen"),
        ("void LSTM_elementWise_bp1<float, float, float>(int)", "a kernel seen"),
        ("void at::native::(anonymous namespace)::kernel::lstm_cell_forward<float>", "no kernel seen"),
    ],
    ids=["steps", "persistent", "older", "torch's own"],
)
def test_kernels_on_the_gpu_show_whether_cudnn_ran(kernel: str, note: str, monkeypatch: pytest.MonkeyPatch) -> None:
    events = [
        SimpleNamespace(name=partial(str, name), device_type=partial(SimpleNamespace, name=device))
        for name, device in (("aten::_cudnn_rnn", "CPU"), ("sgemm_128x64_tn", "CUDA"), (kernel, "CUDA"))
    ]
    results = SimpleNamespace(profiler=SimpleNamespace(kineto_results=SimpleNamespace(events=lambda: events)))
    ran = list[str]()
    monkeypatch.setattr(usage, "profile", lambda activities: nullcontext(results))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: ran.append(f"synchronize {device}"))
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    assert usage.cudnn(lambda: ran.append("work"), torch.device("cuda", 1)) == f"91002, {note}"
    assert ran == ["work", "synchronize cuda:1"]


def test_peak_memory_counts_what_is_held_at_once() -> None:
    def work() -> None:
        a = torch.ones(1_000_000)
        b = a + a
        del a
        b.add_(1)

    assert 8_000_000 <= usage.peak_bytes(work, CPU) < 8_100_000


def test_saved_memory_counts_what_the_result_holds() -> None:
    x = torch.ones(1_000_000, requires_grad=True)
    assert 4_000_000 <= usage.saved_bytes(lambda: x.exp(), CPU) < 4_100_000
