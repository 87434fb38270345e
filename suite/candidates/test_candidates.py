"""What is timed is right, has random weights, and says why it is not timed."""

import re
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from suite.candidates.catalogue import candidates, find
from suite.candidates.names import ALTERNATIVES, BASELINE, PADDED
from suite.cases.case import Case
from suite.cases.examples import CPU, TINY
from suite.shared.marks import impl_params

F32 = torch.float32
#: What is built at once for a batch on the CPU.
TIMED = [
    candidate.name
    for candidate in candidates()
    if "cpu" in candidate.devices and candidate.name not in ("compiled", "jax", PADDED)
]


@pytest.mark.parametrize(
    "name", [*impl_params(TIMED), "jax", pytest.param("compiled", marks=pytest.mark.thorough("torch.compile"))]
)
def test_a_candidate_is_built(name: str) -> None:
    candidate = find(name)
    case = Case(T=3, B=2, I=5, H=9, S=6, Z=2, layer_norm=candidate.layer_norms[-1])
    if "state" not in candidate.lacks:
        case = replace(case, state="stacked")
    reason = candidate.why_unavailable(CPU, F32)
    if reason:
        pytest.skip(reason)
    model, again = (candidate.build(case, F32, CPU) for _ in range(2))
    out: Any = model(torch.ones(3, 2, 5))[0]
    assert out.shape == (3, 2, 9)
    # That which is not compared draws its weights as torch does, and not from a seed.
    assert out.equal(again(torch.ones(3, 2, 5))[0]) == candidate.compared
    assert candidate.multiply_adds(case) >= 6 * 4 * 9 * (9 + 5)


def test_compiled_takes_batches_alone() -> None:
    case = Case(T=3, B=2, I=5, H=9, S=6, Z=2)
    with pytest.raises(TypeError, match=r"x: expected .*, got PackedSequence"):
        find("compiled").build(case, F32, CPU)(pack_sequence([torch.ones(2, 5)]))


@pytest.mark.parametrize(
    ("name", "dtype", "reason"),
    [("jax", torch.bfloat16, "bfloat16"), ("batched_cuda", F32, "cuda")],
)
def test_a_candidate_says_why_it_is_not_timed(name: str, dtype: torch.dtype, reason: str) -> None:
    assert reason in str(find(name).why_unavailable(CPU, dtype))


LAYERS = Case(T=3, B=2, I=5, H=9, S=6, Z=2, L=2)


@pytest.mark.parametrize(
    ("case", "taken_by"),
    [
        (LAYERS, {"compiled", "labml"}),
        (replace(LAYERS, L=1), {"compiled", "labml", "jax"}),
        (replace(LAYERS, layer_norm=True, state="stacked"), {"compiled", "labml"}),
        (replace(LAYERS, dropout=0.5), set()),
        (replace(LAYERS, recurrent_dropout=0.5), set()),
        (replace(LAYERS, lengths=(3, 1)), set()),
    ],
    ids=["layers", "one layer", "state", "dropout", "recurrent dropout", "packed"],
)
def test_alternatives_are_timed_on_what_they_compute(case: Case, taken_by: set[str]) -> None:
    assert {name for name in ALTERNATIVES if find(name).takes(case)} == taken_by
    assert find("batched").takes(case)


def test_compiled_takes_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("no\n compiler")

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", fail)
    reason = find("compiled").why_unavailable(CPU, F32)
    assert re.match(r"compiled .*C\+\+.*: no compiler$", str(reason))


@pytest.mark.parametrize(("backend", "able"), [("cpu", False), ("gpu", True), ("tpu", False)])
def test_jax_runs_on_the_device_that_it_sees(backend: str, able: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    jax = pytest.importorskip("jax")
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    reason = find("jax").why_unavailable(torch.device("cuda"), F32)
    assert reason is None if able else re.match("jax .*GPU", str(reason))
    assert find("jax").why_unavailable(CPU, F32) is None
    with pytest.raises(NotImplementedError):
        find("jax").build(TINY, F32, CPU)(torch.zeros(3, 2, TINY.I), tuple(torch.zeros(4)))
    with pytest.raises(TypeError, match=r"^x: expected .*\[T, B, I\]"):
        find("jax").build(TINY, F32, CPU)(torch.zeros(2, 3))


def test_jax_multiplies_as_precisely_as_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    jax = pytest.importorskip("jax")
    for of_torch, precision in (("high", "tensorfloat32"), ("highest", "highest")):
        monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda precision=of_torch: precision)
        find("jax").build(TINY, F32, CPU)
        assert jax.config.jax_default_matmul_precision == precision


@pytest.mark.parametrize(("device", "dtype", "flattened"), [
    ("cuda:1", torch.bfloat16, True), ("cuda:1", torch.float32, False), ("cpu", torch.bfloat16, False),
])  # fmt: skip
def test_the_baseline_in_bfloat16_has_its_weights_in_one_buffer(
    device: str, dtype: torch.dtype, flattened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, init = list[Any](), nn.RNNBase.__init__
    monkeypatch.setattr(nn.RNNBase, "__init__", lambda *args, device, **options: init(*args, **options))  # no GPU here
    monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: True)
    monkeypatch.setattr("torch.backends.cudnn.rnn.get_cudnn_mode", lambda mode: 2)  # which a build for CPUs lacks
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch, "_cudnn_rnn_flatten_weight", lambda *arguments: calls.append(arguments))
    built = find(BASELINE).build(replace(TINY, L=2), dtype, torch.device(device))
    weights = [([*map(id, built.parameters())], 4, TINY.I, 2, TINY.H, 0, 2, False, False)]
    assert [([*map(id, w)], *sizes) for w, *sizes in calls] == (weights if flattened else [])
