"""A row is stale if code that it depends on has changed."""

import ast
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pandas as pd
import pytest

from impls import names
from impls.registry import IMPLS
from suite.candidates.names import ORDER, PADDED
from suite.cases.examples import CPU
from suite.cases.spelling import MEDIUM
from suite.results import provenance
from suite.results.examples import runs, verified
from suite.results.outcomes import CaseOutcome
from suite.results.provenance import Refusal, refused
from suite.results.tables import stamp
from suite.shared.files import ROOT

FAIL = CaseOutcome.FAIL


@pytest.mark.parametrize(
    ("rows", "refusal"),
    [
        ([], None),
        ([verified(dtype="float64", verdict=FAIL), verified("naive", verdict=FAIL)], None),
        ([verified(verdict=CaseOutcome.SKIPPED, sources="elsewhere")], None),
        ([verified(torch="1.0", sources="elsewhere", verdict=FAIL)], None),
        ([verified(), verified(case="b")], None),
        ([verified(), verified(case="b", verdict=FAIL)], Refusal.RED),
        ([verified(), verified(case="b", sources="elsewhere")], Refusal.STALE),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "tf32"])
def test_what_failed_or_is_stale_is_refused(rows: list[dict[str, Any]], refusal: Refusal | None, dtype: str) -> None:
    """In TF32 too, since it is float32 with other products."""
    assert refused(pd.DataFrame(rows), "batched", dtype) == refusal


