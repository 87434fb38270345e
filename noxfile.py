"""The commands of the project: `nox -s verify`, `nox -s bench`, `nox -s report`, `nox -s lint`."""

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["lint", "verify"]
nox.options.reuse_venv = "yes"

PYPROJECT = nox.project.load_toml("pyproject.toml")
#: The peer implementation. Its own requirements pin much that the module itself does not import.
LABML = ("labml-nn", "labml", "labml-helpers")


def install(session: nox.Session, group: str) -> None:
    """Install what the module and the group need; the project itself runs from the checkout."""
    session.install(*PYPROJECT["project"]["dependencies"], *nox.project.dependency_groups(PYPROJECT, group))


@nox.session
def verify(session: nox.Session) -> None:
    """Check every implementation; arguments go to pytest."""
    install(session, "verify")
    session.install("--no-deps", *LABML)
    session.run("python", "-m", "pytest", "suite", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Time every implementation; `-- --help` shows what can be chosen."""
    install(session, "bench")
    session.install("--no-deps", *LABML)
    session.run("python", "-m", "suite.bench", *session.posargs)


@nox.session
def report(session: nox.Session) -> None:
    """Make the tables again from the CSV files under results/."""
    install(session, "bench")
    session.run("python", "-m", "suite.report", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and types."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
