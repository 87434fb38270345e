"""Checks the files of a wheel and an sdist against those of the checkout: `WHEEL SDIST`."""

import sys
import tarfile
import zipfile
from collections.abc import Collection
from email.parser import Parser
from pathlib import Path

from suite.shared.files import ROOT

#: Files of an sdist beside those of folders; the last two are made by hatchling.
SINGLE = ("README.md", "noxfile.py", "pyproject.toml", ".gitignore", "PKG-INFO")


#: Files that a wheel has even where the checkout has lost them: pyproject.toml promises one, the other is compiled.
REQUIRED = ("hyperlstm/py.typed", "hyperlstm/batched_cpu/library.cpp")


def files(folder: str) -> list[Path]:
    """Files of a folder of the checkout that are under version control."""
    paths = (path.relative_to(ROOT) for path in sorted((ROOT / folder).rglob("*")) if path.is_file())
    return [path for path in paths if "__pycache__" not in path.parts]


def compare(archive: Path, expected: Collection[str], found: Collection[str]) -> None:
    """SystemExit names the files that an archive lacks, or has beyond those expected."""
    missing, unexpected = sorted({*expected} - {*found}), sorted({*found} - {*expected})
    if missing or unexpected:
        raise SystemExit(f"{archive.name}: missing: {missing or 'nothing'}; unexpected: {unexpected or 'nothing'}")
    print(f"{archive.name}: {len(found)} files")


def check_wheel(archive: Path) -> None:
    """SystemExit unless the wheel has the package under its name, and metadata."""
    with zipfile.ZipFile(archive) as wheel:
        described = "-".join(archive.name.split("-")[:2]) + ".dist-info"
        package = [str(Path("hyperlstm", *path.parts[1:])) for path in files("impls")]
        about = [f"{described}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "licenses/impls/LICENSE")]
        compare(archive, [*package, *about], wheel.namelist())
        if lost := {*REQUIRED} - {*wheel.namelist()}:
            raise SystemExit(f"{archive.name}: expected {', '.join(sorted(lost))}, got no such file")
        metadata = Parser().parsestr(wheel.read(f"{described}/METADATA").decode())
    if metadata["Name"] != "hyperlstm" or not metadata.get_payload():
        raise SystemExit(f"{archive.name}: expected the name hyperlstm and README.md, got {metadata['Name']}")


def check_sdist(archive: Path) -> None:
    """SystemExit unless the sdist has the sources of the package and of the suite."""
    with tarfile.open(archive) as sdist:
        found = [str(Path(*Path(entry.name).parts[1:])) for entry in sdist.getmembers() if entry.isfile()]
    compare(archive, [*SINGLE, *map(str, (*files("impls"), *files("suite")))], found)


if __name__ == "__main__":
    check_wheel(Path(sys.argv[1]))
    check_sdist(Path(sys.argv[2]))
