"""A row is stale if code that it depends on has changed."""

import ast
import re
import shutil
import subprocess
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

from impls import names
from impls.registry import IMPLS
from suite.candidates.names import ORDER, PADDED
from suite.cases import workloads
from suite.cases.case import MODEL_OPTIONS, Case
from suite.cases.examples import CPU
from suite.cases.spelling import MEDIUM
from suite.results import provenance
from suite.results.code import meaning
from suite.results.examples import runs, verified
from suite.results.names import TableName
from suite.results.outcomes import CaseOutcome
from suite.results.provenance import Refusal, refused
from suite.results.tables import stamp
from suite.results.use_modules import EQUALITY, UseModule
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
    EQUALITY,
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

    table: TableName
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
        Kind(TableName.BENCH, name, workload): {"implementation": name, "workload": workload, "T": 50, "B": 8}
        for name in ORDER
        for workload in ("small", "medium-ragged")
    },
    **{
        Kind(TableName.VERIFY, name, defined): {"implementation": name, "defined": defined}
        for name in ("batched", "deferred", "batched_cpu")
        for defined in ("", *UseModule)
    },
    Kind(TableName.SIZES, "deferred", "H512"): {"implementation": "deferred", **replace(MEDIUM, H=512).columns},
    **{Kind(table, "deferred"): {"implementation": "deferred"} for table in (TableName.FAULTS, TableName.CAPABILITIES)},
    **{Kind(table): {} for table in (TableName.HARDWARE, TableName.TWICE)},
}
HAND_WRITTEN = [impl.name for impl in IMPLS if impl.hand_written]
CHECKED = [Kind(TableName.VERIFY), Kind(TableName.FAULTS), Kind(TableName.CAPABILITIES)]
TIMED = [Kind(TableName.BENCH), Kind(TableName.SIZES), Kind(TableName.TWICE)]
HARDWARE = Kind(TableName.HARDWARE)
COMPILED = Kind(TableName.BENCH, "compiled")
CASES, COMPARISON, CANDIDATES = "suite/cases", "suite/comparison", "suite/candidates"
RESULTS, MEASURE = "suite/results", "suite/measure"
#: Rows on which an edit of uses tells; pairs take all others, layouts take calls, and calls take gradients.
OF_PAIRS = [Kind(TableName.VERIFY, variant="pairs")]
OF_EXTREMES = [Kind(TableName.VERIFY, variant=module) for module in ("extremes", "pairs")]
OF_LAYOUTS = [Kind(TableName.VERIFY, variant=module) for module in ("layouts", "pairs")]
OF_GRADIENTS = [Kind(TableName.VERIFY, variant=module) for module in ("gradients", "calls", "layouts", "pairs")]


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


def paths_of_uses(defined: UseModule) -> list[str]:
    """Files of uses, and those beside them that all uses depend on."""
    return [*defined.files, *(f"{EQUALITY}/{name}.py" for name in ("tasks", "leftovers", "use"))]


def hashes() -> dict[Kind, str]:
    """Return the hash of each of ROWS."""
    return {kind: provenance.sources(kind.table, row) for kind, row in ROWS.items()}


def changed(before: dict[Kind, str], after: dict[Kind, str]) -> set[Kind]:
    """Return the kinds whose hashes differ."""
    return {kind for kind in ROWS if before[kind] != after[kind]}


def of(*names: str) -> list[Kind]:
    """Rows of implementations in all tables."""
    tables = set(TableName) - {TableName.HARDWARE, TableName.TWICE}
    return [Kind(table, name) for name in names for table in tables]


def of_ours(table: TableName) -> list[Kind]:
    """Rows of all implementations in a table."""
    return [Kind(table, name) for name in names()]


