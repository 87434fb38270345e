"""What rows depend on: the sources, their commit, and whether a verification of these sources failed."""

import ast
import hashlib
import subprocess
from functools import cache, partial
from pathlib import Path

import pandas as pd
import torch

from impls import names
from suite.shared import submission
from suite.shared.files import ROOT

#: Where it is decided what is compared, and how: the draws, rounding and uses of each case.
COMPARISONS = "suite/checks/equality"
#: What every row depends on: the tolerance rule, the draws, the cases, and the modules of `COMPARISONS`.
RULE = (
    *(f"suite/shared/{name}.py" for name in ("compare", "arithmetic", "oracle", "cases")),
    *sorted(
        f"{COMPARISONS}/{path.name}"
        for path in (ROOT / COMPARISONS).glob("*.py")
        if not path.name.startswith(("test_", "conftest"))
    ),
)
#: Further files of candidates that are no implementation, by name.
EXTRA_FILES = {
    "compiled": ("impls/batched.py", "impls/definition.py", "suite/shared/compiled_lstm.py"),
    "jax": ("suite/shared/jax_lstm.py",),
}
#: What chooses an implementation, on which no row depends as it computes nothing.
CHOICE = ("impls/registry.py", "impls/proof.py")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def sources(implementation: str) -> str:
    """Hash of the files that rows of an implementation depend on, see `source_files`."""
    # Reading as text makes line ends, which differ between checkouts, the same.
    return _hash("\0".join(_name(path) + path.read_text(encoding="utf-8") for path in source_files(implementation)))


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def source_files(implementation: str) -> list[Path]:
    """Files that rows of an implementation depend on: its own, those that it and the module import, and `RULE`.

    implementation: a name of the registry, or an external name, which depends on `RULE` and `EXTRA_FILES`.
    """
    files, impls = set[Path](), ROOT / "impls"
    todo = [impls / "hyperlstm.py", *_own(impls, implementation)] if implementation in names() else []
    while todo:
        if (path := todo.pop()) not in files:
            files.add(path)
            todo += _imported(path) if path.suffix == ".py" else []
    files -= {ROOT / path for path in CHOICE}
    return [*sorted(files), *(ROOT / path for path in (*EXTRA_FILES.get(implementation, ()), *RULE))]


def _own(impls: Path, name: str) -> list[Path]:
    """Files of the implementation `impls/<name>.py`, `impls/<name>/` or of `--impl`."""
    if name in submission.files():
        return [submission.files()[name], *(impls / "gradient").glob("*.py")]  # it may import these by another name
    module = impls / f"{name}.py"
    return [module] if module.exists() else [p for p in (impls / name).rglob("*") if p.suffix in {".py", ".h", ".cpp"}]


def _imported(path: Path) -> list[Path]:
    """Files that a file of impls/ imports by relative imports, within functions too."""
    files: list[Path] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            module = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            own = [module.with_suffix(".py"), module / "__init__.py"] if node.module else []
            files += filter(Path.exists, [*own, *(module / f"{alias.name}.py" for alias in node.names)])
    return files


def stale(rows: pd.DataFrame) -> pd.Series:
    """True for each row whose sources have changed since it was made."""
    others: pd.Series = rows["sources"] != rows["implementation"].map(sources)
    return others


@cache
def commit() -> str:
    """Commit, followed by "dirty" if code other than pages was changed, or "unknown" outside git."""
    git = partial(subprocess.check_output, cwd=ROOT, stderr=subprocess.DEVNULL, text=True)
    code = ("impls", "suite", "pyproject.toml", "noxfile.py", ":!*.md")
    try:
        head = git(["git", "rev-parse", "--short=10", "HEAD"]).strip()
        changed = git(["git", "status", "--porcelain", "--", *code])
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head} dirty" if changed else head


def refused(verify: pd.DataFrame, implementation: str, dtype: str) -> str:
    """Why an implementation is not to be timed in a dtype: "red", a case of verify.csv failed, or "stale"; else ""."""
    if verify.empty:
        return ""
    rows = verify[(verify["implementation"] == implementation) & (verify["dtype"] == dtype)]
    rows = rows[(rows["verdict"] != "skipped") & (rows["torch"].astype(str) == torch.__version__)]
    if (rows["verdict"] == "FAIL").any():
        return "red"
    return "stale" if stale(rows).any() else ""
