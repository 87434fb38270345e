"""The commands of the project: `nox -s NAME`, or several names."""

import os
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.sessions = ["lint", "verify"]
nox.options.reuse_venv = "yes"
nox.options.default_venv_backend = "uv|virtualenv"  # which installs in a third of the time, where it is there

PYPROJECT = nox.project.load_toml("pyproject.toml")
#: Tests that show whether a build of batched_cpu is right.
EQUALITY = "suite/checks/equality/test_equality.py::test_small_sizes"
SPLIT = "suite/checks/cpu/test_split.py"
CAPABILITIES = "suite/checks/module/test_capabilities.py"
#: The cases of batched_cpu among tests.
BATCHED_CPU = "impl(name='batched_cpu')"
#: The architectures of wheels.
ARCHITECTURES = ("x86_64", "aarch64")
#: The Pythons and torches with which a wheel is checked.
INSTALLED = (("3.11", "torch==2.11.0"), ("3.13", "torch"))
#: Compilers by which batched_cpu is built and checked: the oldest that README promises, and those of Debian 13.
COMPILERS = ("g++-12", "g++-13", "g++-14", "clang++-14", "clang++-19")
#: Dependency groups of other Tritons than the newest, with which kernels are checked.
OLDER_TRITONS = ("of-torch-cuda", "lowest-triton")
#: The sanitizers of GCC under which batched_cpu is checked, see suite/checks/cpu/sanitized.py.
SANITIZERS = ("address", "thread")
#: A session that runs in the environment of `environment`, so that torch is installed once for all of these.
shared = nox.session(venv_backend="none", requires=["environment"])


def group(name: str) -> list[str]:
    """Requirements of a dependency group of pyproject.toml."""
    return list(nox.project.dependency_groups(PYPROJECT, name))


def install(session: nox.Session, name: str, *options: str) -> None:
    """Install what the module requires, with Triton, and a group; the project itself runs from the checkout."""
    project = PYPROJECT["project"]
    required = [*project["dependencies"], *project["optional-dependencies"]["cuda"]]
    # As pip does and uv does not. Without it each process compiles torch again where Python cannot write bytecode.
    session.install(*options, *required, *group(name), env={"UV_COMPILE_BYTECODE": "1"})


def install_labml(session: nox.Session) -> None:
    """Install labml's module without its own requirements, which pin much that it does not import."""
    session.install("--no-deps", *group("labml"))


def bin_of(session: nox.Session) -> Path:
    """Folder of the executables of the session, or of `environment`, in which sessions without their own run."""
    if session.venv_backend != "none":
        return Path(session.bin)
    return (session.cache_dir.parent / "environment" / ("Scripts" if os.name == "nt" else "bin")).absolute()


def scratch_of(session: nox.Session) -> Path:
    """Folder of files that the session makes, which is kept; what it starts has its temporary files there too."""
    return Path(session.create_tmp()).absolute()


def python(session: nox.Session, *arguments: str, **variables: str) -> None:
    """Run Python, with its tools on the path; after Ctrl-C it has a minute to write its results.

    Paths of the command line are relative to where nox was called, see `suite.shared.files.path_of`.
    """
    folder = bin_of(session)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    env = {"PATH": path, "HYPERLSTM_INVOKED_FROM": session.invoked_from, **variables}
    program = str(folder / "python")
    session.run(program, *arguments, env=env, external=True, interrupt_timeout=60.0, terminate_timeout=5)


def run_tests(session: nox.Session, *testpaths: str, options: Sequence[str] = ()) -> None:
    """Run the tests of folders and files on all cores, or of those that the command line names.

    options: of pytest, where those of the command line win.
    """
    arguments = ["--testpaths", *testpaths, "--", *options, *session.posargs]
    python(session, "-m", "suite.run_tests", *arguments)


def only(folder: Path, pattern: str) -> Path:
    """The one file of a folder whose name fits."""
    (file,) = folder.glob(pattern)
    return file


# Every day


@nox.session
def environment(session: nox.Session) -> None:
    """Install what checks and measurements need, once."""
    install(session, "suite")
    session.install(*group("external"))
    install_labml(session)


