"""The library that a wheel has: where it runs, in which order it is linked, and that it is taken for whole."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import distribution
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import noxfile
from impls.batched_cpu import build
from suite.package.cross_compile import compile_into, platform_tag
from suite.shared.files import ROOT

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


@pytest.mark.parametrize("architecture", noxfile.ARCHITECTURES)
def test_the_library_is_compiled_for_the_machines_of_its_tag(
    architecture: str, commands: list[Sequence[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(build.FLAGS_VARIABLE, "-O1 '-DWORDS=two words'")
    compile_into(tmp_path, architecture)
    *version, machine = re.findall(r"manylinux_(\d+)_(\d+)_(\w+)", platform_tag(architecture))[0]
    assert machine == architecture
    for command in commands:
        assert command[1:3] == ["-m", "ziglang"]
        assert command[command.index("-target") + 1] == f"{machine}-linux-gnu.{'.'.join(version)}"
        assert {"-O1", "-DWORDS=two words"} <= {*command}
    vectors = [word for command in commands for word in command if word.startswith("-mavx")]
    assert bool(vectors) == (architecture == "x86_64")


#: Stands in for pytest, and prints what `beside.py` has made of the process.
PYTEST = """
import os, sys
from importlib.util import find_spec
def main(words):
    print(os.getcwd(), find_spec("impls").origin, find_spec("suite").origin, sys.dont_write_bytecode, *words, sep="\\n")
    return 5
"""


def test_the_suite_is_run_on_the_installed_package(tmp_path: Path) -> None:
    """By the name of its folder in a checkout, which is not the checkout's."""
    (site := tmp_path / "site").mkdir()
    (site / "pytest.py").write_text(PYTEST)
    folder = tmp_path / "two words"
    command = [sys.executable, str(ROOT / "suite" / "package" / "beside.py"), str(folder), "suite/checks", "-x"]
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)

    assert "expected an environment with hyperlstm, but it is not installed there" in run().stderr
    (site / "hyperlstm").mkdir()
    (site / "hyperlstm" / "__init__.py").touch()
    folder.mkdir()
    (folder / "impls").mkdir()  # of an earlier run
    ran = run()
    assert ran.returncode == 5, ran.stderr
    cwd, package, suite, no_bytecode, *words = ran.stdout.splitlines()
    assert Path(package).resolve() == site / "hyperlstm" / "__init__.py"
    assert (cwd, suite, no_bytecode) == (str(folder), str(folder / "suite" / "__init__.py"), "True")
    assert words[-2:] == ["suite/checks", "-x"]
    assert "suite.checks.cpu.built" in words, "without a library, tests would be skipped"


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
