"""Score tests by mutants: random edits by Cosmic Ray in a copy of the checkout, each of which a test should notice."""

import argparse
import ast
import os
import random
import re
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.operators.number_replacer import NumberReplacer
from cosmic_ray.plugins import get_operator, operator_names
from cosmic_ray.testing import run_tests
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkResult

FOLDERS = ("measure", "pages", "results", "candidates", "comparison", "cases", "shared")
SELFTEST = tuple(f"suite/{folder}" for folder in FOLDERS)
COMMANDS = ("suite/test_commands.py", "suite/test_environment.py")
MODULE = "suite/checks/module"
EQUALITY = "suite/checks/equality"
OTHERS = ("suite/checks/cost", "suite/checks/definition", "suite/checks/triton/test_batched_cuda.py")
IMPL = ("suite/test_submission.py", "suite/test_option.py")
FURTHER = " ".join([*IMPL, "suite/checks/faults/test_reach.py"])
#: By folder, its tests in a default run, and further tests, which run if a mutant survives those before.
TESTS = {folder: (folder, " ".join([*sorted({*SELFTEST} - {folder}), *COMMANDS]), FURTHER) for folder in SELFTEST}
TESTS["impls"] = (f"{EQUALITY}/test_uses.py", MODULE, " ".join([EQUALITY, *OTHERS, *IMPL, *SELFTEST, *COMMANDS]))
#: Files that are not mutated: tests, and code that needs a GPU or a build.
LEFT_OUT = re.compile(r"/(test_\w+|examples|__init__|proof)\.py|batched_c")
#: Lines whose numbers only change how long something takes.
ONLY_TIME = re.compile(r"timeout|sleep|limit=|seconds? *=|SECONDS|LIMIT|BUDGET", re.IGNORECASE)
#: A line, from 1, and a column, from 0.
Position = tuple[int, int]


class Span(NamedTuple):
    """A part of a file; its end is behind it."""

    begin: Position
    end: Position


def mutants(file: Path) -> list[list[MutationSpec]]:
    """Mutants of a file by kind of edit, such as another comparison; annotations stay as they are."""
    source = file.read_text(encoding="utf-8")
    lines = source.splitlines()
    nodes = list(ast_nodes(get_ast(source)))
    annotations = annotations_of(source)
    kinds = defaultdict[str, list[MutationSpec]](list)
    for name in operator_names():
        operator_class = get_operator(name)
        if operator_class.arguments():  # it replaces a variable
            continue
        operator = operator_class()
        edits_number = isinstance(operator, NumberReplacer)
        kind = name.partition("_")[0]  # a pair of operators, such as < and <=, follows in the name
        positions = [position for node in nodes for position in operator.mutation_positions(node)]
        for n, (begin, end) in enumerate(positions):
            only_time = edits_number and ONLY_TIME.search(lines[begin[0] - 1])
            annotates = any(span.begin <= begin < span.end for span in annotations)
            if not only_time and not annotates:
                kinds[kind].append(MutationSpec(file, name, n, begin, end))
    return list(kinds.values())


def annotations_of(source: str) -> list[Span]:
    """Where a file has annotations."""
    spans = list[Span]()
    for node in ast.walk(ast.parse(source)):
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(part, ast.expr) and part.end_lineno is not None and part.end_col_offset is not None:
                spans.append(Span((part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)))
    return spans


def tested(mutant: MutationSpec, folder: str, run: str, limit: float) -> WorkResult:
    """How the tests of a folder end with a mutant; the last ones run if those before let it survive."""
    test_of_file = mutant.module_path.with_name(f"test_{mutant.module_path.name}")  # fails soonest
    first = [str(test_of_file)] if test_of_file.exists() else []
    for tests in (*first, *TESTS[folder]):
        result = mutate_and_test([mutant], f"{run} {tests}", limit)
        if result.test_outcome is not TestOutcome.SURVIVED:
            break
    return result


def main() -> None:
    parser = argparse.ArgumentParser(prog="nox -s mutate --", description=__doc__)
    parser.add_argument("pytest", help="command that runs tests")
    parser.add_argument("folder", choices=TESTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=40, help="number of mutants, one for a file and kind of edit")
    options = parser.parse_args()
    files = [file for file in sorted(Path(options.folder).rglob("*.py")) if not LEFT_OUT.search(str(file))]
    chance = random.Random(options.seed)
    every = [chance.choice(of_kind) for file in files for of_kind in mutants(file)]
    chosen = chance.sample(every, min(options.n, len(every)))
    with tempfile.TemporaryDirectory() as scratch:
        ignored = shutil.ignore_patterns(".nox", ".*_cache", "__pycache__")
        os.chdir(shutil.copytree(".", Path(scratch) / "copy", symlinks=True, ignore=ignored))
        score(chosen, options.folder, f"{options.pytest} -x --results {scratch}/results")


def score(chosen: Sequence[MutationSpec], folder: str, run: str) -> None:
    """Test mutants, each of which is printed with its outcome, and print how many were killed; run: runs tests."""
    begin = time.monotonic()
    for tests in TESTS[folder]:
        outcome, _ = run_tests(f"{run} {tests}", None)
        if outcome is not TestOutcome.SURVIVED:
            raise SystemExit(f"These tests fail without a mutant: {tests}")
    limit = 3 * (time.monotonic() - begin)
    edits = defaultdict[TestOutcome, list[str]](list)
    for mutant in chosen:
        result = tested(mutant, folder, run, limit)
        changed = re.findall(r"^([-+]) *([^-+ ].*)", result.diff or "", re.MULTILINE)
        edit = f"{mutant.module_path}:{mutant.start_pos[0]}: " + "  ".join(map(" ".join, changed))
        print(result.test_outcome.value, edit, flush=True)
        edits[result.test_outcome].append(edit)
    killed = edits[TestOutcome.KILLED]
    survivors = edits[TestOutcome.SURVIVED]  # some are neither, as they cannot be made
    print(f"\n{len(killed)} of {len(killed + survivors)} mutants were killed. Survivors:", *survivors, sep="\n")


if __name__ == "__main__":
    main()
