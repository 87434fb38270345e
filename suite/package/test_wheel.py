"""The library that a wheel has: where it runs, in which order it is linked, and that it is taken for whole."""

import re
import shutil
from collections.abc import Sequence
from importlib.metadata import distribution
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import noxfile
from impls.batched_cpu import build
from suite.package.cross_compile import compile_into, platform_tag

#: An architecture with several instruction sets.
ARCHITECTURE = "x86_64"


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """Commands of the compiler and, last, of the linker, of which none runs: they would take a minute."""
    ran = list[Sequence[str]]()

    def run(command: Sequence[str]) -> None:
        ran.append(command)
        Path(command[command.index("-o") + 1]).touch()

    monkeypatch.setattr(build, "_run", run)
    return ran


@pytest.mark.usefixtures("commands")
def test_the_files_of_a_wheel_are_a_library_that_is_taken(tmp_path: Path) -> None:
    (made := tmp_path / "made").mkdir()
    (installed := tmp_path / "installed").mkdir()
    for file in compile_into(made, ARCHITECTURE):
        shutil.copy(file, installed)
    assert build.intact(installed / build.LIBRARY)


def test_what_any_processor_runs_is_linked_first(commands: list[Sequence[str]], tmp_path: Path) -> None:
    """The linker keeps the first copy of an inline function, for all instruction sets."""
    compile_into(tmp_path, ARCHITECTURE)
    of_sets = [Path(word).stem.rpartition("-")[2] for word in commands[-1] if word.endswith(".o")]
    assert [*dict.fromkeys(of_sets)] == ["baseline", "avx2", "avx512", "avx512_bf16", "all"]


def test_a_wheel_takes_no_newer_c_library_than_torch() -> None:
    versions = r"manylinux_(\d+)_(\d+)"
    torchs = re.findall(versions, distribution("torch").read_text("WHEEL") or "")
    if not torchs:
        pytest.skip("torch is not from a wheel that names its C library")
    ((major, minor),) = re.findall(versions, platform_tag(ARCHITECTURE))
    assert (int(major), int(minor)) <= min((int(major), int(minor)) for major, minor in torchs)


def test_the_wheel_that_was_built_is_checked_and_no_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In dist/, 0.9.0 sorts after 0.10.0."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dist").mkdir()
    older = "hyperlstm-0.9.0-py3-none-manylinux_2_28_x86_64.whl"
    built = "hyperlstm-0.10.0-py3-none-manylinux_2_28_x86_64.whl"
    (tmp_path / "dist" / older).touch()

    def python(_: object, *arguments: str, **variables: str) -> None:
        if "build" in arguments:
            folder = Path(arguments[arguments.index("-d") + 1])
            folder.mkdir(parents=True, exist_ok=True)
            (folder / built).touch()

    monkeypatch.setattr(noxfile, "python", python)
    session: Any = SimpleNamespace(create_tmp=lambda: str(tmp_path / "scratch"))
    assert noxfile.build_wheel(session, ARCHITECTURE).name == built
    assert {path.name for path in (tmp_path / "dist").iterdir()} == {older, built}
