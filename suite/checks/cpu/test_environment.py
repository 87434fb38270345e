"""Variables that are empty, missing or wrong, a process without a home, versions of two digits, and failing builds."""

import errno
import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from threading import Barrier
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from impls import HyperLSTM, registry
from impls.batched_cpu import build, loading, sets
from suite.checks.cpu.programs import NEEDS_COMPILER

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
    assert folder.stat().st_mode == folder.parent.stat().st_mode, (
        "users may share builds; a temporary folder is private"
    )


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


@pytest.mark.usefixtures("_no_home")
def test_a_cache_that_is_named_takes_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert build.builds() == Path("/cache/torch_extensions")


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


@pytest.mark.parametrize(("value", "on"), [(None, False), ("", False), ("0", False), ("1", True)])
def test_the_interpreter_is_on_where_triton_has_it_on(
    value: str | None, on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_or_unset(monkeypatch, "TRITON_INTERPRET", value)
    assert registry.find("batched_cuda").interpreted(torch.device("cpu")) == on


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


@NEEDS_COMPILER
def test_a_model_whose_library_is_there_is_printed_without_a_word_of_compiling() -> None:
    model = HyperLSTM(5, 7, 4, 2, 1)
    model(torch.zeros(1, 1, 5))
    assert "impl=auto (batched_cpu)" in repr(model)


#: By what a compiler writes, the reason that it gives.
COMPILERS = {
    "": "the compiler exits with 3. Another compiler, named by CXX, helps, or the wheel, which has it compiled.",
    "in file a:; a: error: b;error: c": "a: error: b. Another compiler, named by CXX, helps",
    " killed;by whom": "killed. Another compiler, named by CXX, helps",
}


@pytest.mark.parametrize("said", COMPILERS, ids=["nothing", "errors", "no error"])
def test_the_first_error_of_a_compiler_is_the_reason(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error of a call has all that it said, and a build that failed is not tried again."""
    compiler, called = tmp_path / "compiler", tmp_path / "called"
    lines = "".join(f"echo '{line}'; " for line in said.split(";") if line)
    compiler.write_text(f"#!/bin/sh\necho >> '{called}'; {lines}exit 3\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", os.fspath(compiler))
    monkeypatch.setenv(build.BUILDS_VARIABLE, str(tmp_path / "builds"))
    monkeypatch.setattr(loading, "_find_or_build", loading._of_builds)
    monkeypatch.setattr(loading, "_results", {})
    reason = loading.why_unavailable(torch.device("cpu"), F32) or ""
    assert reason.startswith(f"batched_cpu could not be built: {COMPILERS[said]}")
    assert capsys.readouterr().err.endswith("its C++ source for float32, once ... failed\n")
    calls = called.read_text()
    with pytest.raises(RuntimeError) as raised:
        loading.library(F32)
    assert str(raised.value).startswith(f"{reason}\n")
    assert set(said.split(";")) <= set(str(raised.value).splitlines()) | {""}
    assert called.read_text() == calls
    assert [*(tmp_path / "builds").iterdir()] == [], "a failed build left files"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        (
            "CXX",
            "no-such-compiler -x",
            "it takes a C++ compiler, and 'no-such-compiler' is not on the path. A compiler",
        ),
        (build.BUILDS_VARIABLE, "/dev/null/builds", "[Errno 20] Not a directory: '/dev/null/builds"),
    ],
    ids=["no compiler", "no folder"],
)
def test_what_keeps_a_build_from_starting_is_the_reason(
    name: str, value: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", sys.executable)  # which is there, and not called
    monkeypatch.setenv(build.BUILDS_VARIABLE, str(tmp_path))
    monkeypatch.setenv(name, value)
    failure = loading._of_builds(F32)
    assert isinstance(failure, loading.Failure)
    assert failure.reason.startswith(f"batched_cpu could not be built: {reason}")
    said = f"{build.BUILDS_VARIABLE} set to a folder that can be written helps, or the wheel"
    assert (said in failure.reason) is (name == build.BUILDS_VARIABLE)


@NEEDS_COMPILER
@pytest.mark.parametrize("full", [build.BUILDS_VARIABLE, "TMPDIR"])
def test_the_folder_that_is_full_is_named(full: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler writes its temporary files to another folder than its results."""
    library = loading.library(F32).path
    folders = {name: tmp_path / name for name in (build.BUILDS_VARIABLE, "TMPDIR")}
    for name, folder in folders.items():
        folder.mkdir()
        monkeypatch.setenv(name, str(folder))
    monkeypatch.setenv("CXX", "false")
    written = list[int]()

    class File(io.BytesIO):
        def write(self, data: Any) -> int:
            written.append(len(data))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def temporary(*, dir: Path) -> io.BytesIO:  # noqa: A002, as of tempfile
        return File() if dir == folders[full] else io.BytesIO()

    monkeypatch.setattr(tempfile, "tempdir", str(folders["TMPDIR"]))
    monkeypatch.setattr(tempfile, "TemporaryFile", temporary)
    failure = loading._of_builds(F32)
    assert isinstance(failure, loading.Failure)
    expected = f"No space left on device: '{folders[full]}'. {full} set to a folder with room helps"
    assert expected in failure.reason
    assert written == [build._ROOM]
    assert library.stat().st_size < build._ROOM


def test_threads_that_call_at_once_build_once(monkeypatch: pytest.MonkeyPatch) -> None:
    both, tried = Barrier(2), list[torch.dtype]()

    def found(dtype: torch.dtype) -> loading.Failure:
        tried.append(dtype)
        time.sleep(0.05)
        return loading.Failure("it could not")

    def asked(_: int) -> str | None:
        both.wait(timeout=10)
        return loading.why_unavailable(torch.device("cpu"), F32)

    monkeypatch.setattr(loading, "_find_or_build", found)
    monkeypatch.setattr(loading, "_results", {})
    with ThreadPoolExecutor(2) as pool:
        assert [*pool.map(asked, range(2))] == ["it could not"] * 2
    assert tried == [F32]


def library_at(folder: Path, dtype: torch.dtype) -> Path:
    """A copy of the library for a dtype, as a wheel has it."""
    folder.mkdir()
    for file in loading.library(dtype).path.parent.iterdir():
        shutil.copy(file, folder)
    return folder / build.LIBRARY


@NEEDS_COMPILER
def test_a_library_of_a_wheel_is_taken_if_it_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right, cut = (library_at(tmp_path / name, F32) for name in ("right", "cut"))
    other_dtype = library_at(tmp_path / "other", torch.float64)
    os.truncate(cut, 10_000)
    assert isinstance(loading._of_wheel(right, F32), loading.Library)

    def why(path: Path) -> str:
        failure = loading._of_wheel(path, F32)
        assert isinstance(failure, loading.Failure)
        begin = f"The library of batched_cpu in the wheel, {path}, does not fit: "
        assert failure.reason.startswith(begin)
        assert failure.reason.endswith(
            ". Installing the wheel for this machine again helps, or deleting this file: then it is built."
        )
        return failure.reason.removeprefix(begin)

    assert why(cut).startswith("it is incomplete. ")
    assert "undefined symbol: hyperlstm_forward_float32_" in why(other_dtype)
    monkeypatch.setattr(build, "sources", lambda: "others")
    assert why(right).startswith("it was compiled from other sources. ")


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (
            "",
            pytest.warns(UserWarning, match="does not let this process use AMX. It multiplies bfloat16 by AVX512-BF16"),
        ),
        ("amx", pytest.raises(sets.WayError, match="does not let this process use AMX, which HYPERLSTM_BFLOAT16=amx")),
        ("avx512_bf16", nullcontext()),
    ],
    ids=["the fastest", "amx", "avx512_bf16"],
)
def test_a_system_that_does_not_permit_amx_is_said(named: str, expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "ways", lambda: list(sets.WAYS))
    monkeypatch.setenv(sets.WAY_VARIABLE, named)
    library = object.__new__(loading.Library)
    library._library = Mock()
    library._library.hyperlstm_use_tiles.return_value = False
    with expected:
        library._choose_way()


