"""Hatchling's hook: an editable installation maps `hyperlstm` to impls/, and a wheel may have batched_cpu compiled.

With HYPERLSTM_WHEEL=x86_64 or aarch64 in the environment, as `nox -s wheel` sets it, a wheel is one for that
architecture. This takes torch and ziglang, and a build without isolation. Without it, a wheel is one for any machine.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: The name that the package is imported by, and its folder in the checkout.
NAME, FOLDER = "hyperlstm", "impls"
#: The oldest C library that a wheel runs with, which that of torch's wheels needs too.
GLIBC = (2, 28)


def compile_into(folder: Path, architecture: str) -> list[Path]:
    """Compile the library by zig with all instruction sets; return its files, which belong into impls/batched_cpu."""
    from impls.batched_cpu import build, sets  # imports torch, which building another wheel does not take

    major, minor = GLIBC
    zig = [sys.executable, "-m", "ziglang", "c++", "-target", f"{architecture}-linux-gnu.{major}.{minor}"]
    flags = [*build.extra_flags(), "-s"]
    build.compile_library(zig, architecture, sets.every(architecture), flags, folder / build.LIBRARY)
    return sorted(folder.glob(f"{build.LIBRARY}*"))


class BuildHook(BuildHookInterface[Any]):
    """Files of one wheel that are made while it is built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files and the tag; version: "editable", or "standard"."""
        self._made = tempfile.TemporaryDirectory()
        folder = Path(self._made.name)
        architecture = os.environ.get("HYPERLSTM_WHEEL")
        if version == "editable":
            self._map(folder, build_data)
        elif architecture:
            self._compile(folder, architecture, build_data)

    def _map(self, folder: Path, build_data: dict[str, Any]) -> None:
        """Have Python import the checkout's folder by the package's name."""
        from editables import EditableProject

        project = EditableProject(NAME, self.root)
        project.map_method = "self_replace"  # a module, where a hook would need `editables` at every start of Python
        project.map(NAME, FOLDER)
        for name, content in project.files():
            path = folder / name
            path.write_text(content, encoding="utf-8")
            build_data["force_include_editable"][str(path)] = name

    def _compile(self, folder: Path, architecture: str, build_data: dict[str, Any]) -> None:
        """Add the compiled library, and the tag of the machines that it runs on."""
        sys.path.insert(0, self.root)
        for file in compile_into(folder, architecture):
            build_data["force_include"][str(file)] = f"{NAME}/batched_cpu/{file.name}"
        major, minor = GLIBC
        build_data["tag"] = f"py3-none-manylinux_{major}_{minor}_{architecture}"
        build_data["pure_python"] = False

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was made, which the wheel has now."""
        self._made.cleanup()
