"""Builds the C++ source once per torch, compiler, CPU and set of flags, and loads it."""

import functools
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch

from ..definition import EPS

#: Extra compiler and linker flags, part of the key, such as `-fsanitize=address,undefined`.
FLAGS_VARIABLE = "HYPERLSTM_CXXFLAGS"

#: Compiler flags by the capability that torch's own kernels use; at::vec reads the macro. Any other CPU gets its
#: architecture's baseline, NEON included.
_CAPABILITY_FLAGS = {
    "AVX512": "-mavx512f -mavx512dq -mavx512vl -mavx512bw -mfma -mf16c -DCPU_CAPABILITY_AVX512",
    "AVX2": "-mavx2 -mfma -mf16c -DCPU_CAPABILITY_AVX2",
}
_FOLDER = Path(__file__).parent
_MAIN_SOURCE = _FOLDER / "sweeps.cpp"


@dataclass(frozen=True)
class BuildFailure:
    """Reason for a missing library, one sentence, and the output of the build."""

    reason: str
    output: str = ""


def library() -> ModuleType:
    """Library, built at the first call; RuntimeError with the reason if the build fails."""
    result = _result()
    if isinstance(result, BuildFailure):
        raise RuntimeError(f"{result.reason}\n{result.output}")
    return result


def why_unavailable(device: torch.device, dtype: torch.dtype) -> str | None:
    """None if the library can be loaded, which builds it at the first call, else the reason in a sentence."""
    result = _result()
    return result.reason if isinstance(result, BuildFailure) else None


def key() -> str:
    """Digest of torch, Python, compiler, CPU, flags and sources, which identifies a build."""
    digest = hashlib.sha256()
    parts = [torch.__version__, sys.version, platform.machine(), _compiler_version(), *_flags()]
    for part in parts:
        digest.update(part.encode() + b"\0")
    for source in [*sorted(_FOLDER.glob("*.h")), _MAIN_SOURCE]:
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


_lock = threading.Lock()


def _result() -> ModuleType | BuildFailure:
    with _lock:
        return _load_or_build()


@functools.cache
def _load_or_build() -> ModuleType | BuildFailure:
    """Library or failure; a failed build is not repeated in the same process."""
    from torch.utils import cpp_extension

    command = compiler()
    if shutil.which(command[0]) is None:
        return BuildFailure(f"batched_cpu needs a C++ compiler, and {command[0]!r} is not on the path.")
    if not cpp_extension.is_ninja_available():
        return BuildFailure("batched_cpu needs ninja to build, and it is not on the path.")
    name = f"hyperlstm_{key()}"
    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or cpp_extension.get_default_build_root())
    folder = root / name
    try:
        if not folder.exists():
            _build(name, folder)
        return _load(name, folder / f"{name}{cpp_extension.LIB_EXT}")
    except (RuntimeError, OSError, ImportError, subprocess.SubprocessError) as error:
        cause = type(error).__name__
        return BuildFailure(f"batched_cpu could not be built ({cause}, see {__name__}.library()).", str(error))


def _build(name: str, folder: Path) -> None:
    """Build in a temporary folder, then rename it, so that no process sees an incomplete build."""
    from torch.utils import cpp_extension

    start = time.monotonic()
    print("batched_cpu: building its C++ source, once for this torch and CPU ... ", end="", file=sys.stderr, flush=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{name}.") as own:
        target = Path(own) / name
        target.mkdir()
        try:
            cpp_extension.load(
                name,
                [str(_MAIN_SOURCE)],
                extra_cflags=_flags(),
                extra_ldflags=[*_openmp_flags(), *extra_flags()],
                build_directory=str(target),
                is_python_module=False,
            )
        except Exception:
            print("failed", file=sys.stderr, flush=True)
            raise
        try:
            target.rename(folder)
        except OSError:
            if not folder.exists():  # another process may have finished the same build first
                raise
    print(f"{time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _flags() -> list[str]:
    capability = _CAPABILITY_FLAGS.get(torch.backends.cpu.get_cpu_capability(), "")
    common = [f"-DHYPERLSTM_EPS={EPS!r}", "-O3", "-fno-math-errno", "-ffp-contract=fast", "-fvisibility=hidden"]
    return [*common, *_openmp_flags(), *capability.split(), *extra_flags()]


def _openmp_flags() -> list[str]:
    # at::parallel_for is a template: without the flag that torch was compiled with, it runs on one thread. Apple's
    # compiler has no OpenMP.
    has_openmp: bool = torch.backends.openmp.is_available()
    return ["-fopenmp"] if has_openmp and sys.platform != "darwin" else []


def extra_flags() -> list[str]:
    """Compiler and linker flags from the environment, see `FLAGS_VARIABLE`."""
    return shlex.split(os.environ.get(FLAGS_VARIABLE, ""))


def compiler() -> list[str]:
    """Command of the C++ compiler that torch uses."""
    from torch.utils import cpp_extension

    return shlex.split(cpp_extension.get_cxx_compiler())


def _compiler_version() -> str:
    found = subprocess.run([*compiler(), "--version"], capture_output=True, text=True, check=False)
    return found.stdout