@pytest.mark.parametrize("constant", ["EPS", "_FLAGS"])
def test_a_library_with_other_constants_is_of_other_sources(constant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = build.sources()
    monkeypatch.setattr(build, constant, {"EPS": 1e-3, "_FLAGS": "-O1"}[constant])
    assert build.sources() != before


def writes(content: str) -> Callable[..., None]:
    """A function in place of `compile_library`, whose library has this content."""

    def compiled(*arguments: Any) -> None:
        path: Path = arguments[-1]
        path.write_text(content)
        build._digest(path).write_text(hashlib.sha256(content.encode()).hexdigest())

    return compiled


def test_a_damaged_build_is_replaced_and_one_that_another_process_finished_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "builds" / "one"
    for content, damage in (("first", "cut"), ("second", ""), ("third", "")):
        monkeypatch.setattr(build, "compile_library", writes(content))
        build.build(folder, sets.parts(F32), [])
        assert build.intact(folder / build.LIBRARY)
        if damage:
            (folder / build.LIBRARY).write_text(damage)
            assert not build.intact(folder / build.LIBRARY)
    assert (folder / build.LIBRARY).read_text() == "second"
    assert [*folder.parent.iterdir()] == [folder]


def test_an_interrupted_build_ends_its_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "compile_library", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        build.build(tmp_path / "builds" / "one", sets.parts(F32), [])
    assert capsys.readouterr().err.endswith(" failed\n")
    assert [*(tmp_path / "builds").iterdir()] == []


def test_flags_are_for_compiling_and_linking_and_objects_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = list[Sequence[str]]()

    def ran(command: Sequence[str]) -> None:
        commands.append(command)
        Path(command[-1]).touch()

    monkeypatch.setattr(build, "_run", ran)
    path = tmp_path / build.LIBRARY
    build.compile_library(["c++", "-x"], platform.machine(), [("baseline", F32)], ["-fsanitize=address"], path)
    assert len(commands) == 4
    for command in commands:
        assert command[:2] == ["c++", "-x"]
        assert "-fsanitize=address" in command
    assert {*tmp_path.iterdir()} == {path, build._digest(path)}


def test_a_source_that_does_not_compile_is_the_error_and_nothing_is_linked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    linked = list[Sequence[str]]()

    def ran(command: Sequence[str]) -> None:
        if "-shared" in command:
            linked.append(command)
        elif "library" in command[-1]:
            raise subprocess.CalledProcessError(1, command, "of the last source")

    monkeypatch.setattr(build, "_run", ran)
    with pytest.raises(subprocess.CalledProcessError) as raised:
        build.compile_library(["c++"], platform.machine(), [("baseline", F32)], [], tmp_path / build.LIBRARY)
    assert raised.value.output == "of the last source"
    assert linked == []
