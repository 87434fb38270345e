"""What pip gets from the sources: an sdist that builds, a wheel for any machine, and an editable installation."""

import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from email.message import Message
from email.parser import Parser
from importlib import import_module
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import impls
import noxfile
from impls.batched_cpu import build
from suite.package import contents
from suite.package.contents import check_sdist, check_wheel
from suite.package.cross_compile import platform_tag
from suite.package.dependencies import PYPROJECT
from suite.shared.files import ROOT

BACKEND = PYPROJECT["build-system"]["build-backend"]
#: Builds as pip does: by the backend, in a process that finds neither the sources nor what they import.
BUILD = """
import importlib, sys
backend = importlib.import_module(sys.argv[1])
assert getattr(backend, f"get_requires_for_build_{sys.argv[2]}")() in ([], ["editables~=0.3"])
print(getattr(backend, f"build_{sys.argv[2]}")(sys.argv[3]))
assert "torch" not in sys.modules
"""
#: By system, markers of its requirements.
SYSTEMS = {
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"},
    "macos": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"},
    "windows": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt"},
}


def built(kind: str, source: Path, folder: Path) -> Path:
    """Build an sdist, a wheel or an editable one of a folder of sources, as one for any machine."""
    command = [sys.executable, "-I", "-c", BUILD, BACKEND, kind, str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYPERLSTM_WHEEL", "")
        name = lines_of(command, source)[-1]
    return folder / name


def lines_of(command: Sequence[str], cwd: Path) -> list[str]:
    """Lines that a command prints in a folder; AssertionError with its errors if it fails."""
    ran = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the sdist of the checkout."""
    return built("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def source(sdist: Path) -> Path:
    """Return the folder of the unpacked sdist."""
    with tarfile.open(sdist) as archive:
        archive.extractall(sdist.parent, filter="data")
    return sdist.with_name(sdist.name.removesuffix(".tar.gz"))


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    """Return a wheel of the sdist."""
    return built("wheel", source, source.parent)


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    """Return what pip reads of the wheel."""
    return about(wheel, "METADATA")


def about(wheel: Path, name: str) -> Message:
    """A file of the metadata of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (file,) = (entry for entry in archive.namelist() if entry.endswith(f".dist-info/{name}"))
        return Parser().parsestr(archive.read(file).decode())


def unpacked(wheel: Path, folder: Path) -> Path:
    """The folder, with the files of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def lines_of_code(code: str, site: Path, cwd: Path) -> list[str]:
    """Lines that code prints in a process that finds the packages of a folder, and no others of the user."""
    return lines_of([sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(site)!r})\n{code}"], cwd)


def test_an_sdist_has_every_source(sdist: Path) -> None:
    check_sdist(sdist)


def test_a_wheel_has_the_package_for_any_machine(wheel: Path) -> None:
    check_wheel(wheel)
    about_wheel = about(wheel, "WHEEL")
    assert (about_wheel["Tag"], about_wheel["Root-Is-Purelib"]) == ("py3-none-any", "true")


def without(wheel: Path, file: str, folder: Path) -> Path:
    """A wheel of the same name that lacks a file."""
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(lesser := folder / wheel.name, "w") as archive:
        for entry in whole.namelist():
            if not entry.endswith(file):
                archive.writestr(entry, whole.read(entry))
    return lesser


def test_a_wheel_without_its_licence_is_refused(wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"missing: .*licenses/impls/LICENSE"):
        check_wheel(without(wheel, "licenses/impls/LICENSE", tmp_path))


@pytest.mark.parametrize("file", contents.REQUIRED)
def test_a_wheel_of_a_checkout_that_has_lost_a_file_is_refused(
    file: str, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = [path for path in contents.files("impls") if path.name != Path(file).name]
    monkeypatch.setattr(contents, "files", lambda folder: there)
    with pytest.raises(SystemExit, match=f"expected {file}, got no such file"):
        check_wheel(without(wheel, file, tmp_path))


CALLS = """
import hyperlstm
from hyperlstm.registry import find
for name in hyperlstm.names():
    if not find(name).triton:
        find(name).run
print(hyperlstm.__file__, hyperlstm.__version__, {"impls", "suite"} & {*sys.modules}, sep="\\n")
"""


def test_a_wheel_needs_no_checkout(wheel: Path, metadata: Message, tmp_path: Path) -> None:
    site = unpacked(wheel, tmp_path / "two words")
    expected = [str(site / "hyperlstm" / "__init__.py"), metadata["Version"], "set()"]
    assert lines_of_code(CALLS, site, tmp_path) == expected


@pytest.mark.parametrize("architecture", noxfile.ARCHITECTURES)
def test_a_wheel_with_the_library_is_one_of_its_machine(
    architecture: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here nothing is compiled, which takes minutes."""

    def run(command: Sequence[str]) -> None:
        Path(command[command.index("-o") + 1]).touch()

    monkeypatch.setattr(build, "_run", run)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("HYPERLSTM_WHEEL", architecture)
    monkeypatch.chdir(source)
    wheel = tmp_path / import_module(BACKEND).build_wheel(str(tmp_path))
    about_wheel = about(wheel, "WHEEL")
    tag = f"py3-none-{platform_tag(architecture)}"
    assert (about_wheel["Tag"], about_wheel["Root-Is-Purelib"]) == (tag, "false")
    assert wheel.name.endswith(f"-{tag}.whl")
    assert build.intact(unpacked(wheel, tmp_path / "site") / "hyperlstm" / "batched_cpu" / build.LIBRARY)


def test_the_metadata_tells_what_a_user_reads(metadata: Message, source: Path) -> None:
    assert metadata["Version"] == impls.__version__
    assert metadata.get_payload() == (source / "README.md").read_text(encoding="utf-8")
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert f"Licence: [{metadata['License-Expression']}]({metadata['License-File']})" in str(metadata.get_payload())
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])


