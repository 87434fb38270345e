"""Compiles the C++ source, for this machine at first use and for wheels."""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch

from ..definition import EPS, dtype_name
from ..registry import find
from .sets import flags_of

#: Environment variable with extra compiler and linker flags, such as `-fsanitize=address,undefined`.
FLAGS_VARIABLE = "HYPERLSTM_CXXFLAGS"

#: Environment variable with the folder of builds.
BUILDS_VARIABLE = "TORCH_EXTENSIONS_DIR"
#: Bytes that a build writes to either folder.
_ROOM = 16 << 20
#: Seconds after which a build that has not ended was killed.
_ABANDONED = 3600
_FLAGS = "-std=c++20 -O3 -fPIC -fno-math-errno -ffp-contract=fast -fvisibility=hidden"
FOLDER = Path(__file__).parent
#: File name of the library, in the wheel and in the folder of each build, next to a file with its digest.
LIBRARY = "library.so"
#: File in the folder of builds that a process locks while it builds.
LOCK = "hyperlstm.lock"


def sources() -> str:
    """Digest of the sources and of the constants that are compiled in."""
    digest = hashlib.sha256(f"{EPS!r} {_FLAGS}".encode())
    for source in sorted((*FOLDER.glob("*.h"), *FOLDER.glob("*.cpp"))):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def folder_of(parts: Sequence[tuple[str, torch.dtype]], flags: Sequence[str]) -> Path:
    """Folder of a build, by a digest of its sources, the compiler's name, flags, machine and C library."""
    here = (f"{name} {dtype_name(dtype)}" for name, dtype in parts)
    words = [sources(), *here, *compiler(), *flags, platform.machine(), *platform.libc_ver()]
    digest = hashlib.sha256("\0".join(words).encode()).hexdigest()
    return builds() / f"hyperlstm_{digest[:16]}"


def builds() -> Path:
    """Folder of all builds."""
    if folder := os.environ.get(BUILDS_VARIABLE):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torch_extensions"


def _digest(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def intact(path: Path) -> bool:
    """True if a library has the digest in the file next to it; loading a truncated one would crash the process."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == _digest(path).read_text()
    except FileNotFoundError:
        return False


class NoRoomError(OSError):
    """A file of a library's size cannot be written.

    variable: the environment variable that names the folder.
    """

    def __init__(self, error: OSError, folder: Path, variable: str) -> None:
        super().__init__(error.errno, error.strerror, str(folder))
        self.variable = variable


def check_room(folder: Path, variable: str) -> None:
    """Raise `NoRoomError` if a folder has no room for a library."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_ROOM))
    except OSError as error:
        raise NoRoomError(error, folder, variable) from error


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Let one process at a time build in a folder: the others wait, and then find what it has built."""
    with (folder / LOCK).open("ab") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        except (
            ImportError,
            OSError,
        ):  # Windows, or a file system without locks: each process builds
            yield
            return
        try:
            yield
        finally:  # closing it is not enough where a process was forked in between
            fcntl.flock(file, fcntl.LOCK_UN)


def _remove_abandoned(folder: Path) -> None:
    """Remove the temporary folders of builds that were killed."""
    for path in folder.glob("hyperlstm_*.*"):
        try:
            if time.time() - path.stat().st_mtime > _ABANDONED:
                shutil.rmtree(path)
        except OSError:  # of another user, or removed by another process
            continue


def build(folder: Path, parts: Sequence[tuple[str, torch.dtype]], flags: Sequence[str]) -> None:
    """Build a library unless another process has: in a temporary folder that is then renamed, so that none is partial.

    parts, flags: see `compile_library`. `NoRoomError` if the compiler fails for want of room.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(folder.parent):
        if not intact(folder / LIBRARY):
            _remove_abandoned(folder.parent)
            _build(folder, parts, flags)


def _build(folder: Path, parts: Sequence[tuple[str, torch.dtype]], flags: Sequence[str]) -> None:
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.") as own:
        what = f"its C++ source for {', '.join(sorted({dtype_name(dtype) for _, dtype in parts}))}"
        print(f"batched_cpu: compiling {what}, once ... ", end="", file=sys.stderr, flush=True)
        (target := Path(own) / "new").mkdir()
        try:
            compile_library(compiler(), platform.machine(), parts, flags, target / LIBRARY)
        except BaseException as error:
            print("failed", file=sys.stderr, flush=True)
            if isinstance(error, subprocess.CalledProcessError):
                check_room(folder.parent, BUILDS_VARIABLE)
                check_room(Path(tempfile.gettempdir()), "TMPDIR")
            raise
        try:
            if folder.exists() and not intact(folder / LIBRARY):
                folder.rename(Path(own) / "old")
            target.rename(folder)
        except OSError:
            if not intact(folder / LIBRARY):  # where there are no locks, another process may have finished first
                raise
    print(f"{time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)


def compile_library(
    command: Sequence[str],
    architecture: str,
    parts: Sequence[tuple[str, torch.dtype]],
    flags: Sequence[str],
    path: Path,
) -> None:
    """Compile the library, with one process per core, and write its digest.

    command: C++ compiler. parts: pairs of `every`, in its order. flags: for compiling and linking.
    CalledProcessError has the compiler's output in `output`.
    """
    objects, jobs = list[str](), []
    common = [*command, *_FLAGS.split(), *flags, f"-DHYPERLSTM_EPS={EPS!r}", f'-DHYPERLSTM_SOURCES="{sources()}"', "-c"]

    def add(source: str, suffix: str, *own: str) -> None:
        objects.append(str(path.with_name(f"{source}-{suffix}.o")))
        jobs.append([*common, *own, str(FOLDER / f"{source}.cpp"), "-o", objects[-1]])

    # Link the least set first: the linker keeps the first copy of an inline function, and an AVX-512 copy must not run
    # on a processor with AVX2.
    for name, dtype in parts:
        own = [*flags_of(architecture, name), f"-DHYPERLSTM_SET={name}"]
        for source in ("backward", "forward"):
            add(source, f"{dtype_name(dtype)}-{name}", *own, f"-DHYPERLSTM_DTYPE={dtype_name(dtype)}")
    add("library", "all", "-DHYPERLSTM_SET=baseline")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(_run, jobs))
    _run([*command, "-shared", *flags, *objects, "-o", str(path)])
    for name in objects:
        Path(name).unlink()
    _digest(path).write_text(hashlib.sha256(path.read_bytes()).hexdigest())


def _run(command: Sequence[str]) -> None:
    out = subprocess.PIPE
    # Whatever the locale is, which may not be that of the compiler.
    subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", check=True)


def extra_flags() -> list[str]:
    """Flags in `FLAGS_VARIABLE`; ValueError if a quotation is open."""
    return shlex.split(os.environ.get(FLAGS_VARIABLE, ""))


def compiler() -> list[str]:
    """Command of the C++ compiler, as torch chooses it; ValueError if a quotation is open."""
    return shlex.split(os.environ.get("CXX", "")) or [find("batched_cpu").compiler]
