"""A row is stale if code that it depends on has changed."""

import ast
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from impls import names
from impls.registry import IMPLS
from suite.candidates.names import ORDER
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


#: A row of each kind, by a label that edits refer to.
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        f"bench {name} {workload}": ("bench", {"implementation": name, "workload": workload, "T": 50, "B": 8})
        for name in ORDER
        for workload in ("small", "medium-ragged")
    },
    **{
        f"verify {name} {defined}": ("verify", {"implementation": name, "defined": defined})
        for name in ("batched", "deferred", "batched_cpu")
        for defined in ("", *provenance.DEFINED)
    },
    "sizes deferred H512": ("sizes", {"implementation": "deferred", "workload": "H512", **MEDIUM.sizes, "H": 512}),
    **{name: (name, {"implementation": "deferred"}) for name in ("faults", "capabilities")},
    **{name: (name, dict[str, Any]()) for name in ("hardware", "twice")},
}
HAND_WRITTEN = [impl.name for impl in IMPLS if impl.hand_written]
CHECKED = ["verify *", "faults", "capabilities"]
TIMED = ["bench *", "sizes *", "twice"]
CASES, COMPARISON, CANDIDATES = "suite/cases", "suite/comparison", "suite/candidates"
RESULTS, MEASURE, EQUALITY = "suite/results", "suite/measure", provenance.EQUALITY
#: Rows on which an edit of uses tells; pairs take all others, layouts take calls, and calls take gradients.
OF_EXTREMES = ["verify * extremes", "verify * pairs"]
OF_GRADIENTS = ["verify * gradients", "verify * calls", "verify * layouts", "verify * pairs"]
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


def hashes() -> dict[str, str]:
    """Return the hash of each of ROWS."""
    return {label: provenance.sources(*row) for label, row in ROWS.items()}


def of(*names: str) -> list[str]:
    """Labels of the rows of implementations; faults and capabilities are `deferred`'s."""
    labels = [f"{table} {name} *" for name in names for table in ("bench", "sizes", "verify")]
    return [*labels, "faults", "capabilities"] if "deferred" in names else labels


