"""Instruction sets of the library: those of each architecture, and the one that each dtype uses on this processor."""

import os
import platform
from itertools import product

import torch

DTYPES = (torch.float32, torch.bfloat16, torch.float64)

_AVX512 = "-mavx512f -mavx512dq -mavx512vl -mavx512bw -mfma -mf16c"
#: The set for bfloat16 alone, which multiplies in either of the last two of WAYS.
_BFLOAT16 = "avx512_bf16"
#: Instruction sets by architecture, the least first, with the flags of GCC and clang; a set includes those before it.
_SETS = {
    "x86_64": {
        "baseline": "",
        "avx2": "-mavx2 -mfma -mf16c",
        "avx512": _AVX512,
        _BFLOAT16: f"{_AVX512} -mavx512bf16 -mamx-tile -mamx-bf16",
    }
}
#: Ways to multiply bfloat16, the fastest last: as float32, by AVX512-BF16, and by AMX.
WAYS = ("float32", _BFLOAT16, "amx")
#: Environment variable that overrides the bfloat16 method; by default the fastest one of the processor.
WAY_VARIABLE = "HYPERLSTM_BFLOAT16"
_BASELINE = {"baseline": ""}  # with NEON on ARM


def every(architecture: str) -> list[tuple[str, torch.dtype]]:
    """Pairs of instruction set and dtype that a library for an architecture contains, the least set first."""
    sets = _SETS.get(architecture, _BASELINE)
    return [(name, dtype) for name, dtype in product(sets, DTYPES) if name != _BFLOAT16 or dtype == torch.bfloat16]


def flags_of(architecture: str, name: str) -> list[str]:
    """The compiler's flags for an instruction set."""
    return _SETS.get(architecture, _BASELINE)[name].split()


def instruction_set(dtype: torch.dtype) -> str:
    """The set that torch's own kernels use, which ATEN_CPU_CAPABILITY can lower; for bfloat16 the set of `way`."""
    return _BFLOAT16 if dtype == torch.bfloat16 and way() != WAYS[0] else _of_torch()


def _of_torch() -> str:
    name = torch.backends.cpu.get_cpu_capability().lower()
    return name if name in _SETS.get(platform.machine(), _BASELINE) else "baseline"


class WayError(ValueError):
    """The requested way to multiply bfloat16 is not available; the message is a sentence."""


def ways() -> list[str]:
    """The ways to multiply bfloat16 on this processor, see WAYS."""
    if _of_torch() != "avx512":
        return [WAYS[0]]
    has = torch.cpu.get_capabilities()
    needs = (True, has.get("avx512_bf16"), has.get("avx512_bf16") and has.get("amx_bf16"))
    return [name for name, there in zip(WAYS, needs, strict=True) if there]


def way() -> str:
    """The way to multiply bfloat16: the fastest, or the one that WAY_VARIABLE names."""
    wanted = os.environ.get(WAY_VARIABLE) or ways()[-1]
    if wanted not in ways():
        raise WayError(f"{WAY_VARIABLE}: expected one of {', '.join(ways())} on this machine, got {wanted!r}.")
    return wanted


def parts(dtype: torch.dtype) -> list[tuple[str, torch.dtype]]:
    """The pairs of `every` that this machine uses for a dtype; for bfloat16 both sets, for any way."""
    sets = [_of_torch(), *[_BFLOAT16] * (dtype == torch.bfloat16 and len(ways()) > 1)]
    return [(name, dtype) for name in sets]
