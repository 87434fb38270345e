"""Sessions of noxfile.py, with what each would install and run."""

import shutil
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from nox import registry
from packaging.requirements import Requirement

import noxfile
from suite.package.dependencies import requirements
from suite.shared.files import ROOT

#: The function of each session, with its options, as nox knows them.
FUNCTIONS: Mapping[str, Any] = {
    name: function for name, function in registry.get().items() if function.__module__ == noxfile.__name__
}
#: Options of pip and uv that a value follows.
VALUED = ("--group", "--python", "--resolution")
#: What a build writes.
BUILT = ("hyperlstm-0.1.0-py3-none-any.whl", "hyperlstm-0.1.0.tar.gz")


class Run(NamedTuple):
    """A command of a session.

    installed: names of the packages that the session has installed for it before. variables: of the environment.
    options: further ones of `Session.run`.
    """

    command: Sequence[str]
    installed: Collection[str]
    variables: Mapping[str, str]
    options: Mapping[str, Any]

    @property
    def module(self) -> str:
        """The module that Python runs, "" if it is a script, code, or another program."""
        program, *words = self.command
        return words[1] if Path(program).name == "python" and words[0] == "-m" else ""

    @property
    def arguments(self) -> Sequence[str]:
        """What follows the module or the script, or the program."""
        if self.module:
            return self.command[3:]
        return self.command[2:] if Path(self.command[0]).name == "python" else self.command[1:]

    def values(self, option: str) -> list[str]:
        """What follows an option among the arguments, each time it is there."""
        return [value for word, value in pairwise(self.arguments) if word == option]


class Recorded:
    """A session that notes what it would install and run, and does nothing of it but write the files of a build."""

    def __init__(self, name: str, folder: Path, arguments: Sequence[str]) -> None:
        self.name = name
        self.function = FUNCTIONS[name]
        self.posargs, self.invoked_from = [*arguments], "/home/me"
        self.venv_backend = self.function.venv_backend or "virtualenv"
        self.bin = str(folder / name / "bin")
        self.cache_dir = Path(".nox", ".cache")
        self.installs: list[Sequence[str]] = []
        self.runs: list[Run] = []
        self._scratch = folder / f"{name}-scratch"
        self._installed = defaultdict[Path, set[str]](set)

    def create_tmp(self) -> str:
        """Folder of the files that the session makes."""
        self._scratch.mkdir(exist_ok=True)
        return str(self._scratch)

    def install(self, *words: str, **_: object) -> None:
        """Note what pip would install for the programs of the session."""
        self.installs.append(words)
        self._installed[Path(self.bin)] |= _packages(words)

    def run(self, *command: str, env: Mapping[str, str] | None = None, **options: Any) -> None:
        """Note a command, and what uv would install for another Python."""
        program = Path(command[0])
        folder = program.parent if program.is_absolute() else Path(self.bin)
        run = Run(command, frozenset(self._installed[folder]), env or {}, options)
        self.runs.append(run)
        if command[:3] == ("uv", "pip", "install"):
            (python,) = run.values("--python")
            groups = map(requirements, run.values("--group"))
            self._installed[Path(python).parent] |= _packages(command[3:]).union(*groups)
        for target in (*run.values("--out-dir"), *run.values("-d")):
            Path(target).mkdir(exist_ok=True)
            for name in BUILT:
                Path(target, name).touch()

    @property
    def installed(self) -> Collection[str]:
        """Names of the packages that it installs for its programs."""
        return self._installed[Path(self.bin)]


def _packages(words: Sequence[str]) -> set[str]:
    """Names of the packages among arguments of pip; what is a path is the project."""
    named = [word for before, word in pairwise(("", *words)) if not word.startswith("-") and before not in VALUED]
    return {"hyperlstm" if "/" in word else Requirement(word).name for word in named}


def recorded(name: str, folder: Path, *user: str, **arguments: str | None) -> Recorded:
    """A session after it ran on a machine with x86-64 that has every program.

    folder: for its files. user: arguments of the command line. arguments: of a session with parameters.
    """
    session = Recorded(name, folder, user)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for part in ("impls", "suite"):
            if not Path(part).exists():
                Path(part).symlink_to(ROOT / part)
        patch.setattr(shutil, "which", lambda program: f"/usr/bin/{program}")
        patch.setattr("platform.machine", lambda: "x86_64")
        session.function(session, **arguments)
    return session


def every(folder: Path, *user: str) -> dict[str, Recorded]:
    """Every session by name, one with parameters once for each, such as `kernels(newest)`."""
    sessions = dict[str, Recorded]()
    for name, function in FUNCTIONS.items():
        for call in getattr(function, "parametrize", [None]):
            signature = f"{name}({call})" if call else name
            sessions[signature] = recorded(name, folder, *user, **(call.call_spec if call else {}))
    return sessions
