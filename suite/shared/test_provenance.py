"""A row is stale if code that it depends on has changed."""

import re
import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from impls import names
from impls.registry import IMPLS
from suite.shared import provenance
from suite.shared.cases import ORDER
from suite.shared.examples import CPU, verified
from suite.shared.files import ROOT
from suite.shared.tables import stamp


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        ([], ""),
        ([verified(dtype="float64", verdict="FAIL"), verified("naive", verdict="FAIL")], ""),
        ([verified(verdict="skipped", sources="elsewhere")], ""),
        ([verified(torch="1.0", sources="elsewhere", verdict="FAIL")], ""),
        ([verified(), verified(case="b")], ""),
        ([verified(), verified(case="b", verdict="FAIL")], "red"),
        ([verified(), verified(case="b", sources="elsewhere")], "stale"),
    ],
)
def test_what_failed_or_is_stale_is_refused(rows: list[dict[str, Any]], status: str) -> None:
    assert provenance.refused(pd.DataFrame(rows), "batched", "float32") == status


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of what rows rest on, which is hashed instead of the sources."""
    for part in ("impls", "suite/shared", provenance.COMPARISONS):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setattr(provenance, "sources", provenance.sources.__wrapped__)
    return tmp_path


def one_each() -> pd.DataFrame:
    """Return a row of all that rows may rest on, as they are made now."""
    return pd.DataFrame([stamp(CPU, name) | {"implementation": name} for name in ORDER])


HAND_WRITTEN = [impl.name for impl in IMPLS if impl.hand_written]


@pytest.mark.parametrize(
    ("path", "comment", "resting"),
    [
        ("impls/deferred.py", "#", ["deferred"]),
        ("impls/batched.py", "#", ["batched", "compiled"]),
        ("impls/batched_cpu/forward.cpp", "//", ["batched_cpu"]),
        ("impls/batched_cpu/vec.h", "//", ["batched_cpu"]),
        ("impls/gradient/cell.py", "#", HAND_WRITTEN),
        ("impls/calls.py", "#", names()),
        ("impls/registry.py", "#", []),
        ("suite/shared/jax_lstm.py", "#", ["jax"]),
        ("suite/shared/compare.py", "#", ORDER),
        ("suite/checks/equality/uses.py", "#", ORDER),
    ],
)
def test_a_comment_makes_only_dependants_stale(path: str, comment: str, resting: Collection[str], copied: Path) -> None:
    rows = one_each()
    assert not provenance.stale(rows).any()
    with (copied / path).open("a") as file:
        file.write(f"\n{comment} A comment.\n")
    assert list(rows["implementation"][provenance.stale(rows)]) == list(resting)


def test_a_commit_is_dirty_if_code_was_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    commits = [provenance.commit.__wrapped__()]
    for command in ("init -q", "-c user.name=a -c user.email=a@b commit -q --allow-empty -m first"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    (tmp_path / "results.md").touch()
    commits.append(provenance.commit.__wrapped__())
    (tmp_path / "noxfile.py").touch()
    commits.append(provenance.commit.__wrapped__())
    assert re.fullmatch(r"unknown, ([0-9a-f]{10}), \1 dirty", ", ".join(commits))


def test_the_rule_is_hashed_with_its_files() -> None:
    imported = {
        line for path in provenance.RULE for line in re.findall(r"^from (suite[.\w]*)", (ROOT / path).read_text(), re.M)
    }
    assert {f"{name.replace('.', '/')}.py" for name in imported} <= set(provenance.RULE)
