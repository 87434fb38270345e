"""A wheel with the compiled library: where it has it, and in which order it is linked."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hatchling.build import build_wheel

import noxfile
from impls.batched_cpu import build
from suite.package.build_hook import compile_into
from suite.shared.files import ROOT


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """Commands of the compiler and, last, of the linker, of which none runs: they would take minutes."""
    ran = list[Sequence[str]]()

    def run(command: Sequence[str]) -> None:
        ran.append(command)
        Path(command[command.index("-o") + 1]).touch()

    monkeypatch.setattr(build, "_run", run)
    return ran


@pytest.mark.usefixtures("commands")
@pytest.mark.parametrize("architecture", noxfile.ARCHITECTURES)
def test_a_wheel_has_the_library_beside_the_code_that_loads_it(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYPERLSTM_WHEEL", architecture)
    monkeypatch.chdir(ROOT)
    name = build_wheel(str(tmp_path))
    assert name.endswith(f"-py3-none-manylinux_2_28_{architecture}.whl")
    with zipfile.ZipFile(tmp_path / name) as archive:
        archive.extractall(tmp_path)
    assert build.intact(tmp_path / "hyperlstm" / "batched_cpu" / build.LIBRARY)


def test_what_any_processor_runs_is_linked_first(commands: list[Sequence[str]], tmp_path: Path) -> None:
    """The linker keeps the first copy of an inline function, for all instruction sets."""
    compile_into(tmp_path, "x86_64")
    of_sets = [Path(word).stem.rpartition("-")[2] for word in commands[-1] if word.endswith(".o")]
    assert [*dict.fromkeys(of_sets)] == ["baseline", "avx2", "avx512", "avx512_bf16", "all"]
