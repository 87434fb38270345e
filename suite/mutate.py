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
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.plugins import get_operator, operator_names
from cosmic_ray.testing import run_tests
from cosmic_ray.work_item import MutationSpec, TestOutcome

FOLDERS = ("measure", "pages", "results", "candidates", "comparison", "cases", "shared")
SELFTEST = tuple(f"suite/{folder}" for folder in FOLDERS)
COMMANDS = ("suite/test_commands.py", "suite/test_environment.py")
CHECKS = ("module", "equality", "cost", "definition", "kernels/test_batched_cuda.py")
MODULE, EQUALITY, *OTHERS = (f"suite/checks/{check}" for check in CHECKS)
FURTHER = f"{MODULE}/test_submission.py suite/checks/faults/test_reach.py"
#: By place, its tests in a default run, and further tests, which run if a mutant survives those before.
TESTS = {place: (place, " ".join([*sorted({*SELFTEST} - {place}), *COMMANDS]), FURTHER) for place in SELFTEST}
TESTS["impls"] = (f"{EQUALITY}/test_uses.py", MODULE, " ".join([EQUALITY, *OTHERS, *SELFTEST, *COMMANDS]))
#: Files that are not mutated: tests, and code that needs a GPU or a build.
LEFT_OUT = re.compile(r"/(test_\w+|examples|__init__|proof)\.py|batched_c")
#: Lines whose numbers only change how long something takes.
ONLY_TIME = re.compile(r"timeout|sleep|limit=|seconds? *=|SECONDS|LIMIT|BUDGET", re.IGNORECASE)


def mutants(file: Path) -> list[list[MutationSpec]]:
    """Mutants of a file by kind of edit, such as another comparison; annotations stay as they are."""
    source = file.read_text(encoding="utf-8")
    lines = source.splitlines()
    annotations = []
    for node in ast.walk(ast.parse(source)):
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(part, ast.expr):
                begin = (part.lineno, part.col_offset)
                end = (part.end_lineno, part.end_col_offset)
                annotations.append((begin, end))
    kinds = defaultdict[str, list[MutationSpec]](list)
    for name in operator_names():
        operator_class = get_operator(name)
        if operator_class.arguments():  # it replaces a variable
            continue
        operator = operator_class()
        places = [place for node in ast_nodes(get_ast(source)) for place in operator.mutation_positions(node)]
        for n, (begin, end) in enumerate(places):
            only_time = "Number" in name and ONLY_TIME.search(lines[begin[0] - 1])
            annotates = any(first <= begin < last for first, last in annotations)
            if not only_time and not annotates:
                kind = name.split("_")[0]
                kinds[kind].append(MutationSpec(file, name, n, begin, end))
    return list(kinds.values())


def main() -> None:
    parser = argparse.ArgumentParser(prog="nox -s mutate --", description=__doc__)
    parser.add_argument("pytest", help="command that runs tests")
    parser.add_argument("place", choices=TESTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=40, help="number of mutants, one for a file and kind of edit")
    options = parser.parse_args()
    files = [file for file in sorted(Path(options.place).rglob("*.py")) if not LEFT_OUT.search(str(file))]
    chance = random.Random(options.seed)
    every = [chance.choice(of_kind) for file in files for of_kind in mutants(file)]
    outcomes = defaultdict[TestOutcome, list[str]](list)
    with tempfile.TemporaryDirectory() as scratch:
        ignored = shutil.ignore_patterns(".nox", ".*_cache", "__pycache__")
        os.chdir(shutil.copytree(".", Path(scratch) / "copy", symlinks=True, ignore=ignored))
        run = f"{options.pytest} -x --results {scratch}/results"
        begin = time.monotonic()
        for tests in TESTS[options.place]:
            if run_tests(f"{run} {tests}", None)[0] is not TestOutcome.SURVIVED:
                raise SystemExit(f"These tests fail without a mutant: {tests}")
        limit = 3 * (time.monotonic() - begin)
        for mutant in chance.sample(every, min(options.n, len(every))):
            test_of_file = mutant.module_path.with_name(f"test_{mutant.module_path.name}")  # fails soonest
            first = [test_of_file] if test_of_file.exists() else []
            for tests in (*first, *TESTS[options.place]):
                result = mutate_and_test([mutant], f"{run} {tests}", limit)
                if result.test_outcome is not TestOutcome.SURVIVED:
                    break
            changed = re.findall(r"^([-+]) *([^-+ ].*)", result.diff or "", re.MULTILINE)
            edit = f"{mutant.module_path}:{mutant.start_pos[0]}: " + "  ".join(map(" ".join, changed))
            print(result.test_outcome.value, edit, flush=True)
            outcomes[result.test_outcome].append(edit)
    killed = outcomes[TestOutcome.KILLED]
    survivors = outcomes[TestOutcome.SURVIVED]  # some are neither, as they cannot be made
    print(f"\n{len(killed)} of {len(killed + survivors)} mutants were killed. Survivors:", *survivors, sep="\n")


if __name__ == "__main__":
    main()
