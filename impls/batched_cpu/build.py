"""Finds the compiled library, in the wheel or among the builds of this machine, builds it if there is none, and loads it."""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..definition import EPS, dtype_name

#: Extra compiler and linker flags, part of the key, such as `-fsanitize=address,undefined`.
FLAGS_VARIABLE = "HYPERLSTM_CXXFLAGS"

#: Instruction sets by architecture, with the flags of GCC and clang, from the least on, which is all others' too.
INSTRUCTION_SETS = {
    "x86_64": {
        "baseline": "",
        "avx2": "-mavx2 -mfma -mf16c",
        "avx512": "-mavx512f -mavx512dq -mavx512vl -mavx512bw -mfma -mf16c",
    }
}
_BASELINE = {"baseline": ""}  # with NEON on ARM
_FLAGS = "-std=c++20 -O3 -fPIC -fno-math-errno -ffp-contract=fast -fvisibility=hidden"
DTYPES = (torch.float32, torch.bfloat16, torch.float64)
#: The callback by which C++ gets memory for gradients, see backward.cpp.
ALLOCATE = ctypes.CFUNCTYPE(None, ctypes.py_object, ctypes.POINTER(ctypes.c_int64))
_FOLDER = Path(__file__).parent
#: The library of a wheel; builds have the same name, each in a folder of its own. Its digest is beside it.
LIBRARY = "library.so"
#: The functions of torch's C interfaces and of OpenMP in torch.h, in its order.
_FUNCTIONS = (
    "aoti_torch_empty_strided",
    "aoti_torch_create_tensor_from_blob",
    "aoti_torch_get_data_ptr",
    "aoti_torch_delete_tensor_object",
    "aoti_torch_cpu_mm_out",
    "aoti_torch_cpu_addmm_out",
    "torch_get_num_threads",
)
_OPENMP = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads", "omp_in_parallel")
_DAY = 24 * 60 * 60


@dataclass(frozen=True)
class BuildFailure:
    """Reason for a missing library, in sentences, and the output of the build."""

    reason: str
    output: str = ""


class Library:
    """Functions of a loaded library, for the instruction set that torch's own kernels use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = ctypes.CDLL(str(path))
        self._library.hyperlstm_sources.restype = ctypes.c_char_p
        if self._library.hyperlstm_sources().decode() != sources():
            raise OSError("it was compiled from other sources")
        # Its dependencies are searched too: torch's C++ library, and the OpenMP that this loads.
        torch_library = ctypes.CDLL(torch._C.__file__)
        functions = [getattr(torch_library, name, None) for name in (*_FUNCTIONS, *_OPENMP)]
        addresses = [function and ctypes.cast(function, ctypes.c_void_p).value for function in functions]
        self._library.hyperlstm_start((ctypes.c_void_p * len(addresses))(*addresses))

        passed = ctypes.c_char_p, ctypes.c_double  # arguments, scale of the mask
        #: The functions of forward.cpp and backward.cpp by dtype; each returns the message of an error, or None.
        self.forward = {dtype: self.function("forward", dtype, *passed) for dtype in DTYPES}
        allocate = ALLOCATE, ctypes.py_object
        self.backward = {dtype: self.function("backward", dtype, *passed, *allocate) for dtype in DTYPES}

    def function(self, name: str, dtype: torch.dtype, *types: Any, result: Any = ctypes.c_char_p) -> Callable[..., Any]:
        """The exported function of that name for a dtype; types: of its arguments."""
        function = self._library[f"hyperlstm_{name}_{dtype_name(dtype)}_{instruction_set()}"]
        function.restype, function.argtypes = result, types
        return function


def library() -> Library:
    """Library, built at the first call; RuntimeError with the reason if there is none."""
    result = _result()
    if isinstance(result, BuildFailure):
        raise RuntimeError(f"{result.reason}\n{result.output}")
    return result


def why_unavailable(device: torch.device, dtype: torch.dtype) -> str | None:
    """None if the library can be loaded, which builds it at the first call, else the reason."""
    result = _result()
    return result.reason if isinstance(result, BuildFailure) else None


def instruction_set() -> str:
    """The one of torch's own kernels, which ATEN_CPU_CAPABILITY can lower."""
    name = torch.backends.cpu.get_cpu_capability().lower()
    return name if name in INSTRUCTION_SETS.get(platform.machine(), _BASELINE) else "baseline"


