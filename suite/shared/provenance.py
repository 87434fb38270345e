"""What rows depend on: the sources, their commit, and the verification of these sources."""

import ast
import hashlib
import subprocess
from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from impls import names
from impls.definition import dtype_name
from impls.registry import Impl
from suite.shared.cases import INTERPRETED
from suite.shared.files import ROOT
from suite.shared.results import read

#: What every row depends on: the tolerance rule, the draws, and the cases.
RULE = tuple(f"suite/shared/{name}.py" for name in ("compare", "arithmetic", "oracle", "cases", "wide"))
#: Further files of external candidates, by name.
EXTRA_FILES = {"jax": ("suite/shared/jax_lstm.py",)}
#: The part of impls/ that calls implementations; and their table, on which no row depends as it computes nothing.
MODULE, REGISTRY = "hyperlstm", "registry"
_DIGITS = 12


class Verification(NamedTuple):
    """Verification status of an implementation in a dtype, and the hash of the rows that say so."""

    status: str  # verified, unverified, stale, red, or external
    rows: str


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_DIGITS]


@cache
def sources(implementation: str, root: Path = ROOT) -> str:
    """Hash of the files that rows of an implementation depend on, see `source_files`."""
    # Line ends differ between checkouts.
    texts = [
        path.relative_to(root).as_posix().encode() + path.read_bytes().replace(b"\r\n", b"\n")
        for path in source_files(implementation, root)
    ]
    return _hash(b"\0".join(texts))


def source_files(implementation: str, root: Path = ROOT) -> list[Path]:
    """Files that rows of an implementation depend on: its own, those that it and the module import, and `RULE`.

    implementation: a name of the registry, `MODULE` for what all have in common, or an external name, which depends on
    `RULE` and `EXTRA_FILES`. More words may follow a comma.
    """
    name, impls = implementation.split(",")[0], root / "impls"
    found = set[Path]()
    todo = [impls / f"{MODULE}.py", *_own(impls, name)] if name in (MODULE, *names()) else []
    while todo:
        if (path := todo.pop()) not in found:
            found.add(path)
            todo += _imported(path) if path.suffix == ".py" else []
    found.discard(impls / f"{REGISTRY}.py")
    return [*sorted(found), *(root / path for path in (*EXTRA_FILES.get(name, ()), *RULE))]


def _own(impls: Path, name: str) -> list[Path]:
    """Files of the implementation `impls/<name>.py` or `impls/<name>/`."""
    module = impls / f"{name}.py"
    return [module] if module.exists() else [p for p in (impls / name).rglob("*") if p.suffix in {".py", ".h", ".cpp"}]


def _imported(path: Path) -> list[Path]:
    """Files that a file of impls/ imports by relative imports, within functions too."""
    found: list[Path] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            module = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            options = [module.with_name(f"{module.name}.py"), module / "__init__.py"]
            found += [file for file in options if node.module and file.exists()]
            found += [file for alias in node.names if (file := module / f"{alias.name}.py").exists()]
    return found


def stale(rows: pd.DataFrame) -> pd.Series:
    """True for each row that was made with other sources than those here."""
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


def verification(verify: pd.DataFrame, implementation: str, dtype: str, torch_version: str) -> Verification:
    """Verification status of an implementation in a dtype by the rows of verify.csv.

    Red: a case failed. Stale: rows are of other sources. Unverified: no case has run with this torch.
    """
    if implementation not in names():
        return Verification("external", "")
    if verify.empty:
        return Verification("unverified", "")
    rows = verify[(verify["implementation"] == implementation) & (verify["dtype"] == dtype)]
    rows = rows[(rows["verdict"] != "skipped") & (rows["torch"].astype(str) == torch_version)].sort_values("case")
    if rows.empty:
        return Verification("unverified", "")
    digest = _hash(rows.to_csv(index=False).encode())
    if (rows["verdict"] == "FAIL").any():
        return Verification("red", digest)
    return Verification("stale" if stale(rows).any() else "verified", digest)


def unproven(impls: Iterable[Impl], results: Path) -> list[str]:
    """Implementations that need a GPU, are not experimental, and that no machine of `results` has proven."""
    verified = [read(path) for path in sorted(results.glob("*/verify.csv"))]
    needing = [impl for impl in impls if "cpu" not in impl.devices and not impl.experimental]
    return [impl.name for impl in needing if not any(_proves(rows, impl) for rows in verified)]


def _proves(verify: pd.DataFrame, impl: Impl) -> bool:
    """True if rows are of a device of the implementation's kind, of these sources, and green in each dtype."""
    rows = verify[(verify["implementation"] == impl.name) & verify["device"].isin(impl.devices)]
    rows = rows[(rows["verdict"] != "skipped") & (rows["reason"] != INTERPRETED)]
    right = (rows["verdict"] == "pass") & ~stale(rows)
    return bool(right.all()) and set(rows["dtype"]) >= set(map(dtype_name, impl.dtypes))