@shared
def verify(session: nox.Session) -> None:
    """Check every implementation that runs here; `-- --thorough`: more."""
    run_tests(session, "suite/checks")


@shared
def cuda(session: nox.Session) -> None:
    """Say whether batched_cuda is right on the NVIDIA GPU here."""
    python(session, "-m", "suite.checks.triton.native", *session.posargs)


@shared
def bench(session: nox.Session) -> None:
    """Time the implementations; `-- --help` shows what can be chosen."""
    python(session, "-m", "suite.bench", *session.posargs)


@shared
def report(session: nox.Session) -> None:
    """Make the tables again from the CSV files under results/."""
    python(session, "-m", "suite.report", *session.posargs)


@shared
def compare(session: nox.Session) -> None:
    """Compare two results, `-- OLD NEW`, or a revision, `-- --base REV`."""
    python(session, "-m", "suite.bench_compare", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, types and imports between packages."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports")
    session.run("validate-pyproject", "pyproject.toml")
    session.run("deptry", ".")
    sources: list[str] = []
    for pattern in ("impls/**/*.h", "impls/**/*.cpp", "suite/**/*.h", "suite/**/*.cpp"):
        sources += map(str, sorted(Path().glob(pattern)))
    session.run("clang-format", "--dry-run", "--Werror", *sources)


@shared
def selftest(session: nox.Session) -> None:
    """Check the suite itself: timing, results, pages, commands, builds."""
    run_tests(session, "suite", options=["--ignore=suite/checks"])


# Before a release, and where code meets another system


@nox.session(reuse_venv=False)
def package(session: nox.Session) -> None:
    """Check what a wheel and an sdist hold, and that they import alone."""
    scratch = scratch_of(session) / "package"
    shutil.rmtree(scratch, ignore_errors=True)
    session.install("uv", *group("package"))
    session.run("uv", "build", "-q", "--out-dir", str(scratch))  # the wheel from the sdist
    wheel, sdist = only(scratch, "*.whl"), only(scratch, "*.tar.gz")
    session.run("check-wheel-contents", str(wheel))
    session.install(str(wheel))
    # A RuntimeWarning says that batched_cpu could not be built.
    imported = ("-W", "error::RuntimeWarning", "suite/package/import_alone.py")
    python(session, *imported, str(bin_of(session).parent))
    python(session, "-m", "tarfile", "--filter", "data", "--extract", str(sdist), str(scratch))
    source = scratch / sdist.name.removesuffix(".tar.gz")
    session.install("--editable", str(source))
    python(session, *imported, str(source))


@nox.session(venv_backend="uv")
def lowest(session: nox.Session) -> None:
    """Verify, compare and report with the lowest versions allowed."""
    install(session, "suite", "--resolution", "lowest-direct")
    install_labml(session)
    # Pages and comparisons of results take more of pandas than checks do; builds and files of `--impl` much of torch.
    of_pandas = ("suite/results", "suite/measure/test_bench_compare.py", "suite/pages")
    of_torch = ("suite/package/test_extension.py", "suite/test_submission.py")
    run_tests(session, "suite/checks", *of_pandas, *of_torch)


@nox.session
def export(session: nox.Session) -> None:
    """Check models exported to ONNX under onnxruntime."""
    install(session, "export")
    python(session, "-c", "import onnx, onnxruntime, onnxscript")  # tests are skipped without one
    run_tests(session, "suite/checks/module", options=["-k", "onnx"])


@nox.session
@nox.parametrize("older", [nox.param(None, id="newest"), *(nox.param(name, id=name) for name in OLDER_TRITONS)])
def kernels(session: nox.Session, older: str | None) -> None:
    """Interpret and compile every Triton kernel.

    With the newest Triton, all are compiled for six kinds of card, and all tests of kernels run. With an older one, the
    same tests run, which compile some for one card. Arguments after `--` choose among the quick tests, and nothing else
    is compiled.
    """
    install(session, "suite")
    if older is not None:
        session.install(*group(older))
    elif not session.posargs:
        python(session, "-m", "suite.checks.triton.compiled")
    options = ["-m", "triton"]
    if not session.posargs:
        options += ["--thorough", "--results", str(scratch_of(session))]
    files = [f"suite/checks/triton/test_{name}.py" for name in ("kernels", "interpreter")]
    run_tests(session, *files, options=options)


