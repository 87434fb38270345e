"""The commands of the project: `nox -s` with a name, or several. `nox --list` says what each does."""

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import nox
from packaging.requirements import Requirement

nox.needs_version = ">=2025.5.1"
nox.options.sessions = ["lint", "verify"]
nox.options.reuse_venv = "yes"
nox.options.default_venv_backend = "uv|virtualenv"  # which installs in a third of the time, where it is there

PYPROJECT = nox.project.load_toml("pyproject.toml")
CHECKS = "suite/checks"
#: cuBLAS warns without it where torch is to be deterministic, as in checks, which fill memory without a value with NaN.
CUBLAS = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
#: labml's implementation, whose own requirements pin much that it does not import.
LABML = ("--no-deps", *nox.project.dependency_groups(PYPROJECT, "labml"))
#: A session that runs in the environment of `environment`, so that torch is installed once for all of these.
shared = nox.session(venv_backend="none", requires=["environment"])


#: Options of pytest: one process per core, and the tests of a file in one, which share what it makes.
WORKERS = ("-q", "--numprocesses=auto", "--dist=loadscope", "--no-loadscope-reorder", "-p", "no:benchmark")


def ended_after(seconds: int) -> tuple[str, ...]:
    """Options of pytest: print where a test is that takes more than so many seconds, and end its process."""
    return ("-o", f"faulthandler_timeout={seconds}", "-o", "faulthandler_exit_on_timeout=true")


#: More than any test takes that ends.
HANGS = ended_after(1000)
#: Where no test takes long: of a file of `--impl`, and on a GPU, which waits for ever in a kernel that hangs.
HANGS_SOON = ended_after(120)
#: With `--impl`: tests of one file share nothing, so each process takes the next.
SUBMITTED = ("--dist=worksteal", *HANGS_SOON)
#: Seconds that a command has to write its results after Ctrl-C.
TO_WRITE = 60.0


def install(session: nox.Session, group: str, *options: str) -> None:
    """Install what the module and the group need; the project itself runs from the checkout."""
    # As pip does and uv does not: else each process compiles torch again where Python keeps no bytecode.
    session.install(*options, *needed(group), env={"UV_COMPILE_BYTECODE": "1"})


def needed(group: str) -> list[str]:
    """Requirements of the module, with Triton, and of the group."""
    project = PYPROJECT["project"]
    own = (*project["dependencies"], *project["optional-dependencies"]["cuda"])
    return [*own, *nox.project.dependency_groups(PYPROJECT, group)]


def bin_of(session: nox.Session) -> Path:
    """Folder of the session's executables, or of the shared ones."""
    if session.venv_backend != "none":
        return Path(session.bin)
    return (session.cache_dir.parent / "environment" / ("Scripts" if os.name == "nt" else "bin")).absolute()


def run(session: nox.Session, *arguments: str, before: Sequence[str] = (), **env: str) -> None:
    """Run Python; before: a command that starts it. Its tools are on the path.

    Paths of the command line are relative to where nox was called, see `suite.shared.files.path_of`.
    """
    folder = bin_of(session)
    env = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "HYPERLSTM_INVOKED_FROM": session.invoked_from, **env}
    python = str(folder / "python")
    session.run(*before, python, *arguments, env=env, external=True, interrupt_timeout=TO_WRITE, terminate_timeout=5)


@nox.session
def environment(session: nox.Session) -> None:
    """Install what checks and measurements need, once."""
    install(session, "suite")
    session.install(*nox.project.dependency_groups(PYPROJECT, "external"))
    session.install(*LABML)


@shared
def verify(session: nox.Session) -> None:
    """Check every implementation that runs here; `-- --thorough` adds slow and internal checks."""
    submitted = any(argument.startswith("--impl") for argument in session.posargs)
    on_gpu = HANGS_SOON if shutil.which("nvidia-smi") else ()
    pytest(session, [CHECKS], *(SUBMITTED if submitted else on_gpu))


