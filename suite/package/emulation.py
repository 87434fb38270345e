"""Runs pytest on a wheel for aarch64 under emulation: `python -m suite.package.emulation WHEEL FOLDER ARGUMENTS`.

It takes a system that has Debian's apt-get, dpkg and qemu-user-static, which stays as it is: Debian's packages for
aarch64 are unpacked into FOLDER, where apt has its state too. ARGUMENTS are pytest's, see `installed.py`.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

EMULATOR = "qemu-aarch64-static"
PYTHON = "3.13"
#: Of that Python, without libgomp1, since torch brings its own.
PACKAGES = (
    f"python{PYTHON} python{PYTHON}-minimal libpython{PYTHON}-minimal libpython{PYTHON}-stdlib libc6 libstdc++6 "
    "libgcc-s1 zlib1g libexpat1 libffi8 libbz2-1.0 liblzma5 libssl3t64 libsqlite3-0 libuuid1"
).split()


def run(command: Sequence[str], folder: Path | None = None) -> None:
    """Run a command in a folder; it prints its errors."""
    subprocess.run(command, check=True, cwd=folder)


def unpack_python(root: Path, scratch: Path) -> None:
    """Make `root` the root of a system for aarch64 that has Python; scratch: what apt downloads."""
    packages, state, cache = scratch / "packages", scratch / "state", scratch / "cache"
    for folder in (packages, state / "lists" / "partial", cache / "archives" / "partial"):
        folder.mkdir(parents=True, exist_ok=True)
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "",  # apt's own user may not see this folder
        "Dir::State": state,
        "Dir::State::status": os.devnull,  # nothing is installed
        "Dir::Cache": cache,
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    run([*apt, "update"])
    run([*apt, "download", *PACKAGES], packages)
    for package in packages.glob("*.deb"):
        run(["dpkg", "--extract", str(package), str(root)])
    (root / "lib").symlink_to("usr/lib")


def install(wheel: Path, site: Path) -> None:
    """Install a wheel and what the suite needs into a folder, for the Python that is emulated."""
    target = ["--target", str(site), "--python-platform", "aarch64-unknown-linux-gnu", "--python-version", PYTHON]
    only_wheels = ["--only-binary", ":all:", "--reinstall-package", "hyperlstm"]
    run(["uv", "pip", "install", "-q", *target, *only_wheels, "--group", "suite", str(wheel)])


def main(wheel: str, folder: str, *arguments: str) -> int:
    """Exit status of pytest, on two threads."""
    missing = [program for program in (EMULATOR, "apt-get", "dpkg") if shutil.which(program) is None]
    if missing:
        raise SystemExit(f"expected Debian with qemu-user-static, but here is no {', '.join(missing)}")
    scratch = Path(folder).absolute()
    root, site = scratch / "root", scratch / "site"
    if not (root / "lib").exists():
        unpack_python(root, scratch / "apt")
    install(Path(wheel), site)
    python = [EMULATOR, "-L", str(root), str(root / "usr" / "bin" / f"python{PYTHON}")]
    beside = [str(Path(__file__).with_name("installed.py")), str(scratch / "beside")]
    variables = {"OMP_NUM_THREADS": "2", "PYTHONPATH": str(site)}
    return subprocess.run([*python, *beside, "-p", "no:xdist", *arguments], env=os.environ | variables).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
