"""batched_cpu for the instruction sets of other processors, which a build for this one lacks: each keeps the rule."""

import platform
import shutil
import subprocess
import sys

import pytest
import torch

from impls import HyperLSTM
from impls.batched_cpu import loading, sets
from impls.definition import dtype_name
from suite.cases.case import Case
from suite.cases.verification import VERIFY_FIRST, WIDE
from suite.checks.cpu.instrumented import instrumented
from suite.comparison.draws import implementation
from suite.comparison.tolerance import compare

CPU, F32, BF16 = torch.device("cpu"), torch.float32, torch.bfloat16
#: Sizes that fill no vector, and panels and tiles with edges.
CASES = (*VERIFY_FIRST, Case(T=3, B=7, I=5, H=37, S=19, Z=3, state="stacked"), WIDE[3])
#: The sets of a wheel that are not the newest processors' alone, and the dtypes that a default run checks.
SETS = {"baseline": sets.DTYPES, "avx2": (F32,)}
thorough = pytest.mark.thorough("batched_cpu: AVX2 in other dtypes than float32")

pytestmark = [pytest.mark.impl(name="batched_cpu"), pytest.mark.usefixtures("built")]


@pytest.mark.parametrize(
    ("instruction_set", "dtype"),
    [
        pytest.param(name, dtype, id=f"{name}-{dtype_name(dtype)}", marks=[] if dtype in default else [thorough])
        for name, default in SETS.items()
        for dtype in sets.DTYPES
    ],
)
def test_an_instruction_set_keeps_the_rule(instruction_set: str, dtype: torch.dtype) -> None:
    with instrumented(dtype, instruction_set):
        for case in CASES:
            worst = compare(implementation("batched_cpu"), case, dtype, CPU)[0]
            assert not worst.wrong, (case.id, worst)


@pytest.mark.parametrize("instruction_set", SETS)
def test_nan_stays_in_its_row(instruction_set: str) -> None:
    """No limit of an exponential takes it for a number."""
    x = torch.randn(2, 3, 5)
    x[0, 1, 0] = torch.nan
    with instrumented(F32, instruction_set):
        out, _ = HyperLSTM(5, 9, 3, 2, 1, impl="batched_cpu")(x)
    assert out[:, 1].isnan().all()
    assert out[:, [0, 2]].isfinite().all()


#: What torch says of a processor, the instruction set for it, and the ways in which it multiplies bfloat16.
PROCESSORS = {
    "no vectors": ("DEFAULT", [], "baseline", ["float32"]),
    "AVX2": ("AVX2", [], "avx2", ["float32"]),
    "ARM": ("SVE256", [], "baseline", ["float32"]),
    "AVX-512": ("AVX512", [], "avx512", ["float32"]),
    "AVX512-BF16": ("AVX512", ["avx512_bf16"], "avx512", ["float32", "avx512_bf16"]),
    "AMX": ("AVX512", ["avx512_bf16", "amx_bf16"], "avx512", ["float32", "avx512_bf16", "amx"]),
    "AMX without AVX512-BF16": ("AVX512", ["amx_bf16"], "avx512", ["float32"]),
}


@pytest.mark.parametrize("processor", PROCESSORS)
def test_what_torch_says_of_the_processor_chooses(processor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch reads ATEN_CPU_CAPABILITY once, so here its answer is replaced."""
    capability, capabilities, chosen, ways = PROCESSORS[processor]
    if (chosen, F32) not in sets.every(platform.machine()):
        pytest.skip(f"{platform.machine()} has no instruction set {chosen}")
    monkeypatch.delenv(sets.WAY_VARIABLE, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(capabilities, True))
    assert sets.ways() == ways
    assert sets.parts(F32) == [(sets.instruction_set(F32), F32)] == [(chosen, F32)]
    of_bfloat16 = [chosen] if ways == ["float32"] else [chosen, "avx512_bf16"]
    assert sets.parts(BF16) == [(name, BF16) for name in of_bfloat16]
    assert sets.instruction_set(BF16) == of_bfloat16[-1]


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("nm") is None, reason="It takes Linux and nm.")
@pytest.mark.parametrize("dtype", [torch.float64, F32], ids=dtype_name)
def test_a_library_for_use_calls_nothing_slow(dtype: torch.dtype) -> None:
    """No function of the C library for numbers, which takes one at a time, and none that starts a thread."""
    command = ["nm", "--dynamic", "--undefined-only", str(loading.library(dtype).path)]
    called = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    names = {line.split()[-1].partition("@")[0] for line in called.splitlines()}
    assert "memcpy" in names
    functions = ("exp", "expm1", "exp2", "log", "log1p", "tanh", "sqrt", "pow", "fma")
    assert not names & {f"{function}{suffix}" for function in functions for suffix in ("", "f")}
    assert not [name for name in names if "thread_create" in name or "start_thread" in name]