def with_files(arguments: Sequence[str]) -> list[str]:
    """Arguments with `--impl a.py b.py` as `--impl=a.py --impl=b.py`.

    Otherwise pytest, which learns its options from suite/conftest.py, first loads a conftest.py that is near the file.
    """
    spelled: list[str] = []
    in_files = False
    for argument in arguments:
        in_files = argument == "--impl" or (in_files and not argument.startswith("-"))
        if not in_files or argument == "--impl":
            spelled.append(argument)
            continue
        if spelled[-1] == "--impl":
            spelled.pop()
        spelled.append(f"--impl={argument}")
    return spelled


def pytest(
    session: nox.Session, places: Sequence[str], *options: str, start: Sequence[str] = ("-m", "pytest"), **env: str
) -> None:
    """Run tests, see WORKERS.

    places: folders and files of suite/, unless the command line names others. options: those of the command line win,
        since they come last. start: what runs pytest.
    """
    asked = with_files(session.posargs)
    if any(Path(argument).parts[:1] == ("suite",) for argument in asked):
        places = ()
    # Where processes share cores, a thread that waits should not keep a core from them.
    env = {"OMP_WAIT_POLICY": "passive", **CUBLAS, **env}
    run(session, *start, *WORKERS, *HANGS, *options, *places, *asked, **env)


@shared
def cuda(session: nox.Session) -> None:
    """Check on an NVIDIA GPU, in at most 5 minutes, what only a GPU can show; arguments go to pytest."""
    run(session, "-m", "suite.checks.kernels.native", *session.posargs, **CUBLAS)


@shared
def bench(session: nox.Session) -> None:
    """Time the implementations; `-- --help` shows what can be chosen."""
    run(session, "-m", "suite.bench", *session.posargs)


@shared
def report(session: nox.Session) -> None:
    """Make the tables again from the CSV files under results/."""
    run(session, "-m", "suite.report", *session.posargs)


