"""Variables that are empty, missing or wrong, a process without a home, and versions of two digits."""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Barrier

import pytest
import torch

from impls import HyperLSTM
from impls.batched_cpu import build, loading, sets

F32 = torch.float32
COMMANDS = {None: ["c++"], "": ["c++"], "  ": ["c++"], "ccache 'my g++'": ["ccache", "my g++"]}

compiled_here = pytest.mark.skipif(
    (build.FOLDER / build.LIBRARY).exists(), reason="A wheel's library is not compiled here."
)


def set_or_unset(monkeypatch: pytest.MonkeyPatch, name: str, value: str | None) -> None:
    if value is None:
        monkeypatch.delenv(name, raising=False)
    else:
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("value", COMMANDS, ids=repr)
def test_the_compiler_is_that_of_the_variable_or_the_usual_one(
    value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_or_unset(monkeypatch, "CXX", value)
    assert build.compiler() == COMMANDS[value]


@pytest.mark.parametrize("flags", [None, "", " "])
def test_no_flags_are_none(flags: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    set_or_unset(monkeypatch, build.FLAGS_VARIABLE, flags)
    assert build.extra_flags() == []


#: By what it is, what a build depends on beside the sources.
DEPENDS: dict[str, Callable[[pytest.MonkeyPatch], object]] = {
    "the compiler": lambda patch: patch.setenv("CXX", "another c++"),
    "the C library": lambda patch: patch.setattr("platform.libc_ver", lambda: ("glibc", "2.1")),
    "the machine": lambda patch: patch.setattr("platform.machine", lambda: "riscv64"),
    "the sources": lambda patch: patch.setattr(build, "sources", lambda: "others"),
}


@pytest.mark.parametrize("what", DEPENDS)
def test_a_build_for_something_else_is_not_taken(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = sets.parts(F32)
    folder = build.folder_of(parts, [])
    assert build.folder_of(parts, ["-g"]) != folder
    DEPENDS[what](monkeypatch)
    assert build.folder_of(parts, []) != folder


def test_a_build_is_made_beside_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary files may be on another file system, from which no folder can be renamed."""
    libraries = list[Path]()
    monkeypatch.setattr(build, "compile_library", lambda *arguments: libraries.append(arguments[-1]))
    build.build(folder := tmp_path / "builds" / "one", sets.parts(F32), [])
    assert [library.is_relative_to(folder.parent) for library in libraries] == [True]
    assert [*folder.parent.iterdir()] == [folder]


@pytest.mark.parametrize("empty", [None, ""], ids=["missing", "empty"])
def test_builds_go_where_the_first_variable_says(empty: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for name in ("TORCH_EXTENSIONS_DIR", "XDG_CACHE_HOME"):
        set_or_unset(monkeypatch, name, empty)
    assert build.builds() == Path("/home/me/.cache/torch_extensions")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert build.builds() == Path("/cache/torch_extensions")
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", "/builds")
    assert build.builds() == Path("/builds")


@pytest.fixture
def _no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user without an entry, in a container."""

    def no_home(_: type[Path]) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", classmethod(no_home))
    for name in ("TORCH_EXTENSIONS_DIR", "XDG_CACHE_HOME"):
        set_or_unset(monkeypatch, name, None)


@pytest.mark.filterwarnings("ignore:batched_cpu could not be built")
@compiled_here
@pytest.mark.usefixtures("_no_home")
def test_a_model_is_printed_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_results", {})
    assert "impl=auto (deferred)" in repr(HyperLSTM(5, 7, 4, 2, 1))


@pytest.mark.usefixtures("_no_home")
def test_without_a_home_the_reason_says_what_helps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    failure = loading._of_builds(F32)
    assert isinstance(failure, loading.Failure)
    assert "Could not determine home directory.. TORCH_EXTENSIONS_DIR set to a folder" in failure.reason
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    assert build.builds() == tmp_path


@pytest.mark.parametrize("name", ["CXX", build.FLAGS_VARIABLE])
def test_an_open_quotation_is_a_reason(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "g++ 'open")
    failure = loading._of_builds(F32)
    assert isinstance(failure, loading.Failure)
    assert f"CXX or {build.FLAGS_VARIABLE} is no command line: No closing quotation" in failure.reason


@pytest.mark.parametrize("empty", [None, ""], ids=["missing", "empty"])
def test_without_a_wish_bfloat16_is_multiplied_the_fastest_way(
    empty: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_or_unset(monkeypatch, sets.WAY_VARIABLE, empty)
    assert sets.way() == sets.ways()[-1]


@pytest.mark.parametrize(
    ("version", "suits"),
    [("3.5.1", False), ("3.6.0", True), ("3.10.0", True), ("10.0.0", True), ("2.9.0", False), ("3.10.0+git1a2b", True)],
)
def test_versions_of_triton_are_compared_as_numbers(version: str, suits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    triton = pytest.importorskip("triton")
    from impls import batched_cuda

    monkeypatch.setattr(triton, "__version__", version)
    reason = batched_cuda.why_unavailable(torch.device("cpu"), F32) or ""
    assert ("needs Triton 3.6 or newer" in reason) is not suits


def test_output_of_a_compiler_is_read_whatever_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "compiler"
    compiler.write_bytes(b"#!/bin/sh\nprintf 'error: \\342\\200\\230x\\377'; exit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", os.fspath(compiler))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "builds"))
    failure = loading._of_builds(F32)
    assert isinstance(failure, loading.Failure)
    assert "error: " in failure.reason


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="One core compiles one source at a time.")
def test_sources_are_compiled_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = Barrier(2)

    def compiled(command: Sequence[str]) -> None:
        target = Path(command[-1])
        target.touch()
        if target.suffix == ".o" and "library" not in target.name:
            both.wait(timeout=10)  # BrokenBarrierError if the other source waits for this one

    monkeypatch.setattr(build, "_run", compiled)
    build.compile_library(["c++"], platform.machine(), [("baseline", torch.float32)], [], tmp_path / "library.so")


@pytest.mark.filterwarnings("ignore:batched_cpu could not be built")
@compiled_here
def test_printing_a_model_compiles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(build.BUILDS_VARIABLE, str(tmp_path / "builds"))
    monkeypatch.setattr(loading, "_results", {})
    monkeypatch.setenv("CXX", sys.executable)  # a program that exists, and that nothing calls
    model = HyperLSTM(5, 7, 4, 2, 1)
    assert "impl=auto (batched_cpu, compiled at the first call)" in repr(model)
    assert not (tmp_path / "builds").exists()
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "impl=auto (deferred)" in repr(model)


@pytest.mark.skipif(shutil.which("c++") is None, reason="there is no C++ compiler")
def test_a_model_whose_library_is_there_is_printed_without_a_word_of_compiling() -> None:
    model = HyperLSTM(5, 7, 4, 2, 1)
    model(torch.zeros(1, 1, 5))
    assert "impl=auto (batched_cpu)" in repr(model)