def of_ours(table: str) -> list[str]:
    """Labels of the rows of all implementations in a table."""
    return [f"{table} {name} *" for name in names()]


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
        (f"{MEASURE}/timing.py", "BURST, WARM = 0.02", "BURST, WARM = 0.03", [*TIMED, "hardware"]),
        (f"{MEASURE}/bench.py", '"cpu": 0.5', '"cpu": 0.6', TIMED),
        (f"{MEASURE}/work.py", ".square().mean()", ".square().sum()", TIMED),
        (f"{MEASURE}/hardware.py", "LONG = 512, 8192, 0.05", "LONG = 512, 8192, 0.06", ["hardware"]),
        (f"{RESULTS}/statistics.py", "COVERAGE, FEWEST = 0.95", "COVERAGE, FEWEST = 0.9", TIMED),
        (f"{CASES}/case.py", "12 * Z * S", "11 * Z * S", ["bench *"]),
        (f"{CASES}/workloads.py", "B=8, I=32, H=64", "B=8, I=32, H=65", ["bench * small"]),
        (f"{CASES}/case.py", "randint(T // 4", "randint(T // 3", ["bench * medium-ragged"]),
        (f"{CANDIDATES}/labml.py", "case.Z, case.L).to(dtype)", "case.Z, 1).to(dtype)", ["bench labml *"]),
        (f"{CANDIDATES}/lstm.py", "    return lstm\n", "    return lstm.eval()\n", TIMED),
        (f"{CANDIDATES}/padded_lstm.py", "pads=True", "pads=False", ["bench torch.nn.LSTM padded *"]),
        (f"{CANDIDATES}/ours.py", "literal=impl.literal", "literal=False", [*of_ours("bench"), *of_ours("sizes")]),
        (f"{CANDIDATES}/candidate.py", "case.H + 2 * case.S", "case.H + case.S", TIMED),
        (f"{CANDIDATES}/compiled_lstm.py", "GRAPHS = 256", "GRAPHS = 64", ["bench compiled *"]),
        (f"{CANDIDATES}/jax_lstm.py", "x @ w_x)", "x @ w_x, unroll=2)", ["bench jax *"]),
        # What decides a comparison.
        (f"{COMPARISON}/tolerance.py", "TIMES = 2.0", "TIMES = 2.1", CHECKED),
        (f"{COMPARISON}/draws.py", "0.7 / math.sqrt", "0.8 / math.sqrt", CHECKED),
        (f"{EQUALITY}/comparison.py", "BF16: BF16,", "BF16: F16,", CHECKED),
        (f"{EQUALITY}/comparison.py", "(DRAWS, 3)", "(DRAWS, 2)", CHECKED),
        (f"{EQUALITY}/comparison.py", "draws = 2 if", "draws = 3 if", CHECKED),
        (f"{EQUALITY}/leftovers.py", 'changed.append("random', 'changed.append("the random', CHECKED),
        (f"{EQUALITY}/extremes.py", "1000 * value) if", "900 * value) if", OF_EXTREMES),
        (f"{EQUALITY}/gradients.py", '(f"{part} alone"', '(f"{part} on its own"', OF_GRADIENTS),
        (f"{EQUALITY}/layouts.py", "shape[-1] + 8", "shape[-1] + 9", ["verify * layouts", "verify * pairs"]),
        # The oracles, of small cases and of wide ones.
        ("impls/naive.py", "import torch", "import torch as t", [*of("naive"), *CHECKED]),
        ("impls/row_scaled.py", "import torch", "import torch as t", [*of("row_scaled"), *CHECKED]),
        # Implementations, and the module around them.
        ("impls/batched.py", "hidden_weight(p).T", "hidden_weight(p).mT", [*of("batched"), "bench compiled *"]),
        ("impls/batched_cpu/forward.cpp", "sweep.run();", "sweep.run(1);", of("batched_cpu")),
        ("impls/gradient/cell.py", "1 - tanh_c * tanh_c", "1 - tanh_c**2", of(*HAND_WRITTEN)),
        ("impls/calls.py", "x.dim() not in (2, 3)", "x.dim() != 3", [*of(*names()), "bench compiled *"]),
    ],
)  # fmt: skip
def test_an_edit_makes_stale_what_depends_on_it(
    path: str, old: str, new: str, expected: Collection[str], copy: Path, monkeypatch: pytest.MonkeyPatch
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
    changed = {label for label in ROWS if before[label] != after[label]}
    assert changed == {label for label in ROWS if any(fnmatch(label, pattern) for pattern in expected)}


def test_options_of_the_model_decide_comparisons_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a time the options are those of its workload."""
    before = hashes()
    monkeypatch.setattr(provenance, "WITH_OPTIONS", replace(provenance.WITH_OPTIONS, recurrent_dropout=0.2))
    provenance._sources.cache_clear()
    after = hashes()
    changed = {label for label in ROWS if before[label] != after[label]}
    assert changed == {label for label in ROWS if any(fnmatch(label, pattern) for pattern in CHECKED)}


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
        if file.startswith((MEASURE, COMPARISON, EQUALITY))
        for beside in imported_beside(file)
        if beside not in files and beside not in DECIDE_NOTHING
    ]
    assert missing == []


def test_a_commit_is_dirty_if_code_was_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    commits = [provenance.commit.__wrapped__()]
    for command in ("init -q", "-c user.name=a -c user.email=a@b commit -q --allow-empty -m first"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    (tmp_path / "results.md").touch()
    commits.append(provenance.commit.__wrapped__())
    (tmp_path / "noxfile.py").touch()
    commits.append(provenance.commit.__wrapped__())
    outside, clean, changed = commits
    assert outside == ("", False)
    assert re.fullmatch("[0-9a-f]{10}", clean.commit)
    assert (clean.dirty, changed) == (False, (clean.commit, True))
