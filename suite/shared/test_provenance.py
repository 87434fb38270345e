"""Rows tell what they rest on, and what no device has proven is not chosen by default."""

import re
import shutil
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from impls import names
from impls.definition import dtype_name
from impls.registry import IMPLS, Impl, find
from suite.shared import provenance
from suite.shared.cases import INTERPRETED, ORDER, WORKLOADS, Case
from suite.shared.examples import CPU
from suite.shared.files import RESULTS, ROOT
from suite.shared.format import origin
from suite.shared.tables import TABLES, stamp


def verified(**changes: Any) -> dict[str, Any]:
    row = {"implementation": "batched", "dtype": "float32", "case": "a", "verdict": "pass", "reason": ""} | changes
    return stamp(CPU, row["implementation"]) | row


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        ([], "unverified"),
        ([verified(dtype="float64")], "unverified"),
        ([verified(verdict="skipped")], "unverified"),
        ([verified(), verified(case="b")], "verified"),
        ([verified(), verified(case="b", verdict="FAIL")], "red"),
        ([verified(), verified(case="b", sources="elsewhere")], "stale"),
        ([verified(torch="1.0", sources="elsewhere", verdict="FAIL")], "unverified"),
    ],
)
def test_what_verification_says_of_an_implementation(rows: list[dict[str, Any]], status: str) -> None:
    result = provenance.verification(pd.DataFrame(rows), "batched", "float32", torch.__version__, [])
    assert result.status == status


CHAR_PTB = WORKLOADS["char-ptb"]
LARGER = [replace(CHAR_PTB, **{n: getattr(CHAR_PTB, n) + 1}).id for n in "IHSZL"]
TINY_CASE, AT_SIZES = Case(T=1, B=1, I=5, H=7, S=5, Z=2).id, replace(CHAR_PTB, T=2, state="stacked").id


@pytest.mark.parametrize(
    ("dtype", "rows", "status"),
    [
        ("float32", [verified(case=AT_SIZES), verified(case=TINY_CASE)], "verified"),
        ("float32", [verified(case=TINY_CASE)], "checked"),
        ("float32", [verified(case=replace(CHAR_PTB, B=129).id)], "verified"),
        ("float32", [verified(case=replace(CHAR_PTB, B=127).id)], "checked"),
        ("float32", [verified(case=replace(CHAR_PTB, layer_norm=True).id)], "checked"),
        ("float32", [verified(case=replace(CHAR_PTB, recurrent_dropout=0.5).id)], "checked"),
        ("float32", [verified(case=f"{AT_SIZES}-frozen")], "checked"),
        ("float32", [verified(case=WORKLOADS["char-ptb-ragged"].id)], "checked"),
        *(("float32", [verified(case=larger)], "checked") for larger in LARGER),
        ("tf32", [verified(case=AT_SIZES), verified(case=TINY_CASE, dtype="tf32")], "checked"),
        ("tf32", [verified(case=AT_SIZES)], "unverified"),
        ("bfloat16", [verified(case=AT_SIZES), verified(case=TINY_CASE, dtype="bfloat16")], "checked"),
    ],
)  # fmt: skip
def test_a_workload_is_verified_at_its_sizes(dtype: str, rows: list[dict[str, Any]], status: str) -> None:
    result = provenance.verification(pd.DataFrame(rows), "batched", dtype, torch.__version__, [CHAR_PTB])
    assert result.status == status


def test_every_form_of_a_job_is_verified() -> None:
    norm, ragged = replace(CHAR_PTB, layer_norm=True), WORKLOADS["char-ptb-ragged"]
    rows = pd.DataFrame([verified(case=AT_SIZES), verified(case=replace(ragged, T=2, lengths=(2,) * 128).id)])

    def status(*cases: Case) -> str:
        return provenance.verification(rows, "batched", "float32", torch.__version__, cases).status

    assert (status(CHAR_PTB), status(CHAR_PTB, norm), status(norm)) == ("verified", "checked", "checked")
    assert status(ragged) == "verified"


