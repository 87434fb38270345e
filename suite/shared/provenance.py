"""What rows depend on: the sources, their commit, and whether a verification of these sources failed."""

import hashlib
import subprocess
from functools import cache, partial
from pathlib import Path

import pandas as pd
import torch

from impls import names
from impls.registry import find
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
#: Of `impls`, on which no row depends: these choose an implementation or convert parameters, and compute nothing.
WITHOUT_RESULTS = ("__init__", "registry", "proof", "convert")


@cache
def sources(implementation: str) -> str:
    """Hash of the files that rows of an implementation depend on, see `source_files`."""
    # Reading as text makes line ends, which differ between checkouts, the same.
    text = "\0".join(path.name + path.read_text(encoding="utf-8") for path in source_files(implementation))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def source_files(implementation: str) -> list[Path]:
    """Files that rows of an implementation depend on: its own, the module around it, and `RULE`.

    No implementation imports another, and only hand-written ones use `gradient`, which a file of `--impl` may.
    implementation: a name of the registry, or an external name, which depends on `RULE` and `EXTRA_FILES`.
    """
    submitted, listed = implementation in submission.files(), (*EXTRA_FILES.get(implementation, ()), *RULE)
    files = submission.sources(implementation) if submitted else []
    if implementation in names():
        others = {*names(), *WITHOUT_RESULTS} - {implementation, *submission.files()}
        if not submitted and not find(implementation).hand_written:
            others.add("gradient")
        for path in sorted((ROOT / "impls").rglob("*")):
            part = path.relative_to(ROOT / "impls").parts[0].removesuffix(".py")
            if path.suffix in {".py", ".h", ".cpp"} and part not in others:
                files.append(path)
    return [*files, *(ROOT / path for path in listed)]


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
