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

#: By place, its tests in a default run, and further tests, which run if a mutant survives those before.
SELFTEST = tuple(
    f"suite/{one}" for one in ("measure", "pages", "results", "candidates", "comparison", "cases", "shared")
)
CHECKS = ("module", "equality", "cost", "definition", "kernels/test_batched_cuda.py")
MODULE, EQUALITY, *OTHERS = (f"suite/checks/{one}" for one in CHECKS)
FURTHER = f"{MODULE}/test_submission.py suite/checks/faults/test_reach.py"
TESTS = {one: (one, " ".join(sorted({*SELFTEST} - {one})), FURTHER) for one in SELFTEST}
TESTS["impls"] = (f"{EQUALITY}/test_uses.py", MODULE, " ".join([EQUALITY, *OTHERS, *SELFTEST]))
#: Files that are not mutated: tests, and code that needs a GPU or a build.
LEFT_OUT = re.compile(r"/(test_\w+|examples|__init__|proof)\.py|batched_c")
#: Lines whose numbers only change how long something takes.
ONLY_TIME = re.compile(r"timeout|sleep|limit=|seconds? *=|SECONDS|LIMIT|BUDGET", re.IGNORECASE)


def mutants(file: Path) -> list[list[MutationSpec]]:
    """Mutants of a file by kind of edit, such as another comparison; annotations stay as they are."""
    source, kinds = file.read_text(encoding="utf-8"), defaultdict[str, list[MutationSpec]](list)
    nodes = [vars(node).get(name) for node in ast.walk(ast.parse(source)) for name in ("annotation", "returns")]
    spans = [(n.lineno, n.col_offset, n.end_lineno, n.end_col_offset) for n in nodes if isinstance(n, ast.expr)]
    for name in (one for one in operator_names() if not get_operator(one).arguments()):  # others replace a variable
        operator = get_operator(name)()
        places = [place for node in ast_nodes(get_ast(source)) for place in operator.mutation_positions(node)]
        for n, (begin, end) in enumerate(places):
            only_time = "Number" in name and ONLY_TIME.search(source.splitlines()[begin[0] - 1])
            if not only_time and not any(span[:2] <= begin < span[2:] for span in spans):
                kinds[name.split("_")[0]].append(MutationSpec(file, name, n, begin, end))
    return list(kinds.values())


def main() -> None:
    parser = argparse.ArgumentParser(prog="nox -s mutate --", description=__doc__)
    parser.add_argument("pytest", help="command that runs tests")
    parser.add_argument("place", choices=TESTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=40, help="number of mutants, one for a file and kind of edit")
    options = parser.parse_args()
    files = [file for file in sorted(Path(options.place).rglob("*.py")) if not LEFT_OUT.search(str(file))]
    chance, outcomes = random.Random(options.seed), defaultdict[TestOutcome, list[str]](list)
    every = [chance.choice(of_kind) for file in files for of_kind in mutants(file)]
    with tempfile.TemporaryDirectory() as scratch:
        ignored = shutil.ignore_patterns(".nox", ".*_cache", "__pycache__")
        os.chdir(shutil.copytree(".", Path(scratch) / "copy", symlinks=True, ignore=ignored))
        run, begin = f"{options.pytest} -x --results {scratch}/results", time.monotonic()
        for tests in TESTS[options.place]:
            if run_tests(f"{run} {tests}", None)[0] is not TestOutcome.SURVIVED:
                raise SystemExit(f"These tests fail without a mutant: {tests}")
        limit = 3 * (time.monotonic() - begin)
        for mutant in chance.sample(every, min(options.n, len(every))):
            own = mutant.module_path.with_name(f"test_{mutant.module_path.name}")  # fails soonest
            for tests in (*filter(Path.exists, [own]), *TESTS[options.place]):
                result = mutate_and_test([mutant], f"{run} {tests}", limit)
                if result.test_outcome is not TestOutcome.SURVIVED:
                    break
            changed = re.findall(r"^([-+]) *([^-+ ].*)", result.diff or "", re.MULTILINE)
            edit = f"{mutant.module_path}:{mutant.start_pos[0]}: " + "  ".join(map(" ".join, changed))
            print(result.test_outcome.value, edit, flush=True)
            outcomes[result.test_outcome].append(edit)
    killed, survivors = (outcomes[kind] for kind in (TestOutcome.KILLED, TestOutcome.SURVIVED))  # some cannot be made
    print(f"\n{len(killed)} of {len(killed + survivors)} mutants were killed. Survivors:", *survivors, sep="\n")


if __name__ == "__main__":
    main()
