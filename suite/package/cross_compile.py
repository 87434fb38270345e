"""Compiles the library of batched_cpu by zig, for any machine of an architecture."""

import sys
from pathlib import Path

#: The oldest C library that a wheel runs with, which that of torch's wheels needs too.
GLIBC = (2, 28)


def platform_tag(architecture: str) -> str:
    """The tag of a wheel whose library `compile_into` compiled."""
    major, minor = GLIBC
    return f"manylinux_{major}_{minor}_{architecture}"


def compile_into(folder: Path, architecture: str) -> list[Path]:
    """Compile the library with all instruction sets; return its files, which belong into impls/batched_cpu."""
    from impls.batched_cpu import build, sets  # imports torch, which building another wheel does not take

    folder.mkdir(parents=True, exist_ok=True)
    major, minor = GLIBC
    zig = [sys.executable, "-m", "ziglang", "c++", "-target", f"{architecture}-linux-gnu.{major}.{minor}"]
    flags = [*build.extra_flags(), "-s"]
    build.compile_library(zig, architecture, sets.every(architecture), flags, folder / build.LIBRARY)
    return sorted(folder.glob(f"{build.LIBRARY}*"))
