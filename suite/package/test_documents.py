"""The commands of the project's pages are accepted, their links lead somewhere, and what they name exists."""

import argparse
import inspect
import os
import pkgutil
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from importlib.metadata import metadata
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement

import impls
from suite import bench, bench_compare, report
from suite.checks.module import mine
from suite.package.dependencies import PYPROJECT
from suite.package.documents import (
    PAGES,
    README,
    WRITTEN,
    Command,
    check_markers,
    code_of,
    codes,
    commands,
    commands_of_lines,
    headings,
    inline_code,
    links,
    name_of,
    pages_where,
    text,
)
from suite.package.sessions import FUNCTIONS
from suite.shared.files import ROOT

#: Sessions whose arguments go to pytest, and the parsers of the others that take any.
PYTEST = {"verify", "selftest", "cuda", "lowest", "export", "kernels"}
PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "bench": bench.parser,
    "compare": bench_compare.parser,
    "report": report.parser,
}


def accept(command: Command, config: pytest.Config) -> None:
    """Raise what a command's parser raises; AssertionError if there is no such session, option or folder of results.

    An option alone is named, not given a value.
    """
    assert command.session in FUNCTIONS
    if len(command.arguments) == 1 and command.arguments[0].startswith("-"):
        (option,) = command.arguments
        parser = PARSERS[command.session]() if command.session in PARSERS else config._parser.optparser
        assert option in parser._option_string_actions, option
        return
    for option, folder in pairwise(command.arguments):
        if option == "--check":
            assert any(ROOT.glob(f"{folder.replace('<machine>', '*')}/bench.csv")), folder
    folders = [word.partition("/")[0] for word in command.arguments]
    placeholders = [folder for folder in folders if folder in ("OLD", "NEW")]
    assert placeholders in ([], ["OLD", "NEW"]), "what is regarded as the baseline comes first"
    if command.session in PARSERS:
        options = PARSERS[command.session]().parse_args(command.arguments)
        if command.session == "compare" and command.arguments:
            bench_compare.takes_revisions(options)  # raises ValueError unless it is one comparison
    elif command.session in PYTEST:
        known, unknown = config._parser.parse_known_and_unknown_args(command.arguments)
        assert unknown == []
        check_markers(known.markexpr, config)
        assert [path for path in known.file_or_dir if not (ROOT / path).exists()] == []
    else:
        assert command.arguments == [], f"{command.session}: no parser is known for its arguments"


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name_of)
def test_commands_are_accepted(page: Path, pytestconfig: pytest.Config) -> None:
    for command in commands(page):
        accept(command, pytestconfig)


CI = ROOT / ".ci" / "run"


def test_commands_of_ci_are_accepted(pytestconfig: pytest.Config) -> None:
    script = CI.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [f"nox {' '.join(words.split())}" for words in re.findall(r"\"\$\{nox\[@\]\}\" (-s .*)", script)]
    written = [command for line in lines for command in commands_of_lines(line)]
    assert len(written) == len(lines) > 8
    for command in written:
        accept(command, pytestconfig)
    for name in re.findall(r"\"(\w+\([^\"]*\))\"", script):
        session, _, signature = name.removesuffix(")").partition("(")
        assert signature in map(str, FUNCTIONS[session].parametrize)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed.")