@nox.session
def platforms(session: nox.Session) -> None:
    """Compile the wheel for aarch64, quickly, and check what it has."""
    install(session, "wheel")
    session.install(*group("package"))
    built = build_wheel(session, "aarch64", HYPERLSTM_CXXFLAGS="-O0")
    session.run("check-wheel-contents", str(built))


@shared
@nox.parametrize("compiler", COMPILERS, ids=COMPILERS)
def compilers(session: nox.Session, compiler: str) -> None:
    """Check batched_cpu as another compiler builds it."""
    if shutil.which(compiler) is None:
        session.skip(f"{compiler} is not here")
    scratch = scratch_of(session)
    env = {"CXX": compiler, "TORCH_EXTENSIONS_DIR": str(scratch / "extensions")}
    chosen = ("-m", BATCHED_CPU, "-p", "suite.checks.cpu.must_build", "--results", str(scratch / "results"))
    python(session, "-m", "suite.run_tests", "--", EQUALITY, SPLIT, *chosen, *session.posargs, **env)


def build_wheel(session: nox.Session, architecture: str, **variables: str) -> Path:
    """Build one wheel, and return its path; suite/package/build_hook.py compiles and tags it."""
    folder = scratch_of(session) / "built"
    shutil.rmtree(folder, ignore_errors=True)
    arguments = ("-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    python(session, *arguments, HYPERLSTM_WHEEL=architecture, **variables)
    built = only(folder, "*.whl")
    python(session, "-m", "auditwheel", "show", str(built))
    return built


@nox.session
def wheel(session: nox.Session) -> None:
    """Write wheels with batched_cpu compiled to dist/; `-- aarch64`: one."""
    install(session, "wheel")
    Path("dist").mkdir(exist_ok=True)
    for architecture in session.posargs or ARCHITECTURES:
        shutil.copy2(build_wheel(session, architecture), "dist")


@nox.session
def installed(session: nox.Session) -> None:
    """Check the wheel by two Pythons and torches, without a compiler."""
    architecture = platform.machine()
    if architecture not in ARCHITECTURES:
        session.error(f"there are wheels for {' and '.join(ARCHITECTURES)}, and this machine is {architecture}")
    install(session, "wheel")
    session.install("uv")
    built = build_wheel(session, architecture)
    for version, torch in INSTALLED:
        folder = scratch_of(session) / f"python{version}"
        program = str(folder / "bin" / "python")
        session.run("uv", "venv", "-q", "--clear", "--python", version, str(folder))
        session.run("uv", "pip", "install", "-q", "--python", program, "--group", "suite", torch, str(built))
        env = {"PATH": str(folder / "bin")}
        session.run(program, "suite/package/first_call.py", env=env, external=True)
        beside = ("suite/package/installed.py", str(folder / "beside"))
        chosen = ("-m", BATCHED_CPU, "--results", str(folder / "results"))
        session.run(program, *beside, EQUALITY, SPLIT, CAPABILITIES, *chosen, env=env, external=True)


@nox.session
def emulation(session: nox.Session) -> None:
    """Check the wheel for aarch64 under emulation, on Debian."""
    install(session, "wheel")
    session.install("uv")
    built = build_wheel(session, "aarch64")
    scratch = scratch_of(session)
    chosen = (EQUALITY, "-m", BATCHED_CPU, "--results", str(scratch / "results"))
    python(session, "-m", "suite.package.emulation", str(built), str(scratch), *chosen)


@shared
def sanitize(session: nox.Session) -> None:
    """Check batched_cpu under sanitizers of GCC, on Linux."""
    for sanitizer in SANITIZERS:
        scratch = str(scratch_of(session) / sanitizer)
        python(session, "-m", "suite.checks.cpu.sanitized", sanitizer, scratch, *session.posargs)