#: By file, the rows that depend on it.
DEPENDENTS: dict[str, Collection[Kind]] = {
    # What is run, in which order, and what chooses it.
    "impls/registry.py": [],
    f"{CASES}/verification.py": [],
    f"{EQUALITY}/catalogue.py": [],
    f"{MEASURE}/server.py": [],
    # What decides a time.
    f"{MEASURE}/timing.py": [*TIMED, HARDWARE],
    f"{MEASURE}/bench.py": TIMED,
    f"{MEASURE}/work.py": TIMED,
    f"{MEASURE}/hardware.py": [HARDWARE],
    f"{RESULTS}/statistics.py": TIMED,
    f"{CANDIDATES}/labml.py": [Kind(TableName.BENCH, "labml")],
    f"{CANDIDATES}/lstm.py": TIMED,
    f"{CANDIDATES}/padded_lstm.py": [Kind(TableName.BENCH, PADDED)],
    f"{CANDIDATES}/ours.py": [*of_ours(TableName.BENCH), *of_ours(TableName.SIZES)],
    f"{CANDIDATES}/candidate.py": TIMED,
    f"{CANDIDATES}/compiled_lstm.py": [COMPILED],
    f"{CANDIDATES}/jax_lstm.py": [Kind(TableName.BENCH, "jax")],
    # What decides a comparison.
    f"{COMPARISON}/tolerance.py": CHECKED,
    f"{COMPARISON}/draws.py": CHECKED,
    f"{EQUALITY}/tasks.py": CHECKED,
    f"{EQUALITY}/leftovers.py": CHECKED,
    f"{EQUALITY}/extremes.py": OF_EXTREMES,
    f"{EQUALITY}/gradients.py": OF_GRADIENTS,
    f"{EQUALITY}/layouts.py": OF_LAYOUTS,
    f"{EQUALITY}/pairs.py": OF_PAIRS,
    f"{EQUALITY}/options.py": OF_PAIRS,
    f"{EQUALITY}/covering.py": OF_PAIRS,
    "suite/checks/faults/planting.py": [Kind(TableName.FAULTS)],
    "suite/checks/module/capabilities.py": [Kind(TableName.CAPABILITIES)],
    "suite/shared/arithmetic.py": [*TIMED, *CHECKED],
    # The oracles, of small cases and of wide ones.
    "impls/naive.py": [*of("naive"), *CHECKED],
    "impls/row_scaled.py": [*of("row_scaled"), *CHECKED],
    # Implementations, and the module around them.
    "impls/batched.py": [*of("batched"), COMPILED],
    "impls/batched_cpu/forward.cpp": of("batched_cpu"),
    "impls/batched_cpu/cell.h": of("batched_cpu"),
    "impls/batched_cuda/forward.py": of("batched_cuda"),
    "impls/gradient/cell.py": of(*HAND_WRITTEN),
    "impls/calls.py": [*of(*names()), COMPILED],
}


@pytest.mark.parametrize(("file", "expected"), DEPENDENTS.items(), ids=DEPENDENTS)
def test_a_new_statement_makes_stale_what_depends_on_its_file(
    file: str, expected: Collection[Kind], copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "ROOT", copy)
    before = hashes()
    text = (copy / file).read_text()
    (copy / file).write_text(f"{text}\nADDED = 1\n" if file.endswith(".py") else f"{text}\nint added;\n")
    provenance._sources.cache_clear()
    provenance._text.cache_clear()
    after = hashes()
    (copy / file).write_text(text)
    assert changed(before, after) == of_kinds(expected)


@pytest.mark.parametrize(
    ("suffix", "before", "after", "same"),
    [
        ("py", "X = 1  # once\n", "# twice\nX = 1\n\n", True),
        ("py", '"""A text."""\nX = 1\n', '"""Another."""\nX = 1\n', True),
        ("py", 'def f():\n    """A text."""\n    return 1\n', "def f(): return 1\n", True),
        ("py", "A, B = 0.02, 'b'\n", '(\n    A,\n    B,\n) = 0.020, "b"\n', True),
        ("py", "X = 1\n", "X = 2\n", False),
        ("py", "X = 'a'\n", "X = 'a '\n", False),
        ("cpp", "sweep.run();  // forward\n", "/* again */\n  sweep . run( ) ;\n", True),
        ("cpp", "sweep.run();\n", "sweep.run(1);\n", False),
        ("cpp", 's = "// a";\n', 's = "// b";\n', False),
        ("cpp", "#define A\nint a;\n", "#define A int a;\n", False),
    ],
)
def test_comments_and_layout_are_not_what_code_means(
    suffix: str, before: str, after: str, same: bool, tmp_path: Path
) -> None:
    files = tmp_path / f"before.{suffix}", tmp_path / f"after.{suffix}"
    for file, text in zip(files, (before, after), strict=True):
        file.write_text(text)
    assert (meaning(files[0]) == meaning(files[1])) == same