def test_ci_is_a_program_that_ends_at_its_first_failure() -> None:
    assert os.access(CI, os.X_OK)
    subprocess.run(["bash", "-n", str(CI)], check=True)
    (options,) = re.findall(r"^set (.+)$", CI.read_text(encoding="utf-8"), re.MULTILINE)
    ended = subprocess.run(
        ["bash", "-c", f"set {options}; false | cat; echo reached"], capture_output=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (1, b"")


@pytest.mark.parametrize("module", [bench, bench_compare, report], ids=lambda module: str(module.__name__))
def test_commands_of_manuals_are_accepted(module: Any, pytestconfig: pytest.Config) -> None:
    for command in commands_of_lines(module.__doc__):
        accept(command, pytestconfig)


#: What `pip install` may install in a checkout.
EXTRAS = [f".[{extra}]" for extra in PYPROJECT["project"]["optional-dependencies"]]


@pytest.mark.parametrize("page", pages_where(lambda page: "pip install" in code_of(page), PAGES), ids=name_of)
def test_what_pip_installs_exists(page: Path) -> None:
    """The checkout with an extra that it has, a group of dependencies, or a package with an extra that it has."""
    for words in re.findall(r"\bpip install (.*?)(?:  .*)?$", code_of(page), re.MULTILINE):
        option, *rest = shlex.split(words, comments=True)
        if option == "--group":
            assert rest[0] in PYPROJECT["dependency-groups"], words
        elif option == "--editable":
            assert rest == ["."], words
        elif option != ".":
            requirement = Requirement(option.replace(".[", f"{PYPROJECT['project']['name']}["))
            assert requirement.extras, words
            if requirement.name == PYPROJECT["project"]["name"]:
                assert requirement.extras <= PYPROJECT["project"]["optional-dependencies"].keys(), words
            else:
                assert requirement.extras <= {*metadata(requirement.name).get_all("Provides-Extra", [])}, words
    short = [code for code in inline_code(page) if code.startswith(".[")]
    assert {*short} <= {*EXTRAS}


@pytest.mark.parametrize("page", pages_where(lambda page: "python -m" in code_of(page), PAGES), ids=name_of)
def test_modules_that_commands_run_exist(page: Path) -> None:
    for module in re.findall(r"\bpython -m ([\w.]+)", code_of(page)):
        assert module == "pip" or find_spec(module), module


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, heading = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not heading or heading in headings(target), link


#: Files of the project, and those that users or commands make.
FILES = [
    str(path.relative_to(ROOT)) for folder in ("impls", "suite", "results") for path in ROOT.glob(f"{folder}/**/*.*")
]
MADE = ("path/to/mine.py", "mine.toml", "results/report.html", "impls/<name>.py", "sizes.csv", "sizes.md")
SUFFIXES = (".py", ".h", ".cpp", ".md", ".toml", ".csv", ".html")


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_files_in_code_exist(page: Path) -> None:
    """By their whole path, or its end."""
    names = {word for code in inline_code(page) for word in code.split() if word.endswith(SUFFIXES)}
    exist = {name for name in names if any(f"/{file}".endswith(f"/{name}") for file in FILES)}
    assert {name for name in names - exist if not (ROOT / name).exists()} <= {*MADE}


#: Names, and the file that they are said to be in, as in "`impl_param` of `marks.py`".
NAMES_OF_A_FILE = re.compile(r"((?:`\w+`(?: or )?)+) (?:of|in) `([\w/]+\.py)`")


@pytest.mark.parametrize("page", pages_where(lambda page: NAMES_OF_A_FILE.search(text(page)), WRITTEN), ids=name_of)
def test_names_of_a_file_are_in_it(page: Path) -> None:
    for named, file in NAMES_OF_A_FILE.findall(text(page)):
        (path,) = [ROOT / each for each in FILES if f"/{each}".endswith(f"/{file}")]
        words = {*re.findall(r"\w+", path.read_text(encoding="utf-8"))}
        assert {*codes(named)} <= words, file


#: Modules by the last part of their names, as sentences name them.
MODULES = {Path(file).stem: file.removesuffix(".py").replace("/", ".") for file in FILES if file.endswith(".py")}


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_dotted_names_exist(page: Path) -> None:
    """From a package, or from what `hyperlstm` has, a class of ours or a module's last name."""
    for code in inline_code(page):
        if not re.fullmatch(r"[a-zA-Z_]\w*(\.[a-zA-Z_]\w*)+", code) or code.endswith(SUFFIXES):
            continue
        first, _, rest = code.partition(".")
        if first in ("impls", "hyperlstm", "suite", "torch"):
            pkgutil.resolve_name(re.sub(r"^hyperlstm", "impls", code))
        elif first == "nn":
            pkgutil.resolve_name(f"torch.{code}")
        elif first in impls.__all__:
            pkgutil.resolve_name(f"impls.{code}")
        elif first in MODULES:
            pkgutil.resolve_name(f"{MODULES[first]}.{rest}")
        else:
            assert re.search(rf"^class {first}\b", SOURCES, re.MULTILINE), code
            assert re.search(rf"^    def {rest}\(", SOURCES, re.MULTILINE), code


#: Functions by the name under which pages call them.
CALLED: dict[str, Callable[..., Any]] = {
    **{name: getattr(impls, name) for name in impls.__all__ if callable(getattr(impls, name))},
    "run": mine.run,
}


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_calls_of_public_functions_have_their_parameters(page: Path) -> None:
    """Given by their names, or as what they are, such as `Impl(name, ...)` for impl."""
    for code in inline_code(page):
        call = re.fullmatch(r"(?:hyperlstm\.)?(\w+)\((\w+(?:\(.*?\))?(?:, \w+(?:\(.*?\))?)*)\)", code)
        if call and call[1] in CALLED:
            named = re.findall(r"\w+", re.sub(r"\(.*?\)", "", call[2]).lower())
            assert named == list(inspect.signature(CALLED[call[1]]).parameters)[: len(named)], code


#: Environment variables that other programs read.
OTHERS = {"UV_TORCH_BACKEND"}
SOURCES = "".join(
    path.read_text(encoding="utf-8")
    for path in [ROOT / "noxfile.py", ROOT / "pyproject.toml", *ROOT.glob("impls/**/*.*"), *ROOT.glob("suite/**/*.*")]
    if path.suffix in (".py", ".h", ".cpp", ".toml")
)


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_environment_variables_are_read(page: Path) -> None:
    """Or at least named by some code, as constants of the code are too."""
    words = {word for code in inline_code(page) for word in re.findall(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b", code)}
    assert {word for word in words if not re.search(rf"\b{word}\b", SOURCES)} <= OTHERS


@cache
def words_of_sources() -> set[str]:
    return {*re.findall(r"\w+", SOURCES)}


#: Words of code that are names of torch or of other programs.
FOREIGN = {*dir(torch.nn.LSTM(1, 1)), *dir(torch.nn.init), "gcc", "python3", "reduce", "overhead"}


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_words_of_code_are_in_the_sources(page: Path) -> None:
    """So that a name which changes there, or is misspelled here, is seen."""
    known = words_of_sources() | FOREIGN
    for code in inline_code(page):
        if code.endswith(SUFFIXES) or re.search(r"[^\x00-\x7f]", code):
            continue  # a file, or an equation
        assert {*re.findall(r"[A-Za-z_]\w\w+", code)} <= known, code


def test_the_readme_names_sessions_in_the_order_of_the_list() -> None:
    table = re.findall(r"^\| `nox -s (\w+)", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert table
    assert table == sorted(table, key=[*FUNCTIONS].index)


def test_the_readme_names_what_is_public() -> None:
    code = inline_code(README)
    assert [name for name in impls.__all__ if not any(one.startswith(name) for one in code)] == []
