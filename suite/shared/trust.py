"""What a row rests on: the sources, the commit they are in, and the verification of just these sources."""

import hashlib
import subprocess
from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from impls import names
from impls.registry import Impl, dtype_name
from suite.shared.files import ROOT
from suite.shared.results import read

#: What a row rests on besides the implementations: the tolerance rule, the draws, and the cases.
RULE = ("suite/shared/compare.py", "suite/shared/ragged.py", "suite/shared/cases.py")
_DIGITS = 12


class Standing(NamedTuple):
    """What verification says of an implementation in a dtype, and the hash of the rows that say so."""

    word: str  # verified, unverified, stale, red, or peer for what is not ours
    rows: str
    refusal: str | None = None


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_DIGITS]


@cache
def sources() -> str:
    """Return the hash of everything under impls/ that is compiled or run, and of `RULE`."""
    files = sorted(path for path in (ROOT / "impls").rglob("*") if path.suffix in {".py", ".h", ".cpp"})
    files += [ROOT / path for path in RULE]
    # Line ends differ between checkouts.
    texts = [path.relative_to(ROOT).as_posix().encode() + path.read_bytes().replace(b"\r\n", b"\n") for path in files]
    return _hash(b"\0".join(texts))


@cache
def commit() -> str:
    """Return the commit, with "dirty" after it where code was changed since, or "unknown" outside git.

    Pages are not code: those in suite/ have parts that every report writes anew.
    """
    git = partial(subprocess.check_output, cwd=ROOT, stderr=subprocess.DEVNULL, text=True)
    code = ("impls", "suite", "pyproject.toml", "noxfile.py", ":!*.md")
    try:
        head = git(["git", "rev-parse", "--short=10", "HEAD"]).strip()
        changed = git(["git", "status", "--porcelain", "--", *code])
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head} dirty" if changed else head


def stamp() -> dict[str, str]:
    """Return the columns that say which code a row was made with."""
    return {"commit": commit(), "sources": sources()}


def standing(verify: pd.DataFrame, implementation: str, dtype: str, torch_version: str) -> Standing:
    """Return what the rows of verify.csv say of an implementation in a dtype.

    Red: a case failed. Stale: rows are of other sources. Unverified: no case has run with this torch. These and
    "verified" hold for implementations; what is not ours is a peer.
    """
    if implementation not in names():
        return Standing("peer", "")
    if verify.empty:
        return Standing("unverified", "")
    rows = verify[(verify["implementation"] == implementation) & (verify["dtype"] == dtype)]
    rows = rows[(rows["verdict"] != "skipped") & (rows["torch"].astype(str) == torch_version)].sort_values("case")
    if rows.empty:
        return Standing("unverified", "")
    digest = _hash(rows.to_csv(index=False).encode())
    if (rows["verdict"] == "FAIL").any():
        return Standing("red", digest, f"verify.csv has a failure of {implementation} in {dtype}")
    if (rows["sources"] != sources()).any():
        return Standing("stale", digest, f"verify.csv is of other sources for {implementation} in {dtype}")
    return Standing("verified", digest)


def unproven(impls: Iterable[Impl], results: Path) -> list[str]:
    """Return the implementations that need a GPU, are not experimental, and that no machine of `results` has proven."""
    verified = [read(path) for path in sorted(results.glob("*/verify.csv"))]
    needing = [impl for impl in impls if "cpu" not in impl.devices and not impl.experimental]
    return [impl.name for impl in needing if not any(_proves(rows, impl) for rows in verified)]


def _proves(verify: pd.DataFrame, impl: Impl) -> bool:
    """Return whether rows are of a device of the implementation's kind, of these sources, and green in each dtype."""
    rows = verify[(verify["implementation"] == impl.name) & verify["device"].isin(impl.devices)]
    rows = rows[rows["verdict"] != "skipped"]
    right = (rows["verdict"] == "pass") & (rows["sources"] == sources())
    return bool(right.all()) and set(rows["dtype"]) >= set(map(dtype_name, impl.dtypes))