#: Folders, beside `impls`, of what rows depend on.
COPIED = [
    *(f"suite/{folder}" for folder in ("shared", "cases", "comparison", "candidates", "results", "measure")),
    provenance.EQUALITY,
    "suite/checks/faults",
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of what rows depend on."""
    folder = tmp_path_factory.mktemp("copy")
    for part in ("impls", *COPIED):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "suite/checks/module").mkdir()
    for name in ("capabilities", "runs"):
        shutil.copy(ROOT / f"suite/checks/module/{name}.py", folder / "suite/checks/module")
    return folder


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """Forget the hashes of edited files."""
    yield
    provenance._sources.cache_clear()
    provenance._text.cache_clear()


class Kind(NamedTuple):
    """A kind of row: its table, its implementation, and its workload or the module of its uses; None for any."""

    table: str
    implementation: str | None = None
    variant: str | None = None

    def has(self, other: "Kind") -> bool:
        """True if the other one is of this kind."""
        return all(part in (None, of_other) for part, of_other in zip(self, other, strict=True))


def of_kinds(kinds: Collection[Kind]) -> set[Kind]:
    """The kinds of ROWS that are of some kinds."""
    return {row for row in ROWS if any(kind.has(row) for kind in kinds)}


#: A row of each kind.
ROWS: dict[Kind, dict[str, Any]] = {
    **{
        Kind("bench", name, workload): {"implementation": name, "workload": workload, "T": 50, "B": 8}
        for name in ORDER
        for workload in ("small", "medium-ragged")
    },
    **{
        Kind("verify", name, defined): {"implementation": name, "defined": defined}
        for name in ("batched", "deferred", "batched_cpu")
        for defined in ("", *provenance.DEFINED)
    },
    Kind("sizes", "deferred", "H512"): {"implementation": "deferred", "workload": "H512", **MEDIUM.sizes, "H": 512},
    **{Kind(table, "deferred"): {"implementation": "deferred"} for table in ("faults", "capabilities")},
    **{Kind(table): {} for table in ("hardware", "twice")},
}
HAND_WRITTEN = [impl.name for impl in IMPLS if impl.hand_written]
CHECKED = [Kind("verify"), Kind("faults"), Kind("capabilities")]
TIMED = [Kind("bench"), Kind("sizes"), Kind("twice")]
HARDWARE = Kind("hardware")
COMPILED = Kind("bench", "compiled")
CASES, COMPARISON, CANDIDATES = "suite/cases", "suite/comparison", "suite/candidates"
RESULTS, MEASURE, EQUALITY = "suite/results", "suite/measure", provenance.EQUALITY
#: Rows on which an edit of uses tells; pairs take all others, layouts take calls, and calls take gradients.
OF_EXTREMES = [Kind("verify", variant=module) for module in ("extremes", "pairs")]
OF_LAYOUTS = [Kind("verify", variant=module) for module in ("layouts", "pairs")]
OF_GRADIENTS = [Kind("verify", variant=module) for module in ("gradients", "calls", "layouts", "pairs")]
#: What workloads are made of.
OF_WORKLOADS = (f"{CASES}/case.py", f"{CASES}/workloads.py")


def imported_beside(file: str) -> set[str]:
    """Files of its own folder that a file imports, also within functions."""
    folder = Path(file).parent
    modules = set[str]()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == ".".join(folder.parts):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith(f"{'.'.join(folder.parts)}."):
            modules.add(str(node.module).split(".")[-1])
    return {str(folder / f"{module}.py") for module in modules}


def paths_of_uses(module: str) -> list[str]:
    """Files of a column `defined`."""
    return [f"{EQUALITY}/{name}.py" for name in (*provenance.DEFINED[module], "comparison", "leftovers", "use")]


def hashes() -> dict[Kind, str]:
    """Return the hash of each of ROWS."""
    return {kind: provenance.sources(kind.table, row) for kind, row in ROWS.items()}


def changed(before: dict[Kind, str], after: dict[Kind, str]) -> set[Kind]:
    """Return the kinds whose hashes differ."""
    return {kind for kind in ROWS if before[kind] != after[kind]}


def of(*names: str) -> list[Kind]:
    """Rows of implementations in all tables."""
    tables = ("bench", "sizes", "verify", "faults", "capabilities")
    return [Kind(table, name) for name in names for table in tables]


def of_ours(table: str) -> list[Kind]:
    """Rows of all implementations in a table."""
    return [Kind(table, name) for name in names()]


@pytest.mark.parametrize(
    ("path", "old", "new", "expected"),
    [
        # What no row depends on: comments, docstrings, layout, and what is run.
        (f"{COMPARISON}/tolerance.py", "TIMES = 2.0\n", "TIMES = 2.0  # twice\n\n", []),
        (f"{COMPARISON}/tolerance.py", '"""The tolerance rule: run', '"""The tolerance rule:\n\nrun', []),
        (f"{EQUALITY}/pairs.py", '"""True for a call', '"""Whether it is a call', []),
        (f"{MEASURE}/timing.py", "#: Two calls agree", "#: They agree", []),
        (f"{MEASURE}/timing.py", "BURST, WARM = 0.02, 0.1", "(\n    BURST,\n    WARM,\n) = 0.020, 0.1", []),
        (f"{MEASURE}/server.py", 'write_whole(log, "")', 'write_whole(log, "new")', []),
        ("impls/batched_cpu/forward.cpp", "// The forward sweep", "/* The sweep */ //", []),
        ("impls/batched_cpu/forward.cpp", "  sweep.run();\n", "\n    sweep . run( ) ;\n", []),
        ("impls/registry.py", "preference", "order", []),
        (f"{CASES}/verification.py", "Case(T=1, B=1, I=5, H=7, S=5, Z=2)", "Case(T=1, B=1, I=5, H=8, S=5, Z=2)", []),
        (f"{CASES}/verification.py", "I=31, H=31", "I=30, H=31", []),
        (f"{CASES}/workloads.py", "_MEDIUM = Case(T=50, B=32,", "_MEDIUM = Case( T=50, B=32,", []),
        (f"{CASES}/workloads.py", "        time_compiled=True,\n", "", []),
        (f"{EQUALITY}/catalogue.py", "LITERAL = Case(T=2", "LITERAL = Case(T=3", []),
        # What decides a time.
        (f"{MEASURE}/timing.py", "BURST, WARM = 0.02", "BURST, WARM = 0.03", [*TIMED, HARDWARE]),
        (f"{MEASURE}/bench.py", '"cpu": 0.5', '"cpu": 0.6', TIMED),
        (f"{MEASURE}/work.py", ".square().mean()", ".square().sum()", TIMED),
        (f"{MEASURE}/hardware.py", "LONG = 512, 8192, 0.05", "LONG = 512, 8192, 0.06", [HARDWARE]),
        (f"{RESULTS}/statistics.py", "COVERAGE, FEWEST = 0.95", "COVERAGE, FEWEST = 0.9", TIMED),
        (f"{CASES}/case.py", "12 * Z * S", "11 * Z * S", [Kind("bench")]),
        (f"{CASES}/workloads.py", "B=8, I=32, H=64", "B=8, I=32, H=65", [Kind("bench", variant="small")]),
        (f"{CASES}/case.py", "randint(T // 4", "randint(T // 3", [Kind("bench", variant="medium-ragged")]),
        (f"{CANDIDATES}/labml.py", "case.Z, case.L).to(dtype)", "case.Z, 1).to(dtype)", [Kind("bench", "labml")]),
        (f"{CANDIDATES}/lstm.py", "    return lstm\n", "    return lstm.eval()\n", TIMED),
        (f"{CANDIDATES}/padded_lstm.py", "pads=True", "pads=False", [Kind("bench", PADDED)]),
        (f"{CANDIDATES}/ours.py", "literal=impl.literal", "literal=False", [*of_ours("bench"), *of_ours("sizes")]),
        (f"{CANDIDATES}/candidate.py", "case.H + 2 * case.S", "case.H + case.S", TIMED),
        (f"{CANDIDATES}/compiled_lstm.py", "GRAPHS = 256", "GRAPHS = 64", [COMPILED]),
        (f"{CANDIDATES}/jax_lstm.py", "x @ w_x)", "x @ w_x, unroll=2)", [Kind("bench", "jax")]),
        # What decides a comparison.
        (f"{COMPARISON}/tolerance.py", "TIMES = 2.0", "TIMES = 2.1", CHECKED),
        (f"{COMPARISON}/draws.py", "0.7 / math.sqrt", "0.8 / math.sqrt", CHECKED),
        (f"{EQUALITY}/comparison.py", "BF16: BF16,", "BF16: F16,", CHECKED),
        (f"{EQUALITY}/comparison.py", "(DRAWS, 3)", "(DRAWS, 2)", CHECKED),
        (f"{EQUALITY}/comparison.py", "draws = 2 if", "draws = 3 if", CHECKED),
        (f"{EQUALITY}/leftovers.py", 'changed.append("random', 'changed.append("the random', CHECKED),
        (f"{EQUALITY}/extremes.py", "1000 * value) if", "900 * value) if", OF_EXTREMES),
        (f"{EQUALITY}/gradients.py", '(f"{part} alone"', '(f"{part} on its own"', OF_GRADIENTS),
        (f"{EQUALITY}/layouts.py", "shape[-1] + 8", "shape[-1] + 9", OF_LAYOUTS),
        # The oracles, of small cases and of wide ones.
        ("impls/naive.py", "import torch", "import torch as t", [*of("naive"), *CHECKED]),
        ("impls/row_scaled.py", "import torch", "import torch as t", [*of("row_scaled"), *CHECKED]),
        # Implementations, and the module around them.
        ("impls/batched.py", "hidden_weight(p).T", "hidden_weight(p).mT", [*of("batched"), COMPILED]),
        ("impls/batched_cpu/forward.cpp", "sweep.run();", "sweep.run(1);", of("batched_cpu")),
        ("impls/gradient/cell.py", "1 - tanh_c * tanh_c", "1 - tanh_c**2", of(*HAND_WRITTEN)),
        ("impls/calls.py", "x.dim() not in (2, 3)", "x.dim() != 3", [*of(*names()), COMPILED]),
    ],
)  # fmt: skip
def test_an_edit_makes_stale_what_depends_on_it(
    path: str, old: str, new: str, expected: Collection[Kind], copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "ROOT", copy)
    before, text = hashes(), (copy / path).read_text()
    assert old in text
    (copy / path).write_text(text.replace(old, new))
    provenance._sources.cache_clear()
    provenance._text.cache_clear()
    if path in OF_WORKLOADS:
        cases, workloads = (str(copy / file) for file in OF_WORKLOADS)
        monkeypatch.setitem(sys.modules, "suite.cases.case", SimpleNamespace(**runpy.run_path(cases)))
        edited = runpy.run_path(workloads)
        monkeypatch.setattr(provenance, "WORKLOADS", edited["WORKLOADS"])
        monkeypatch.setattr(provenance, "resized", edited["resized"])
    after = hashes()
    (copy / path).write_text(text)
    assert changed(before, after) == of_kinds(expected)


def test_options_of_the_model_decide_comparisons_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a time the options are those of its workload."""
    before = hashes()
    monkeypatch.setattr(provenance, "WITH_OPTIONS", replace(provenance.WITH_OPTIONS, recurrent_dropout=0.2))
    provenance._sources.cache_clear()
    assert changed(before, hashes()) == of_kinds(CHECKED)


def test_rows_of_what_is_gone_are_stale() -> None:
    gone = ("gone", "calls")
    rows = [verified(), *(verified() | {"defined": defined} for defined in gone)]
    assert list(provenance.stale("verify", pd.DataFrame(rows))) == [False, True, True]
    row = runs("batched", 0.1)[0]
    row |= stamp(CPU, "bench", row)
    assert list(provenance.stale("bench", pd.DataFrame([row, row | {"workload": "no more"}]))) == [False, True]
    row |= {"workload": "H8-norm"}
    row |= stamp(CPU, "sizes", row)
    assert list(provenance.stale("sizes", pd.DataFrame([row, row | {"workload": "H8-Q3"}]))) == [False, True]
    assert provenance.sources("sizes", row) != provenance.sources("sizes", row | {"workload": "H8"})


def test_a_file_that_is_gone_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As all rows would seem stale."""
    rows = pd.DataFrame([verified()])
    monkeypatch.setitem(provenance.BASIS, "verify", provenance.Basis([f"{COMPARISON}/no_more.py"]))
    provenance._sources.cache_clear()
    with pytest.raises(FileNotFoundError):
        provenance.stale("verify", rows)


#: Files that others of a list import, and that decide no number: what a visit is of.
DECIDE_NOTHING = (f"{MEASURE}/job.py",)


@pytest.mark.parametrize(
    "files", [*(basis.files for basis in provenance.BASIS.values()), *map(paths_of_uses, provenance.DEFINED)]
)
def test_a_list_of_files_has_what_these_import_beside_them(files: Sequence[str]) -> None:
    """So that a new file is not forgotten."""
    missing = [
        (file, beside)
        for file in files
        if str(Path(file).parent) in (MEASURE, COMPARISON, EQUALITY)
        for beside in imported_beside(file)
        if beside not in files and beside not in DECIDE_NOTHING
    ]
    assert missing == []


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a commit, as of a user who has git list no new files."""
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    subprocess.run([*git, "config", "status.showUntrackedFiles", "no"], check=True)
    return tmp_path


def test_outside_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert provenance.commit.__wrapped__() == ("", False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.commit.__wrapped__() == ("", False)


@pytest.mark.parametrize(
    ("file", "dirty"),
    [
        *((file, False) for file in ("results.md", "results/machine/bench.csv", "suite/README.md")),
        *((file, True) for file in ("noxfile.py", "pyproject.toml", "impls/new.py", "suite/checks/faults/faults.toml")),
    ],
)
def test_a_commit_is_dirty_if_code_was_changed(file: str, dirty: bool, repository: Path) -> None:
    (repository / file).parent.mkdir(parents=True, exist_ok=True)
    (repository / file).touch()
    commit = provenance.commit.__wrapped__()
    assert re.fullmatch("[0-9a-f]{10}", commit.commit)
    assert commit.dirty == dirty
