"""The wheel contains `impls` alone, as `hyperlstm`."""

import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest

from suite.shared import process
from suite.shared.files import ROOT


@pytest.mark.thorough("the wheel")
def test_ships_impls_alone_under_its_import_name(tmp_path: Path) -> None:
    """Built with the tools installed here, so that no network is needed."""
    missing = [tool for tool in ("pip", "hatchling") if not any(distributions(name=tool))]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed here, so no wheel can be built")
    process.run("pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(ROOT))
    (wheel,) = tmp_path.glob("hyperlstm-*.whl")
    files = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in files} == {"hyperlstm"}
    source = {path.relative_to(ROOT / "impls").as_posix() for path in (ROOT / "impls").rglob("*") if path.is_file()}
    expected = {name for name in source if "__pycache__" not in name}
    assert {name.removeprefix("hyperlstm/") for name in files if name.startswith("hyperlstm/")} == expected
    assert "py.typed" in expected
