"""Every module that is imported comes from a requirement of what imports it, and not by way of another package."""

import ast
import re
import subprocess
import sys
from importlib import import_module
from itertools import chain

import nox
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import noxfile
from impls import batched_cuda
from suite.candidates import labml
from suite.package.dependencies import OURS, PYPROJECT, imported, modules, of_the_package, packages, requirements
from suite.shared.files import ROOT

#: Modules of the suite that the group `suite` does not install, since only the sessions of another group run them.
GROUPS = {"cosmic_ray": "mutate", "jax": "external", "labml_nn": "labml", "onnxruntime": "export"}
#: Packages whose files are read: a part of the report.
READ = {"itables"}
#: Groups without those of older Tritons.
NEWEST = PYPROJECT["dependency-groups"].keys() - {*noxfile.OLDER_TRITONS}
#: The Pythons that the package names.
PYTHONS = re.findall(r"Python :: (3\.\d+)", " ".join(PYPROJECT["project"]["classifiers"]))


def listed(group: str) -> list[Requirement]:
    """Requirements that a group lists itself."""
    return [Requirement(entry) for entry in PYPROJECT["dependency-groups"][group] if isinstance(entry, str)]


def of_newest() -> list[Requirement]:
    """Requirements of the groups, without those of older Tritons, and of the build."""
    return [*chain(*map(listed, NEWEST)), *map(Requirement, PYPROJECT["build-system"]["requires"])]


def version(requirement: Requirement, operator: str) -> str:
    """The version of the only bound, which has this operator."""
    (bound,) = requirement.specifier
    assert bound.operator == operator
    return bound.version


def test_no_version_is_too_new_for_the_package() -> None:
    """With a bound above, pip would replace a newer torch, or install an older release of the package."""
    project = PYPROJECT["project"]
    texts = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    bounds = [Requirement(text).specifier for text in texts] + [SpecifierSet(project["requires-python"])]
    assert [str(bound) for bound in bounds if {each.operator for each in bound} != {">="}] == []


def test_no_version_is_too_new_for_the_suite() -> None:
    """Checks are of what a user has, who installs the newest; and an older bound of another group may contradict."""
    assert [str(one) for one in of_newest() if {each.operator for each in one.specifier} - {">="}] == []


def test_a_package_has_the_same_bound_in_each_group() -> None:
    bounds = dict[str, set[str]]()
    for requirement in of_newest():
        bounds.setdefault(requirement.name, set()).add(str(requirement.specifier))
    assert {name: specifiers for name, specifiers in bounds.items() if len(specifiers) > 1} == {}


def test_the_lowest_python_is_the_same_wherever_it_is_named() -> None:
    lowest_python = PYPROJECT["project"]["requires-python"].removeprefix(">=")
    assert min(PYTHONS, key=_minor) == lowest_python
    assert f"Python {lowest_python} and torch" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert PYPROJECT["tool"]["ruff"]["target-version"] == f"py{lowest_python.replace('.', '')}"


def test_a_wheel_is_checked_with_the_lowest_versions_and_with_the_newest() -> None:
    (torch,) = (one for one in map(Requirement, PYPROJECT["project"]["dependencies"]) if one.name == "torch")
    (oldest, with_oldest), *_, (newest, with_newest) = noxfile.INSTALLED
    assert (oldest, newest) == (min(PYTHONS, key=_minor), max(PYTHONS, key=_minor))
    assert Requirement(with_oldest) == Requirement(f"torch=={version(torch, '>=')}.0")
    assert not Requirement(with_newest).specifier


def _minor(version: str) -> int:
    return int(version.split(".")[1])


def test_the_lowest_triton_is_the_same_wherever_it_is_named() -> None:
    (triton,) = map(Requirement, PYPROJECT["project"]["optional-dependencies"]["cuda"])
    lowest = version(triton, ">=")
    assert lowest == ".".join(map(str, batched_cuda._TRITON))
    pins = {
        group: requirement
        for group in noxfile.OLDER_TRITONS
        for requirement in listed(group)
        if requirement.name == "triton"
    }
    assert pins["lowest-triton"].specifier == SpecifierSet(f"=={lowest}.0")
    assert [str(pin) for pin in pins.values() if not triton.specifier.contains(version(pin, "=="))] == []


def test_nox_is_as_new_as_the_sessions_need() -> None:
    (of_suite,) = (requirement for requirement in listed("suite") if requirement.name == "nox")
    assert str(of_suite.specifier) == nox.needs_version


def test_the_package_imports_what_it_requires() -> None:
    of_impls = imported("impls")
    assert {name: files for name, files in of_impls.items() if not packages(name) & of_the_package()} == {}
    assert "torch" in of_impls


def test_the_package_imports_itself_by_no_name() -> None:
    """That of its folder is the checkout's alone."""
    names = dict[str, set[str]]()
    for file in (ROOT / "impls").rglob("*.py"):
        names[str(file)] = {*modules(ast.parse(file.read_text(encoding="utf-8")))} & OURS
    assert {file: ours for file, ours in names.items() if ours} == {}


def test_importing_the_package_imports_all_that_it_requires() -> None:
    """What is needed only sometimes is an extra, and what torch needs is torch's: pip installs it for everybody."""
    required = {Requirement(text).name for text in PYPROJECT["project"]["dependencies"]}
    code = "import sys, impls; print(*{name.partition('.')[0] for name in sys.modules})"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    loaded = {*ran.stdout.split()} & imported("impls").keys()
    assert required <= set[str]().union(*map(packages, loaded))


def test_the_package_and_the_suite_import_without_triton() -> None:
    code = "import sys; sys.modules['triton'] = None; import impls, suite.verify.writing; impls.names()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_building_requires_what_the_hook_imports() -> None:
    """Every `pip install` of the sources installs these first."""
    required = {Requirement(text).name for text in PYPROJECT["build-system"]["requires"]}
    tree = ast.parse((ROOT / "suite" / "package" / "build_hook.py").read_text(encoding="utf-8"))
    first = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    of_hook = {*modules(first)} - sys.stdlib_module_names
    assert required == set[str]().union(*map(packages, of_hook))


def test_the_suite_imports_what_its_groups_require() -> None:
    of_suite, missing = imported("suite"), {}
    for name, files in of_suite.items():
        installed = requirements(GROUPS[name]) if name in GROUPS else requirements("suite") | of_the_package()
        if not packages(name) & installed:
            missing[name] = files
    assert missing == {}
    assert {"pandas", *GROUPS} <= set(of_suite)


def test_the_suite_requires_what_it_imports() -> None:
    """What nothing imports any more is installed for nothing."""
    used = READ.union(*map(packages, imported("suite")))
    assert requirements("suite") - used == set()


def test_labmls_packages_are_those_that_its_module_imports() -> None:
    """They come without their own requirements, so that none installs another."""
    for module in labml.CANDIDATE.modules:
        import_module(module)
    loaded = {name.partition(".")[0] for name in sys.modules}
    used = {package for name in loaded for package in packages(name)}
    assert requirements("labml") == {package for package in used if package.startswith("labml")}