def test_verification_hash_changes_with_its_rows() -> None:
    hashes = {
        provenance.verification(pd.DataFrame([verified(ratio=ratio)]), "batched", "float32", torch.__version__, []).rows
        for ratio in (0.1, 0.2, 0.1)
    }
    assert len(hashes) == 2


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of what rows rest on, which is hashed in place of the sources themselves."""
    for part in ("impls", "suite/shared", provenance.COMPARISONS):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setattr(provenance, "sources", partial(provenance.sources.__wrapped__, root=tmp_path))
    return tmp_path


EVERYTHING = (provenance.MODULE, *ORDER)


def one_each() -> pd.DataFrame:
    """Return a row of all that rows may rest on, as they are made now."""
    return pd.DataFrame([stamp(CPU, name) | {"implementation": name} for name in EVERYTHING])


HAND_WRITTEN = [impl.name for impl in IMPLS if impl.hand_written]


@pytest.mark.parametrize(
    ("path", "comment", "resting"),
    [
        ("impls/deferred.py", "#", ["deferred"]),
        ("impls/batched.py", "#", ["batched", "compiled"]),
        ("impls/batched_cpu/build.py", "#", ["batched_cpu"]),
        ("impls/batched_cpu/forward.cpp", "//", ["batched_cpu"]),
        ("impls/batched_cpu/vec.h", "//", ["batched_cpu"]),
        ("impls/gradient/operator.py", "#", HAND_WRITTEN),
        ("impls/gradient/backward.py", "#", HAND_WRITTEN[:1]),
        ("impls/calls.py", "#", [provenance.MODULE, *names()]),
        ("impls/registry.py", "#", []),
        ("suite/shared/compiled_lstm.py", "#", ["compiled"]),
        ("suite/shared/jax_lstm.py", "#", ["jax"]),
        ("suite/shared/compare.py", "#", EVERYTHING),
        ("suite/checks/equality/uses.py", "#", EVERYTHING),
        ("suite/shared/tables.py", "#", []),
    ],
)
def test_a_comment_makes_only_dependants_stale(path: str, comment: str, resting: Collection[str], copied: Path) -> None:
    rows = one_each()
    assert "**Stale**" not in origin(rows)
    with (copied / path).open("a") as file:
        file.write(f"\n{comment} A comment.\n")
    assert list(rows["implementation"][provenance.stale(rows)]) == list(resting)
    note = f"{len(resting)} of {len(rows)} rows (of {', '.join(resting)}) depend on code that has changed since."
    assert origin(rows).endswith(note if resting else "`.")


def test_a_new_implementation_makes_nothing_stale(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, registry = one_each(), copied / "impls/registry.py"
    shutil.copy(copied / "impls/naive.py", copied / "impls/added.py")
    registry.write_text(registry.read_text() + '\nIMPLS = [*IMPLS, Impl("added", "nothing")]\n')
    monkeypatch.setattr(provenance, "names", lambda: ["added", *names()])
    assert not provenance.stale(rows).any()
    assert provenance.sources("added") not in set(rows["sources"])


def test_imports_within_functions_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "hyperlstm.py": "from .registry import IMPLS",
        "registry.py": "from .packed import rows_of",
        "packed.py": "",
        "mine/__init__.py": "def run():\n    from ..helper import help",
        "mine/kernel.h": "",
        "mine/deep/also.py": "from ... import other",
        "helper.py": "import json\nfrom .further.below import more",
        "further/below.py": "from . import beside",
        "further/beside.py": "from torch import nn",
        "other.py": "",
        "unrelated.py": "from .mine import run",
    }
    for path, text in texts.items():
        (tmp_path / "impls" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "impls" / path).write_text(text)
    monkeypatch.setattr(provenance, "names", lambda: ["mine"])
    files = [path.relative_to(tmp_path).as_posix() for path in provenance.source_files("mine", tmp_path)]
    ours = sorted(f"impls/{path}" for path in texts if path not in ("registry.py", "unrelated.py"))
    assert files == [*ours, *provenance.RULE]
    assert [path.relative_to(tmp_path).as_posix() for path in provenance.source_files("external", tmp_path)] == [
        *provenance.RULE
    ]
    assert provenance.source_files("mine, wider", tmp_path) == provenance.source_files("mine", tmp_path)


def test_sources_ignore_line_endings(copied: Path) -> None:
    before, path = provenance.sources("naive"), copied / "impls" / "naive.py"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert provenance.sources("naive") == before
    assert provenance.commit.__wrapped__() == "unknown"


def test_the_rule_is_hashed_with_its_files() -> None:
    imported = {
        line for path in provenance.RULE for line in re.findall(r"^from (suite[.\w]*)", (ROOT / path).read_text(), re.M)
    }
    assert {f"{name.replace('.', '/')}.py" for name in imported} <= set(provenance.RULE)


def proven(impl: Impl, results: Path) -> bool:
    """Whether all comparisons of one GPU passed, of these sources, in each dtype of an implementation."""
    for path in results.glob("*/verify.csv"):
        rows = TABLES["verify"].load(path)
        rows = rows[(rows["implementation"] == impl.name) & (rows["device"] == "cuda")]
        rows = rows[~rows["verdict"].eq("skipped") & ~rows["reason"].eq(INTERPRETED)]
        passed = rows["verdict"].eq("pass") & ~provenance.stale(rows)
        if passed.all() and {*rows["dtype"]} >= {*map(dtype_name, impl.dtypes)}:
            return True
    return False


DAMAGES = [{"verdict": "FAIL"}, {"sources": "x"}, {"dtype": "float32"}, {"device": "cpu"}, {"reason": INTERPRETED}, {}]


@pytest.mark.parametrize("changes", DAMAGES, ids=str)
def test_gpu_code_is_experimental_until_a_gpu_verified_it(changes: dict[str, str], tmp_path: Path) -> None:
    impl = replace(find("batched_cuda"), dtypes=(torch.float32, torch.bfloat16))
    of_gpu = {"implementation": impl.name, "device": "cuda"}
    half = verified(**of_gpu | {"dtype": "bfloat16", "case": "b"} | changes)
    TABLES["verify"].replace(tmp_path / "card", [verified(**of_gpu), half])
    assert proven(impl, tmp_path) == (not changes)
    assert all("cpu" in each.devices or each.experimental or proven(each, RESULTS) for each in IMPLS)