def sources() -> str:
    """Digest of the sources and of what is compiled into them."""
    digest = hashlib.sha256(f"{EPS!r} {_FLAGS}".encode())
    for source in sorted((*_FOLDER.glob("*.h"), *_FOLDER.glob("*.cpp"))):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def key() -> str:
    """Digest that identifies a build: of the sources, the compiler's name, flags, machine and C library."""
    parts = [sources(), instruction_set(), *compiler(), *extra_flags(), platform.machine(), *platform.libc_ver()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


_lock = threading.Lock()


def _result() -> Library | BuildFailure:
    with _lock:
        return _find_or_build()


@functools.cache
def _find_or_build() -> Library | BuildFailure:
    """Library or failure; a failed build is not repeated in the same process."""
    shipped = _FOLDER / LIBRARY
    if shipped.exists():
        return _of_wheel(shipped)
    try:
        folder = _builds() / f"hyperlstm_{key()}"
        if not _intact(folder / LIBRARY):
            if shutil.which(compiler()[0]) is None:
                return _failure(f"it takes a C++ compiler, and {compiler()[0]!r} is not on the path", "a compiler")
            _build(folder)
        return Library(folder / LIBRARY)
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.output.splitlines() if "error" in line] or error.output.splitlines()
        said = lines[0].strip() if lines else f"the compiler exits with {error.returncode}"
        return _failure(said, "another compiler, named by CXX", error.output)
    except (OSError, RuntimeError) as error:
        return _failure(str(error), "TORCH_EXTENSIONS_DIR set to a folder that can be written")


def _failure(why: str, remedy: str, output: str = "") -> BuildFailure:
    helps = f"{remedy[0].upper()}{remedy[1:]} helps, or the wheel, which has it compiled"
    return BuildFailure(f"batched_cpu could not be built: {why}. {helps}.", output)


def _of_wheel(path: Path) -> Library | BuildFailure:
    why = "it is incomplete"
    if _intact(path):
        try:
            return Library(path)
        except (OSError, AttributeError) as error:
            why = str(error)
    helps = "Installing the wheel for this machine again helps, or deleting this file: then it is built"
    return BuildFailure(f"The library of batched_cpu in the wheel, {path}, does not fit: {why}. {helps}.")


def _builds() -> Path:
    """Folder of all builds."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TORCH_EXTENSIONS_DIR") or Path(cache) / "torch_extensions")


def _digest(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _intact(path: Path) -> bool:
    """True if a library has the digest that was written beside it; loading one that was cut would end the process."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == _digest(path).read_text()
    except FileNotFoundError:
        return False


def _build(folder: Path) -> None:
    """Build in a temporary folder, then rename it, so that no process sees an incomplete build."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder.parent)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.") as own:
        print("batched_cpu: compiling its C++ source, once ... ", end="", file=sys.stderr, flush=True)
        (target := Path(own) / "new").mkdir()
        name = instruction_set()
        sets = {name: INSTRUCTION_SETS.get(platform.machine(), _BASELINE)[name]}
        try:
            compile_library(compiler(), sets, extra_flags(), target / LIBRARY)
        except BaseException:
            print("failed", file=sys.stderr, flush=True)
            raise
        if folder.exists() and not _intact(folder / LIBRARY):
            folder.rename(Path(own) / "old")
        try:
            target.rename(folder)
        except OSError:
            if not folder.exists():  # another process may have finished the same build first
                raise
    print(f"{time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)


def _remove_leftovers(builds: Path) -> None:
    """Remove what builds that were killed a day ago or earlier have left."""
    for path in builds.glob("hyperlstm_*.*"):
        if time.time() - path.stat().st_mtime > _DAY:
            shutil.rmtree(path, ignore_errors=True)


def compile_library(command: Sequence[str], sets: dict[str, str], flags: Sequence[str], path: Path) -> None:
    """Compile the library for some instruction sets, one process a core, and write its digest beside it.

    command: of a C++ compiler. flags: of both compiling and linking. CalledProcessError has the output in `output`.
    """
    objects, jobs = list[str](), []
    common = [*command, *_FLAGS.split(), *flags, f"-DHYPERLSTM_EPS={EPS!r}", f'-DHYPERLSTM_SOURCES="{sources()}"', "-c"]

    def add(source: str, suffix: str, *own: str) -> None:
        objects.append(str(path.with_name(f"{source}-{suffix}.o")))
        jobs.append([*common, *own, str(_FOLDER / f"{source}.cpp"), "-o", objects[-1]])

    # Where two objects have the same function of the standard library, the linker takes the first one's. So the lesser
    # sets come first: no function of a set is called by another that has it too.
    for name, own in sets.items():
        for source in ("backward", "forward"):
            for dtype in map(dtype_name, DTYPES):
                add(source, f"{dtype}-{name}", *own.split(), f"-DHYPERLSTM_SET={name}", f"-DHYPERLSTM_DTYPE={dtype}")
    add("library", "all", "-DHYPERLSTM_SET=baseline")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(_run, jobs))
    _run([*command, "-shared", *flags, *objects, "-o", str(path)])
    for name in objects:
        Path(name).unlink()
    _digest(path).write_text(hashlib.sha256(path.read_bytes()).hexdigest())


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)


def extra_flags() -> list[str]:
    """Compiler and linker flags from the environment, see `FLAGS_VARIABLE`."""
    return shlex.split(os.environ.get(FLAGS_VARIABLE, ""))


def compiler() -> list[str]:
    """Command of the C++ compiler, as torch chooses it."""
    return shlex.split(os.environ.get("CXX", "c++"))