@pytest.mark.parametrize("version", ["3.10.19", "3.11.0", "3.12.1", "3.13.0", "3.14.0", "3.20.1"])
def test_pip_finds_the_package_for_each_python_that_runs_it(version: str, metadata: Message) -> None:
    """Those of two digits and those to come too."""
    assert SpecifierSet(metadata["Requires-Python"]).contains(version) == (version != "3.10.19")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_pip_installs_torch_and_where_it_is_asked_for_triton(system: str, machine: str, metadata: Message) -> None:
    """Triton has no wheels but those for Linux; an extra that no system can install is an error everywhere."""
    extras = metadata.get_all("Provides-Extra", [])
    for extra in ("", *extras):
        for version in ("3.11", "3.14"):
            markers = SYSTEMS[system] | {"platform_machine": machine, "python_version": version, "extra": extra}
            requires = map(Requirement, metadata.get_all("Requires-Dist", []))
            names = {one.name for one in requires if one.marker is None or one.marker.evaluate(markers)}
            assert names == ({"torch", "triton"} if extra and system == "linux" else {"torch"})


def test_the_extras_that_pages_and_sentences_name_exist(metadata: Message) -> None:
    texts = [ROOT / "README.md", *ROOT.glob("impls/**/*.md"), *ROOT.glob("impls/**/*.py")]
    named = {extra for text in texts for extra in re.findall(r"(?:hyperlstm|\.)\[(\w+)\]", text.read_text("utf-8"))}
    assert named == {*metadata.get_all("Provides-Extra", [])}


def test_edits_of_an_editable_installation_take_effect(source: Path, tmp_path: Path) -> None:
    """The last test, since it edits the sources."""
    site = unpacked(built("editable", source, tmp_path), tmp_path / "site")
    assert not (site / "hyperlstm").exists()
    edited = source / "impls" / "__init__.py"
    edited.write_text("EDITED = True\n", encoding="utf-8")
    (source / "impls" / "added.py").write_text("NAME = __name__\n", encoding="utf-8")
    code = "import hyperlstm.added; print(hyperlstm.EDITED, hyperlstm.__file__, hyperlstm.added.NAME, sep='\\n')"
    assert lines_of_code(code, site, tmp_path) == ["True", str(edited), "hyperlstm.added"]
