"""Compiles the C++ source: at first use, for this machine, and for wheels."""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import torch

from ..definition import EPS, dtype_name

#: Extra compiler and linker flags, part of the key, such as `-fsanitize=address,undefined`.
FLAGS_VARIABLE = "HYPERLSTM_CXXFLAGS"

_AVX512 = "-mavx512f -mavx512dq -mavx512vl -mavx512bw -mfma -mf16c"
#: The set that multiplies bfloat16, and has no other dtype, by either of the last two of WAYS.
_BFLOAT16 = "avx512_bf16"
#: Instruction sets by architecture, with the flags of GCC and clang, from the least on, which is all others' too.
INSTRUCTION_SETS = {
    "x86_64": {
        "baseline": "",
        "avx2": "-mavx2 -mfma -mf16c",
        "avx512": _AVX512,
        _BFLOAT16: f"{_AVX512} -mavx512bf16 -mamx-tile -mamx-bf16",
    }
}
#: Ways to multiply bfloat16, the fastest last: as float32, by AVX512-BF16, and by AMX.
WAYS = ("float32", _BFLOAT16, "amx")
#: The way in place of the fastest that the processor has.
WAY_VARIABLE = "HYPERLSTM_BFLOAT16"
_BASELINE = {"baseline": ""}  # with NEON on ARM
_FLAGS = "-std=c++20 -O3 -fPIC -fno-math-errno -ffp-contract=fast -fvisibility=hidden"
DTYPES = (torch.float32, torch.bfloat16, torch.float64)
FOLDER = Path(__file__).parent
#: The library of a wheel; builds have the same name, each in a folder of its own. Its digest is beside it.
LIBRARY = "library.so"
_DAY = 24 * 60 * 60


def instruction_set(dtype: torch.dtype) -> str:
    """The one of torch's own kernels, which ATEN_CPU_CAPABILITY can lower; for bfloat16 that of `way`."""
    return _BFLOAT16 if dtype == torch.bfloat16 and way() != WAYS[0] else _of_torch()


def _of_torch() -> str:
    name = torch.backends.cpu.get_cpu_capability().lower()
    return name if name in INSTRUCTION_SETS.get(platform.machine(), _BASELINE) else "baseline"


class WayError(RuntimeError):
    """Bfloat16 cannot be multiplied in the way that is asked for; the message is a sentence."""


def ways() -> list[str]:
    """The ways to multiply bfloat16 that there are here, see WAYS."""
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
    """The parts of `every` that this machine uses in a dtype: of bfloat16 all its ways, so that each can be chosen."""
    sets = [_of_torch(), *[_BFLOAT16] * (dtype == torch.bfloat16 and len(ways()) > 1)]
    return [(name, dtype) for name in sets]


def sources() -> str:
    """Digest of the sources and of what is compiled into them."""
    digest = hashlib.sha256(f"{EPS!r} {_FLAGS}".encode())
    for source in sorted((*FOLDER.glob("*.h"), *FOLDER.glob("*.cpp"))):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def key(dtype: torch.dtype) -> str:
    """Digest that identifies a build: of the sources, the compiler's name, flags, machine and C library."""
    here = (f"{name} {dtype_name(dtype)}" for name, dtype in parts(dtype))
    words = [sources(), *here, *compiler(), *extra_flags(), platform.machine(), *platform.libc_ver()]
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]


def builds() -> Path:
    """Folder of all builds."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TORCH_EXTENSIONS_DIR") or Path(cache) / "torch_extensions")


def _digest(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def intact(path: Path) -> bool:
    """True if a library has the digest that was written beside it; loading one that was cut would end the process."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == _digest(path).read_text()
    except FileNotFoundError:
        return False


def build(folder: Path, dtype: torch.dtype) -> None:
    """Build for a dtype in a temporary folder, then rename it, so that no process sees an incomplete build."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder.parent)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.") as own:
        what = f"its C++ source for {dtype_name(dtype)}"
        print(f"batched_cpu: compiling {what}, once ... ", end="", file=sys.stderr, flush=True)
        (target := Path(own) / "new").mkdir()
        try:
            compile_library(compiler(), platform.machine(), parts(dtype), extra_flags(), target / LIBRARY)
        except BaseException:
            print("failed", file=sys.stderr, flush=True)
            raise
        try:
            if folder.exists() and not intact(folder / LIBRARY):
                folder.rename(Path(own) / "old")
            target.rename(folder)
        except OSError:
            if not intact(folder / LIBRARY):  # another process may have finished the same build first
                raise
    print(f"{time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)


def _remove_leftovers(builds: Path) -> None:
    """Remove what builds that were killed a day ago or earlier have left."""
    for path in builds.glob("hyperlstm_*.*"):
        if time.time() - path.stat().st_mtime > _DAY:
            shutil.rmtree(path, ignore_errors=True)


def every(architecture: str) -> list[tuple[str, torch.dtype]]:
    """The instruction sets of an architecture, the least first, each with the dtypes that it has."""
    sets = INSTRUCTION_SETS.get(architecture, _BASELINE)
    return [(name, dtype) for name, dtype in product(sets, DTYPES) if name != _BFLOAT16 or dtype == torch.bfloat16]


def compile_library(
    command: Sequence[str],
    architecture: str,
    parts: Sequence[tuple[str, torch.dtype]],
    flags: Sequence[str],
    path: Path,
) -> None:
    """Compile the library, one process a core, and write its digest beside it.

    command: of a C++ compiler. parts: of `every`, in its order. flags: of both compiling and linking.
    CalledProcessError has the output in `output`.
    """
    objects, jobs = list[str](), []
    common = [*command, *_FLAGS.split(), *flags, f"-DHYPERLSTM_EPS={EPS!r}", f'-DHYPERLSTM_SOURCES="{sources()}"', "-c"]

    def add(source: str, suffix: str, *own: str) -> None:
        objects.append(str(path.with_name(f"{source}-{suffix}.o")))
        jobs.append([*common, *own, str(FOLDER / f"{source}.cpp"), "-o", objects[-1]])

    # Where two objects have the same function of the standard library, the linker takes the first one's. So the lesser
    # sets come first: no function of a set is called by another that has it too.
    for name, dtype in parts:
        own = [*INSTRUCTION_SETS.get(architecture, _BASELINE)[name].split(), f"-DHYPERLSTM_SET={name}"]
        for source in ("backward", "forward"):
            add(source, f"{dtype_name(dtype)}-{name}", *own, f"-DHYPERLSTM_DTYPE={dtype_name(dtype)}")
    add("library", "all", "-DHYPERLSTM_SET=baseline")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(_run, jobs))
    _run([*command, "-shared", *flags, *objects, "-o", str(path)])
    for name in objects:
        Path(name).unlink()
    write_digest(path)


def write_digest(path: Path) -> None:
    """Write a library's digest beside it."""
    _digest(path).write_text(hashlib.sha256(path.read_bytes()).hexdigest())


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)


def extra_flags() -> list[str]:
    """Compiler and linker flags from the environment, see `FLAGS_VARIABLE`."""
    return shlex.split(os.environ.get(FLAGS_VARIABLE, ""))


def compiler() -> list[str]:
    """Command of the C++ compiler, as torch chooses it."""
    return shlex.split(os.environ.get("CXX", "c++"))