@pytest.mark.parametrize(
    ("owner", "name", "changed_to", "expected"),
    [
        (Case, "multiply_adds", lambda case: 1, [Kind(TableName.BENCH), Kind(TableName.SIZES)]),
        (Case, "least_numbers", lambda case, *_: 1, [Kind(TableName.BENCH), Kind(TableName.SIZES)]),
        (workloads, "lengths", lambda T, B: (T, *[1] * (B - 1)), [Kind(TableName.BENCH, variant="medium-ragged")]),
    ],
    ids=["multiply-adds", "least numbers", "lengths"],
)
def test_a_time_depends_on_the_work_of_its_case(
    owner: object, name: str, changed_to: Any, expected: Collection[Kind], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = hashes()
    monkeypatch.setattr(owner, name, changed_to)
    assert changed(before, hashes()) == of_kinds(expected)


def test_a_time_depends_on_the_case_of_its_workload(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not on when it is timed."""
    before = hashes()
    small = workloads.WORKLOADS["small"]
    monkeypatch.setitem(workloads.WORKLOADS, "small", replace(small, by_default=(), time_compiled=True))
    assert changed(before, hashes()) == set()
    monkeypatch.setitem(workloads.WORKLOADS, "small", replace(small, case=replace(small.case, H=65)))
    assert changed(before, hashes()) == of_kinds([Kind(TableName.BENCH, variant="small")])


def test_options_of_the_model_decide_comparisons_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a time the options are those of its workload."""
    before = hashes()
    monkeypatch.setattr(provenance, "MODEL_OPTIONS", ("forget_bias", *MODEL_OPTIONS))
    provenance._sources.cache_clear()
    assert changed(before, hashes()) == of_kinds(CHECKED)


def test_rows_of_what_is_gone_are_stale() -> None:
    gone = ("gone", "calls")
    rows = [verified(), *(verified() | {"defined": defined} for defined in gone)]
    assert list(provenance.stale(TableName.VERIFY, pd.DataFrame(rows))) == [False, True, True]
    row = runs("batched", 0.1)[0]
    row |= stamp(CPU, TableName.BENCH, row)
    assert list(provenance.stale(TableName.BENCH, pd.DataFrame([row, row | {"workload": "no more"}]))) == [False, True]


@pytest.mark.parametrize("changes", [{"H": 8}, {"layer_norm": True}, {"recurrent_dropout": 0.1}, {"lengths": (50, 9)}])
def test_a_time_depends_on_the_case_that_its_row_has(changes: dict[str, Any]) -> None:
    row = {"implementation": "batched", "workload": "H256", **MEDIUM.columns}
    assert provenance.sources(TableName.SIZES, row) == provenance.sources(
        TableName.SIZES, row | {"workload": "H8-norm"}
    )
    assert provenance.sources(TableName.SIZES, row) != provenance.sources(TableName.SIZES, row | changes)


def test_a_file_that_is_gone_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As all rows would seem stale."""
    rows = pd.DataFrame([verified()])
    monkeypatch.setitem(provenance.BASIS, TableName.VERIFY, provenance.Basis([f"{COMPARISON}/no_more.py"]))
    provenance._sources.cache_clear()
    with pytest.raises(FileNotFoundError):
        provenance.stale(TableName.VERIFY, rows)


#: Files that others of a list import, and that decide no number: what a visit is of.
DECIDE_NOTHING = (f"{MEASURE}/job.py",)


@pytest.mark.parametrize(
    "files", [*(basis.files for basis in provenance.BASIS.values()), *map(paths_of_uses, UseModule)]
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
