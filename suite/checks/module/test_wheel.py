"""The wheel contains `impls` alone, as `hyperlstm`."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from email import message_from_bytes
from importlib.metadata import distributions
from pathlib import Path

import pytest

from suite.shared.files import ROOT

pytestmark = pytest.mark.thorough("the wheel in a clean environment")
USE = """
import importlib.util, torch
from hyperlstm import HyperLSTM, names, why_unavailable
assert importlib.util.find_spec("impls") is None and importlib.util.find_spec("suite") is None
for name in names():
    if why_unavailable(name, "cpu") is None:
        model = HyperLSTM(5, 16, 8, 4, 2, layer_norm=True, impl=name)
        out, state = model(torch.randn(3, 3, 5, requires_grad=True))
        out.sum().backward()
        assert out.shape == (3, 3, 16) and all(p.grad is not None for p in model.parameters())
        print(name)
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Output of a command that runs outside the checkout; if it fails, its output is the message."""
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel once, with the build tool that is installed here, so that no network is needed."""
    missing = [tool for tool in ("pip", "hatchling") if not any(distributions(name=tool))]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed here, so no wheel can be built")
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, ROOT, cwd=folder)
    (built,) = folder.glob("hyperlstm-*.whl")
    return built


def test_ships_impls_alone_under_its_import_name(wheel: Path) -> None:
    files = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in files} == {"hyperlstm"}
    source = {path.relative_to(ROOT / "impls").as_posix() for path in (ROOT / "impls").rglob("*") if path.is_file()}
    expected = {name for name in source if "__pycache__" not in name}
    assert {name.removeprefix("hyperlstm/") for name in files if name.startswith("hyperlstm/")} == expected
    assert "py.typed" in expected


def test_has_licence_classifiers_and_two_requirements(wheel: Path) -> None:
    files = zipfile.ZipFile(wheel)
    (described,) = (name for name in files.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = message_from_bytes(files.read(described))
    required = {line.split(">")[0] for line in metadata.get_all("Requires-Dist", [])}
    assert required == {"torch", "triton"}
    assert "Programming Language :: Python :: 3.11" in metadata.get_all("Classifier", [])
    licence = f"{Path(described).parent}/licenses/{metadata['License-File']}"
    assert files.read(licence).startswith(b"MIT License")


def test_works_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    """The environment has the wheel alone, and torch from here instead of another download."""
    venv.create(tmp_path / "clean", with_pip=False)
    python = tmp_path / "clean" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])", cwd=tmp_path).strip())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
    run(*pip, site, wheel, cwd=tmp_path)
    (site / "torch_from_here.pth").write_text(sysconfig.get_paths()["purelib"])
    assert "batched" in run(python, "-c", USE, cwd=tmp_path)
