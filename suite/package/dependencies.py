"""What pyproject.toml requires, and which modules the files of the project import."""

import ast
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

from suite.shared.files import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
OURS = {"impls", "suite", "hyperlstm", "noxfile"}


def requirements(group: str) -> set[str]:
    """Names of the packages that a dependency group lists, with those of the groups that it includes."""
    names = set[str]()
    for entry in PYPROJECT["dependency-groups"][group]:
        names |= requirements(entry["include-group"]) if isinstance(entry, dict) else {name_of(entry)}
    return names


def name_of(requirement: str) -> str:
    """Name of the package that a requirement is of."""
    found = re.match(r"[\w.-]+", requirement)
    assert found, requirement
    return found[0].lower().replace("_", "-")


def of_the_package() -> set[str]:
    """Names of the packages that the module requires, with Triton."""
    project = PYPROJECT["project"]
    return {*map(name_of, (*project["dependencies"], *project["optional-dependencies"]["cuda"]))}


@cache
def imported(folder: str) -> Mapping[str, set[Path]]:
    """Modules outside the project and the standard library that files of a folder import, with these files."""
    files = defaultdict[str, set[Path]](set)
    for file in (ROOT / folder).rglob("*.py"):
        for name in modules(ast.parse(file.read_text(encoding="utf-8"))):
            if name not in OURS | sys.stdlib_module_names:
                files[name].add(file.relative_to(ROOT))
    return files


def modules(tree: ast.AST) -> Iterator[str]:
    """Names of the modules at the top that a syntax tree imports, within functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module).split(".")[0]


def packages(module: str) -> set[str]:
    """Names of the packages that install a module, by its own name if it is not installed here."""
    return {name.lower().replace("_", "-") for name in installers().get(module, [module])}


@cache
def installers() -> Mapping[str, list[str]]:
    """Names of the packages that are installed here, by module."""
    return packages_distributions()
