"""Sessions of noxfile.py install what they run, run what they should, and hand on what the user says."""

import ast
import os
import re
import shlex
import sys
from pathlib import Path

import nox
import pytest

import noxfile
from suite import run_tests
from suite.checks.kernels.sanitized import SANITIZERS
from suite.package.dependencies import OURS, PYPROJECT, modules, name_of, of_the_package, packages, requirements
from suite.package.documents import check_markers
from suite.package.sessions import FUNCTIONS, Recorded, Run, every, recorded
from suite.shared.files import ROOT

#: Packages of programs with another name.
PACKAGES = {"lint-imports": "import-linter"}
#: Sessions that take no arguments.
WITHOUT_ARGUMENTS = {"environment", "lint", "package", "installed", "emulation"}
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which sessions run."""
    return tmp_path_factory.mktemp("sessions")


@pytest.fixture(scope="module")
def sessions(folder: Path) -> dict[str, Recorded]:
    """Return every session after it ran."""
    return every(folder)


def file_of(run: Run) -> Path | None:
    """The file of the suite that Python runs, None if it runs another module, or code."""
    program, *words = run.command
    if Path(program).name != "python" or words[0] == "-c":
        return None
    file = ROOT / (f"{run.module.replace('.', '/')}.py" if run.module else words[0])
    return file if not run.module or run.module.startswith("suite.") else None


def needs(run: Run) -> set[str]:
    """Names of the packages that a command takes, as far as it names or imports them itself."""
    if Path(run.command[0]).name != "python":
        return {PACKAGES.get(run.command[0], run.command[0])}
    file = file_of(run)
    if file:
        imported = {*modules(ast.parse(file.read_text(encoding="utf-8")))}
    else:
        imported = {run.module} if run.module else {*modules(ast.parse(run.command[2]))}
    needed = set[str]().union(*map(packages, imported - sys.stdlib_module_names - OURS))
    compiles = "HYPERLSTM_WHEEL" in run.variables or run.module == "suite.package.cross_compile"
    if compiles:
        needed |= {"torch", "ziglang"}
    if "hyperlstm" in imported:
        needed.add("hyperlstm")
    if run.module == "suite.run_tests":
        needed |= requirements("suite") | of_the_package()
    if "suite/package/beside.py" in run.command:
        needed |= requirements("suite") | {"hyperlstm"}
    return needed


def is_shared(run: Run) -> bool:
    """True for a command of the environment that sessions share."""
    return "/.nox/environment/bin/" in run.command[0]


def test_what_a_session_runs_is_installed(sessions: dict[str, Recorded]) -> None:
    missing = dict[str, set[str]]()
    for name, session in sessions.items():
        for run in session.runs:
            installed = sessions["environment"].installed if is_shared(run) else run.installed
            missing[name] = missing.get(name, set()) | (needs(run) - {*installed})
    assert {name: lacking for name, lacking in missing.items() if lacking} == {}


def test_the_shared_environment_has_whatever_the_suite_imports(sessions: dict[str, Recorded]) -> None:
    """Without one of these, candidates and checks are left out."""
    groups = ("suite", "external", "labml")
    assert {*sessions["environment"].installed} >= of_the_package().union(*map(requirements, groups))
    assert {*sessions["lowest"].installed} >= of_the_package() | requirements("suite") | requirements("labml")


@pytest.mark.parametrize("name", ["environment", "lowest"])
def test_labml_comes_without_its_own_requirements(name: str, sessions: dict[str, Recorded]) -> None:
    """They pin torch and much else that it does not import."""
    (of_labml,) = (words for words in sessions[name].installs if any(word.startswith("labml-nn") for word in words))
    assert of_labml[0] == "--no-deps"


def test_a_session_in_the_shared_environment_makes_it_first(folder: Path, sessions: dict[str, Recorded]) -> None:
    """Its programs are found from any folder."""
    python = f"{folder}/.nox/environment/bin/python"
    using = {name for name, session in sessions.items() if any(python in " ".join(run.command) for run in session.runs)}
    assert using >= {"verify", "cuda", "bench", "report", "compare", "selftest", "mutate"}
    assert using == {name for name in FUNCTIONS if FUNCTIONS[name].requires == ["environment"]}
    for session in sessions.values():
        for run in session.runs:
            assert is_shared(run) <= (run.command[0] == python), run.command
            assert is_shared(run) == (session.venv_backend == "none")


def test_environments_are_kept_but_that_of_the_package() -> None:
    """To install torch again takes minutes; the package is installed as if for the first time."""
    assert nox.options.reuse_venv == "yes"
    assert {name for name, function in FUNCTIONS.items() if function.reuse_venv is not None} == {"package"}
    assert FUNCTIONS["package"].reuse_venv is False


def test_an_option_of_uv_is_for_uv(sessions: dict[str, Recorded]) -> None:
    """Elsewhere nox takes what is there, and nothing has to be there but nox."""
    assert nox.options.default_venv_backend.split("|")[-1] == "virtualenv"
    of_uv = {name for name, session in sessions.items() if any("--resolution" in words for words in session.installs)}
    assert of_uv == {"lowest"} == {name for name, function in FUNCTIONS.items() if function.venv_backend == "uv"}


def test_the_lowest_versions_are_those_of_the_project(sessions: dict[str, Recorded]) -> None:
    """Of what the package and the suite require, and not of what these require in turn."""
    (words,) = (words for words in sessions["lowest"].installs if "torch" in map(name_of, words))
    assert words[words.index("--resolution") + 1] == "lowest-direct"


def test_the_sessions_without_a_name_are_those_before_a_pull_request() -> None:
    (before,) = re.findall(r"\*\*Before a pull request\*\*, run `nox -s ([\w ]+)`", README)
    assert nox.options.sessions
    assert {*nox.options.sessions} <= {*before.split()} <= FUNCTIONS.keys()


def test_files_and_modules_of_the_suite_exist(sessions: dict[str, Recorded]) -> None:
    words = {word for session in sessions.values() for run in session.runs for word in run.command}
    paths = {word.removeprefix("--ignore=") for word in words if re.match(r"(--ignore=)?suite/", word)}
    paths |= {f"{word.replace('.', '/')}.py" for word in words if re.fullmatch(r"suite(\.\w+)+", word)}
    assert {"suite/checks", "suite/run_tests.py", "suite/checks/kernels/built.py"} <= paths
    assert {path for path in paths if not (ROOT / path).exists()} == set()


def test_the_command_that_mutants_meet_is_whole_in_a_path_with_a_space(tmp_path: Path) -> None:
    (folder := tmp_path / "a checkout").mkdir()
    (run,) = recorded("mutate", folder).runs
    program, *words = shlex.split(run.arguments[0])
    assert Path(program) == folder / ".nox" / "environment" / "bin" / "python"
    assert words == ["-m", "suite.run_tests", "--"]


def test_every_test_is_run_by_verify_or_by_selftest(sessions: dict[str, Recorded], pytestconfig: pytest.Config) -> None:
    of_session = dict[str, set[Path]]()
    for name in ("verify", "selftest"):
        (run,) = sessions[name].runs
        options = run_tests.parser().parse_args(run.arguments)
        of_pytest, unknown = pytestconfig._parser.parse_known_and_unknown_args(options.arguments)
        found = {test for folder in options.testpaths for test in (ROOT / folder).rglob("test_*.py")}
        ignored = [ROOT / folder for folder in of_pytest.ignore or ()]
        of_session[name] = {test for test in found if not any(test.is_relative_to(folder) for folder in ignored)}
        chosen = (of_pytest.keyword, of_pytest.markexpr, of_pytest.deselect, of_pytest.lf, of_pytest.maxfail, unknown)
        assert not any(chosen), name
    assert of_session["verify"] | of_session["selftest"] == {*(ROOT / "suite").rglob("test_*.py")}
    assert of_session["verify"] & of_session["selftest"] == set()


def test_every_check_of_a_package_is_run_by_a_session(sessions: dict[str, Recorded]) -> None:
    """And every program that runs other tests of kernels."""
    ran = {file for session in sessions.values() for run in session.runs if (file := file_of(run))}
    programs = {ROOT / "suite" / "package" / "first_call.py"}
    for folder in ("package", "checks/kernels"):
        for path in (ROOT / "suite" / folder).glob("*.py"):
            if '\nif __name__ == "__main__":\n' in path.read_text(encoding="utf-8"):
                programs.add(path)
    assert programs - ran == set()


def test_a_user_has_the_last_word(folder: Path) -> None:
    without = set[str]()
    for name, session in every(folder, "aarch64").items():
        last = session.runs[-1].command if session.runs else [""]
        if last[-1] != "aarch64":
            without.add(name)
    assert without == WITHOUT_ARGUMENTS | {"wheel"}


def built(session: Recorded) -> list[str]:
    """Architectures that a session builds wheels for."""
    return [run.variables["HYPERLSTM_WHEEL"] for run in session.runs if run.module == "hatchling"]


def test_wheels_are_built_for_the_architectures_that_the_readme_names(folder: Path) -> None:
    (named,) = re.findall(r"for Linux on ([\w-]+) and ([\w-]+) \(tested", README)
    assert built(recorded("wheel", folder)) == [name.replace("-", "_") for name in named]
    assert built(recorded("wheel", folder, "aarch64")) == built(recorded("emulation", folder)) == ["aarch64"]
    assert built(recorded("installed", folder)) == ["x86_64"]


def test_a_wheel_is_checked_without_a_compiler_and_with_the_torch_of_its_python(
    folder: Path, sessions: dict[str, Recorded]
) -> None:
    """Where none is found, nothing is compiled in place of what the wheel has."""
    found = dict[str, set[str]]()
    for run in sessions["installed"].runs:
        if run.command[:3] == ("uv", "pip", "install"):
            found[str(Path(run.values("--python")[0]).parent)] = {*run.command}
        elif run.command[0].startswith(f"{folder}/installed-scratch"):
            assert run.variables["PATH"] == str(Path(run.command[0]).parent)
            assert found[run.variables["PATH"]] & {torch for _, torch in noxfile.INSTALLED}
    assert len(found) == len(noxfile.INSTALLED)
    assert {word for words in found.values() for word in words} >= {torch for _, torch in noxfile.INSTALLED}


def test_programs_find_their_tools_first_and_the_users_after(sessions: dict[str, Recorded]) -> None:
    path = os.environ["PATH"]
    for name, session in sessions.items():
        for run in session.runs:
            if name != "installed" and "PATH" in run.variables:
                assert run.variables["PATH"] == f"{Path(run.command[0]).parent}{os.pathsep}{path}"
            assert ("PATH" in run.variables) >= is_shared(run)


def test_checks_of_another_build_take_that_build_alone(folder: Path, sessions: dict[str, Recorded]) -> None:
    compiled, checked = sessions["platforms"].runs
    assert compiled.variables["HYPERLSTM_CXXFLAGS"] == "-O0"
    assert checked.variables["CXX"] == f"clang++-{noxfile.CLANG_VERSION}"
    assert Path(checked.variables["TORCH_EXTENSIONS_DIR"]).is_relative_to(folder)
    assert "suite.checks.kernels.built" in checked.values("-p")


def test_the_oldest_clang_is_that_of_the_readme_and_of_ci() -> None:
    assert f"clang {noxfile.CLANG_VERSION} or newer" in README
    commands = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert {*re.findall(r"clang(?:\+\+)?[ -](\d+)", commands)} == {str(noxfile.CLANG_VERSION)}


def test_checks_of_other_builds_and_versions_are_no_results_of_the_machine(
    folder: Path, sessions: dict[str, Recorded]
) -> None:
    """Pages show what was checked of the code as most have it."""
    elsewhere = set[str]()
    for session in sessions.values():
        results = [value for run in session.runs for value in run.values("--results")]
        assert all(Path(value).is_relative_to(folder) for value in results)
        if results:
            elsewhere.add(session.name)
    assert elsewhere == {"kernels", "platforms", "installed", "emulation"}


def test_expressions_name_markers_and_implementations(
    sessions: dict[str, Recorded], pytestconfig: pytest.Config
) -> None:
    expressions = {value for session in sessions.values() for run in session.runs for value in run.values("-m")}
    assert noxfile.BATCHED_CPU in expressions
    for expression in expressions:
        check_markers(expression, pytestconfig)


def test_an_export_is_checked_by_all_that_is_installed_for_it(sessions: dict[str, Recorded]) -> None:
    """Tests are skipped without it."""
    (code,) = (run.command[2] for run in sessions["export"].runs if run.command[1] == "-c")
    assert {*modules(ast.parse(code))} == requirements("export") - requirements("suite")


def test_kernels_meet_each_version_of_triton_that_a_group_pins(sessions: dict[str, Recorded]) -> None:
    met = {name: session.installs[1:] for name, session in sessions.items() if session.name == "kernels"}
    pins = dict[str, list[tuple[str, ...]]]()
    for group, entries in PYPROJECT["dependency-groups"].items():
        if any(str(entry).startswith("triton==") for entry in entries):
            pins[f"kernels({group})"] = [tuple(entries)]
    assert len(pins) == len(noxfile.OLDER_TRITONS)
    assert met == {"kernels(newest)": [], **pins}


def test_batched_cpu_meets_every_sanitizer(sessions: dict[str, Recorded]) -> None:
    assert [run.arguments[0] for run in sessions["sanitize"].runs] == [*SANITIZERS]


def test_a_kernel_that_hangs_ends_a_verification_soon(sessions: dict[str, Recorded]) -> None:
    """Where there is a GPU, suite/test_run_tests.py says."""
    assert run_tests.parser().parse_args(sessions["verify"].runs[-1].arguments).short_on_gpu


def test_lint_reads_every_source_and_changes_none(sessions: dict[str, Recorded]) -> None:
    runs = {run.command[:2] if run.command[0] == "ruff" else run.command[:1]: run for run in sessions["lint"].runs}
    sources = {path.relative_to(ROOT) for part in ("impls", "suite") for path in (ROOT / part).rglob("*.[hc]*")}
    files = {path for path in sources if path.suffix in (".h", ".cpp")}
    assert {Path(word) for word in runs["clang-format",].arguments if not word.startswith("-")} == files
    assert {"--dry-run", "--Werror"} <= {*runs["clang-format",].arguments}
    assert "--check" in runs["ruff", "format"].arguments
    assert not any(word.startswith("--fix") for word in runs["ruff", "check"].arguments)
    assert {"mypy", "lint-imports"} <= {run.command[0] for run in runs.values()}
