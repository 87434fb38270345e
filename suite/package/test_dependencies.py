"""Every module that is imported comes from a requirement of what imports it, and not by way of another package."""

import ast
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import noxfile
from suite.shared.files import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
#: Modules of the suite that the group `suite` does not install, since only the sessions of another group run them.
GROUPS = {
    "cosmic_ray": "mutate",
    "editables": "lint",
    "hatchling": "wheel",
    "jax": "external",
    "labml_nn": "labml",
    "onnxruntime": "export",
}
OURS = {"impls", "suite", "hyperlstm", "noxfile"}


def requirements(group: str) -> set[str]:
    """Names of the packages that a dependency group lists, with those of the groups that it includes."""
    names = set[str]()
    for entry in PYPROJECT["dependency-groups"][group]:
        names |= requirements(entry["include-group"]) if isinstance(entry, dict) else {_name(entry)}
    return names


def _name(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found, requirement
    return found[0].lower().replace("_", "-")


def of_the_package() -> set[str]:
    """Names of the packages that the module requires, with Triton."""
    project = PYPROJECT["project"]
    return {*map(_name, (*project["dependencies"], *project["optional-dependencies"]["cuda"]))}


def imported(folder: str) -> dict[str, set[Path]]:
    """Modules outside the project and the standard library that files of a folder import, with these files."""
    files = defaultdict[str, set[Path]](set)
    for file in (ROOT / folder).rglob("*.py"):
        for name in _modules(ast.parse(file.read_text(encoding="utf-8"))):
            if name not in OURS | sys.stdlib_module_names:
                files[name].add(file.relative_to(ROOT))
    return files


def _modules(tree: ast.AST) -> Iterator[str]:
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


def test_every_requirement_of_an_extra_holds_on_linux() -> None:
    linux = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    extras = PYPROJECT["project"]["optional-dependencies"]
    listed = [Requirement(text) for texts in extras.values() for text in texts]
    assert listed
    assert [str(one) for one in listed if one.marker and not one.marker.evaluate(linux)] == []


def test_no_version_is_too_new_for_the_package() -> None:
    """With a bound above, pip would replace a newer torch, or install an older release of the package."""
    project = PYPROJECT["project"]
    texts = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    bounds = [Requirement(text).specifier for text in texts] + [SpecifierSet(project["requires-python"])]
    assert [str(bound) for bound in bounds if {each.operator for each in bound} != {">="}] == []


def test_the_lowest_python_is_the_same_wherever_it_is_named() -> None:
    lowest = PYPROJECT["project"]["requires-python"].removeprefix(">=")
    classifiers = re.findall(r"Python :: (3\.\d+)", " ".join(PYPROJECT["project"]["classifiers"]))
    assert min(classifiers, key=lambda version: int(version.split(".")[1])) == lowest
    assert f"Python {lowest} and torch" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_package_imports_what_it_requires() -> None:
    modules = imported("impls")
    assert {name: files for name, files in modules.items() if not packages(name) & of_the_package()} == {}
    assert "torch" in modules


def test_importing_the_package_imports_all_that_it_requires() -> None:
    """What is needed only sometimes is an extra: pip installs a requirement for everybody."""
    required = {Requirement(text).name for text in PYPROJECT["project"]["dependencies"]}
    code = "import sys, impls; print(*{name.partition('.')[0] for name in sys.modules})"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert required <= set[str]().union(*map(packages, ran.stdout.split()))


def test_building_requires_what_the_hook_imports() -> None:
    """Every `pip install` of the sources installs these first."""
    required = {Requirement(text).name for text in PYPROJECT["build-system"]["requires"]}
    tree = ast.parse((ROOT / "suite" / "package" / "build_hook.py").read_text(encoding="utf-8"))
    first = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    modules = {*_modules(first)} - OURS - sys.stdlib_module_names
    assert required == set[str]().union(*map(packages, modules))


def test_labml_comes_without_its_own_requirements() -> None:
    """They pin torch and much else that it does not import."""
    installed: list[tuple[str, ...]] = []
    session = SimpleNamespace(install=lambda *words, **_: installed.append(words))
    noxfile.environment(session)
    (of_labml,) = (words for words in installed if "labml-nn" in words)
    assert of_labml[0] == "--no-deps"


def test_checks_run_with_triton_whatever_torch_brings() -> None:
    """Builds of torch for CPUs bring none, and its kernels would be skipped."""
    installed: list[tuple[str, ...]] = []
    noxfile.environment(SimpleNamespace(install=lambda *words, **_: installed.append(words)))
    names = {Requirement(word).name for words in installed for word in words if not word.startswith("-")}
    assert names >= {"torch", "triton"}


def test_the_suite_imports_what_its_groups_require() -> None:
    modules, missing = imported("suite"), {}
    for name, files in modules.items():
        installed = requirements(GROUPS[name]) if name in GROUPS else requirements("suite") | of_the_package()
        if not packages(name) & installed:
            missing[name] = files
    assert missing == {}
    assert {"pandas", *GROUPS} <= set(modules)