@shared
def compare(session: nox.Session) -> None:
    """Compare two results, `-- OLD NEW`, or this code with a revision, `-- --base REV`; fails on a regression."""
    run(session, "-m", "suite.bench_compare", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, types and imports between packages."""
    session.install(*needed("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports")
    sources = [str(file) for file in sorted(Path().glob("[is]*/**/*.*")) if file.suffix in (".h", ".cpp")]
    session.run("clang-format", "--dry-run", "--Werror", *sources)


@shared
def selftest(session: nox.Session) -> None:
    """Check the suite's own machinery: timing, results, pages and commands; arguments go to pytest."""
    folders = ("shared", "cases", "comparison", "candidates", "results", "measure", "pages", "package")
    commands = [str(file) for file in sorted(Path("suite").glob("test_*.py"))]
    pytest(session, [*(f"suite/{folder}" for folder in folders), *commands])


@nox.session(reuse_venv=False)
def package(session: nox.Session) -> None:
    """Build a wheel, an sdist and an editable installation, and check what they hold and that they import alone."""
    scratch = Path(session.create_tmp()).absolute()
    shutil.rmtree(scratch)
    session.install("uv")
    run(session, "-m", "uv", "build", "-q", "--out-dir", str(scratch))  # the wheel from the sdist
    (wheel,), (sdist,) = scratch.glob("*.whl"), scratch.glob("*.tar.gz")
    run(session, "-m", "suite.package.contents", str(wheel), str(sdist))
    session.install(str(wheel))
    imported = Path("suite/package/imported.py").absolute()
    with session.chdir(scratch):
        run(session, str(imported), str(bin_of(session).parent))
    shutil.unpack_archive(sdist, scratch, "tar", filter="data")
    (source,) = (path for path in scratch.iterdir() if path.is_dir())
    session.install("--editable", str(source))
    with session.chdir(scratch):
        run(session, str(imported), str(source))
        with (source / "impls" / "convert.py").open("a", encoding="utf-8") as file:
            file.write("EDITED = True\n")
        run(session, "-c", "import hyperlstm; hyperlstm.convert.EDITED")


#: Tests of commands that take more of pandas than checks do.
OF_PANDAS = ("suite/results", "suite/measure/test_bench_compare.py", "suite/pages")


def lowest_of(text: str) -> str:
    """A requirement of the lowest version that another one allows."""
    requirement = Requirement(text)
    versions = [bound.version for bound in requirement.specifier if bound.operator == ">="]
    marker = f"; {requirement.marker}" if requirement.marker else ""
    return "".join([requirement.name, *(f"=={version}" for version in versions), marker])


@nox.session
def lowest(session: nox.Session) -> None:
    """Verify, compare and report with the lowest versions that pyproject.toml allows; arguments go to pytest."""
    # `create_tmp` would move the tests' temporary files into this checkout.
    constraints = bin_of(session).parent / "lowest.txt"
    constraints.write_text("\n".join(map(lowest_of, needed("suite"))))
    install(session, "suite", "--constraint", str(constraints))
    session.install(*LABML)
    pytest(session, [CHECKS, *OF_PANDAS])


@nox.session
def export(session: nox.Session) -> None:
    """Check models exported to ONNX under onnxruntime, which `verify` does not install; arguments go to pytest."""
    install(session, "export")
    run(session, "-c", "import onnx, onnxruntime, onnxscript")  # tests are skipped without one
    pytest(session, ["suite/checks/module"], "-m", "onnx")


@nox.session
@nox.parametrize("triton", ["newest", "of-torch-cuda", "lowest-triton"])
def kernels(session: nox.Session, triton: str) -> None:
    """Interpret and compile every Triton kernel for six kinds of card; with two older Tritons, a subset for one kind.

    Arguments go to pytest: `-- --thorough` takes some kernels and one card.
    """
    install(session, "suite")
    if triton != "newest":
        session.install(*nox.project.dependency_groups(PYPROJECT, triton))
    elif not session.posargs:
        run(session, "-m", "suite.checks.kernels.compiled")
    rounding = "suite/checks/kernels/test_interpreter.py::test_with_the_interpreter_on[rounding]"
    interpret = ("--thorough", "--results", session.create_tmp())
    pytest(session, ["suite/checks/kernels/test_kernels.py", rounding], *(() if session.posargs else interpret))


#: The oldest clang that batched_cpu is to build with.
CLANG = "clang++-14"
#: Runs pytest once batched_cpu is built in each dtype.
BUILT = "suite.checks.kernels.built"
#: Options of pytest that choose the cases of batched_cpu.
BATCHED_CPU = ("-m", "impl(name='batched_cpu')")


@nox.session
def platforms(session: nox.Session) -> None:
    """Compile batched_cpu for aarch64, and check it as built with clang 14."""
    install(session, "suite")
    session.install(*nox.project.dependency_groups(PYPROJECT, "wheel"))
    scratch = Path(session.create_tmp()).absolute()
    (compiled := scratch / "compiled").mkdir(exist_ok=True)
    run(session, "-m", "suite.package.cross_compile", "aarch64", str(compiled), HYPERLSTM_CXXFLAGS="-O0")
    if shutil.which(CLANG) is None:
        session.skip(f"compiled for aarch64; not run with {CLANG}, which is not here")
    env = {"CXX": CLANG, "TORCH_EXTENSIONS_DIR": str(scratch / "extensions")}
    files = [f"suite/checks/{file}" for file in ("equality/test_equality.py", "kernels/test_split.py")]
    pytest(session, files, *BATCHED_CPU, "--results", str(scratch / "results"), start=("-m", BUILT), **env)


#: The architectures of wheels.
ARCHITECTURES = ("x86_64", "aarch64")


@nox.session
def wheel(session: nox.Session) -> None:
    """Write wheels with batched_cpu compiled, for Linux on x86-64 and aarch64, to dist/; `-- aarch64` only that."""
    session.install(*needed("wheel"))
    for architecture in session.posargs or ARCHITECTURES:
        wheel_of(session, architecture)


def wheel_of(session: nox.Session, architecture: str) -> Path:
    """Build one wheel, and return its path in dist/; suite/package/build_hook.py compiles and tags it."""
    build = ("-m", "hatchling", "build", "-t", "wheel", "-d", "dist")
    run(session, *build, HYPERLSTM_WHEEL=architecture)
    (built,) = Path("dist").glob(f"hyperlstm-*_{architecture}.whl")
    run(session, "-m", "auditwheel", "show", str(built))
    return built.absolute()


#: The environments in which a wheel is checked: a Python, and a torch.
INSTALLED = (("3.11", "torch==2.11.0"), ("3.13", "torch"))


@nox.session
def installed(session: nox.Session) -> None:
    """Check the wheel where there is no compiler, with the oldest and the newest torch, and Python 3.11 and 3.13."""
    architecture = platform.machine()
    if architecture not in ARCHITECTURES:
        session.error(f"there are wheels for {' and '.join(ARCHITECTURES)}, and this machine is {architecture}")
    session.install(*needed("wheel"), "uv")
    scratch, built = Path(session.create_tmp()).absolute(), wheel_of(session, architecture)
    checks = "equality/test_equality.py", "kernels/test_split.py", "module/test_capabilities.py"
    for version, torch in INSTALLED:
        folder = scratch / f"python{version}"
        python = folder / "bin" / "python"
        run(session, "-m", "uv", "venv", "-q", "--clear", "--python", version, str(folder))
        run(session, "-m", "uv", "pip", "install", "-q", "--python", str(python), *needed("suite"), torch, str(built))
        env = {"PATH": str(python.parent), "PYTHONDONTWRITEBYTECODE": "1"}
        session.run(str(python), "suite/package/first_call.py", env=env, external=True)
        beside = suite_beside(folder / "lib" / f"python{version}" / "site-packages", folder / "suite")
        results = ("--results", str(scratch / "results" / version), "--rootdir", str(beside))
        files = [f"suite/checks/{file}" for file in checks]
        with session.chdir(beside):
            options = ("-q", "-p", "no:benchmark", "-p", "no:cacheprovider", *results)
            session.run(str(python), "-m", "pytest", *options, *files, *BATCHED_CPU, env=env, external=True)


def suite_beside(site: Path, folder: Path) -> Path:
    """Make a folder with the suite, and beside it an installed package by the name that the suite imports it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "impls").symlink_to(site / "hyperlstm")
    (folder / "suite").symlink_to(Path("suite").absolute())
    return folder


#: Debian's packages of a Python for aarch64, which are unpacked, not installed, and what emulates that processor. No
#: libgomp1, since torch brings its own.
EMULATOR = "qemu-aarch64-static"
PYTHON = "3.13"
PACKAGES = (
    f"python{PYTHON} python{PYTHON}-minimal libpython{PYTHON}-minimal libpython{PYTHON}-stdlib libc6 libstdc++6 "
    "libgcc-s1 zlib1g libexpat1 libffi8 libbz2-1.0 liblzma5 libssl3t64 libsqlite3-0 libuuid1"
).split()


@nox.session
def emulation(session: nox.Session) -> None:
    """Check the wheel's library for aarch64 under emulation, on two threads; takes Debian and qemu-user-static."""
    if shutil.which(EMULATOR) is None or shutil.which("apt-get") is None:
        session.error(f"aarch64 is not emulated, which takes {EMULATOR} and Debian's apt-get")
    session.install(*needed("wheel"), "uv")
    scratch = Path(session.create_tmp()).absolute()
    root, site = aarch64(session, scratch, wheel_of(session, "aarch64"))
    beside = suite_beside(site, scratch / "suite")
    env = {"OMP_NUM_THREADS": "2", "PYTHONPATH": f"{beside}{os.pathsep}{site}", "PYTHONDONTWRITEBYTECODE": "1"}
    python = (EMULATOR, "-L", str(root), str(root / "usr" / "bin" / f"python{PYTHON}"))
    without = ("-p", "no:benchmark", "-p", "no:xdist", "-p", "no:cacheprovider", "--rootdir", str(beside))
    cases = ("suite/checks/equality/test_equality.py", *BATCHED_CPU)
    with session.chdir(beside):
        results = ("--results", str(scratch / "aarch64-results"))
        session.run(*python, "-m", BUILT, "-q", *without, *cases, *results, env=env, external=True)


def aarch64(session: nox.Session, scratch: Path, built: Path) -> tuple[Path, Path]:
    """Folders of a system with Python, and of the wheel with the packages that the suite needs, for aarch64."""
    root, site, packages = scratch / "root", scratch / "site", scratch / "packages"
    if not (root / "lib").exists():
        packages.mkdir(exist_ok=True)
        session.run("dpkg", "--add-architecture", "arm64", external=True)
        session.run("apt-get", "update", "-qq", external=True, silent=True)
        with session.chdir(packages):
            session.run(
                "apt-get", "download", "-qq", *(f"{name}:arm64" for name in PACKAGES), external=True, silent=True
            )
        for package in packages.iterdir():
            session.run("dpkg", "-x", str(package), str(root), external=True, silent=True)
        (root / "lib").symlink_to("usr/lib")
    platform = ("--python-platform", "aarch64-unknown-linux-gnu", "--python-version", PYTHON, "--only-binary", ":all:")
    wheels = [text for text in needed("suite") if Requirement(text).name not in ("triton", "pytest-benchmark")]
    install = ("-m", "uv", "pip", "install", "-q", "--reinstall-package", "hyperlstm")
    run(session, *install, *platform, "--target", str(site), *wheels, str(built))
    return root, site


@shared
def sanitize(session: nox.Session) -> None:
    """Check batched_cpu under the address, undefined-behaviour and thread sanitizers; takes GCC on Linux."""
    # Python and torch leave much to the end of the process.
    flags = "-fsanitize=address,undefined -fno-sanitize-recover=all -DHYPERLSTM_POISON"
    options = {"ASAN_OPTIONS": "detect_leaks=0"}
    sanitized(session, ("asan", "ubsan"), flags, options, "-m", "address_sanitizer and impl(name='batched_cpu')")
    # Groups of std::thread, and nothing else in parallel: this sanitizer does not see OpenMP's barriers.
    options = {"TSAN_OPTIONS": "exitcode=66", "OMP_NUM_THREADS": "1"}
    flags = "-fsanitize=thread -DHYPERLSTM_STD_THREADS"
    sanitized(session, ("tsan",), flags, options, "-m", "thread_sanitizer and impl(name='batched_cpu')")


def sanitized(
    session: nox.Session, libraries: Sequence[str], flags: str, options: Mapping[str, str], *arguments: str
) -> None:
    """Run pytest with batched_cpu built under sanitizers, whose libraries Python is started with."""
    paths = [
        subprocess.run(["g++", f"-print-file-name=lib{name}.so"], capture_output=True, text=True, check=True).stdout
        for name in libraries
    ]
    scratch = Path(session.create_tmp()) / "-".join(libraries)
    env = {
        "HYPERLSTM_CXXFLAGS": f"-O1 -g -fno-omit-frame-pointer {flags}",
        "LD_PRELOAD": ":".join(map(str.strip, paths)),
        "TORCH_EXTENSIONS_DIR": str(scratch),
        **options,
    }
    # What a sanitizer says is not kept by pytest, since the process ends with it.
    thorough = ("--thorough", "--capture=sys", "--results", str(scratch / "results"))
    # The thread sanitizer wants memory where it expects it.
    run(session, "-m", BUILT, *arguments, *thorough, before=("setarch", "-R"), **env)


@nox.session(requires=["environment"])
def mutate(session: nox.Session) -> None:
    """Score tests by mutants: `-- --seed 7 --n 40 suite/measure`, or of another folder of suite/, or impls."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "mutate"))
    python = session.cache_dir.parent / "environment" / "bin" / "python"
    session.run("python", "-m", "suite.mutate", f"{python.absolute()} -m pytest {' '.join(WORKERS)}", *session.posargs)
