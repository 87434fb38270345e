"""Checks the files of a wheel and an sdist against those of the checkout: `WHEEL SDIST`."""

import sys
import tarfile
import zipfile
from collections.abc import Collection
from email.parser import Parser
from pathlib import Path

from packaging.utils import parse_wheel_filename

from suite.shared.files import ROOT

#: Files of an sdist beside those of folders; the last two are made by hatchling.
SINGLE = ("README.md", "noxfile.py", "pyproject.toml", ".gitignore", "PKG-INFO")


#: Files that a wheel has even where the checkout has lost them: pyproject.toml promises one, the other is compiled.
REQUIRED = ("hyperlstm/py.typed", "hyperlstm/batched_cpu/library.cpp")


def files(folder: str) -> list[Path]:
    """All files of a folder of the checkout but Python's caches; git need not know them."""
    paths = []
    for path in sorted((ROOT / folder).rglob("*")):
        relative = path.relative_to(ROOT)
        if path.is_file() and "__pycache__" not in relative.parts:
            paths.append(relative)
    return paths


def compare(archive: Path, expected: Collection[str], names: Collection[str]) -> None:
    """SystemExit names the files that an archive lacks, or has beyond those expected."""
    missing = sorted(set(expected) - set(names))
    unexpected = sorted(set(names) - set(expected))
    if missing or unexpected:
        raise SystemExit(f"{archive.name}: missing: {missing or 'nothing'}; unexpected: {unexpected or 'nothing'}")
    print(f"{archive.name}: {len(names)} files")


def check_wheel(archive: Path) -> None:
    """SystemExit unless the wheel has the package under its name, and metadata."""
    with zipfile.ZipFile(archive) as wheel:
        name, version, _, _ = parse_wheel_filename(archive.name)
        described = f"{name}-{version}.dist-info"
        package = [str(Path("hyperlstm", *path.parts[1:])) for path in files("impls")]
        about = [f"{described}/{file}" for file in ("METADATA", "WHEEL", "RECORD", "licenses/impls/LICENSE")]
        names = wheel.namelist()
        compare(archive, [*package, *about], names)
        lost = set(REQUIRED) - set(names)
        if lost:
            raise SystemExit(f"{archive.name}: expected {', '.join(sorted(lost))}, got no such file")
        metadata = Parser().parsestr(wheel.read(f"{described}/METADATA").decode())
    if metadata["Name"] != "hyperlstm" or not metadata.get_payload():
        raise SystemExit(f"{archive.name}: expected the name hyperlstm and README.md, got {metadata['Name']}")


def check_sdist(archive: Path) -> None:
    """SystemExit unless the sdist has the sources of the package and of the suite."""
    with tarfile.open(archive) as sdist:
        paths = [Path(entry.name) for entry in sdist.getmembers() if entry.isfile()]
    names = [str(Path(*path.parts[1:])) for path in paths]
    expected = [str(path) for path in (*files("impls"), *files("suite"))]
    compare(archive, [*SINGLE, *expected], names)


if __name__ == "__main__":
    check_wheel(Path(sys.argv[1]))
    check_sdist(Path(sys.argv[2]))
