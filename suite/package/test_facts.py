"""What pages say in numbers and names is what the code has: a sentence and the code can only change together."""

import ast
import inspect
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement
from pytest_benchmark.stats import Stats

from impls import HyperLSTM, Impl
from impls.batched_cpu import _residuals, sets
from impls.calls import _LEVELS
from impls.registry import IMPLS as ROWS
from impls.registry import ORACLE, find
from suite import bench, bench_compare, report
from suite.candidates.names import BASELINE
from suite.cases.case import Case
from suite.cases.verification import ROWS as OF_ROWS
from suite.cases.verification import SPLIT, WIDE
from suite.cases.workloads import TIMED
from suite.checks.definition.paper import OURS
from suite.checks.equality import activations, catalogue
from suite.checks.equality.pairs import COMBINATIONS
from suite.checks.equality.tasks import WIDE_ORACLE
from suite.checks.implementations import skip_unless_checked
from suite.checks.kernels.compiled import CARDS
from suite.checks.recording import Keep
from suite.comparison.tolerance import FLOOR, TIMES
from suite.measure import bench as visit
from suite.measure import choice, roofline, runner, server, timing, work
from suite.measure.others import BUSY
from suite.package.dependencies import PYPROJECT
from suite.package.documents import CARD, CHECKS, IMPLS, MEASURE, README, RESULTS, USAGE, text, word
from suite.package.equations import GATES, SOURCES
from suite.pages import bench as page_of_bench
from suite.pages import sizes
from suite.pages import verify as page_of_verify
from suite.results import statistics
from suite.shared.devices import DeviceType
from suite.shared.files import ROOT

PROJECT = PYPROJECT["project"]
(TORCH,) = (one for one in map(Requirement, PROJECT["dependencies"]) if one.name == "torch")
LOWEST_PYTHON, LOWEST_TORCH = (str(bound).removeprefix(">=") for bound in (PROJECT["requires-python"], TORCH.specifier))


ON_CPU, ON_GPU = choice.MINUTES[DeviceType.CPU], choice.MINUTES[DeviceType.CUDA]
#: Every case of the comparisons at the sizes that people run, and those of a default run.
AT_SIZE = (*WIDE, SPLIT, OF_ROWS, *TIMED)
BY_DEFAULT = [comparison.case for comparison in catalogue.wide("batched") if comparison.default]


def share(number: float) -> str:
    return f"{number:.0%}".replace("%", " %")


def source_of(defined: Callable[..., Any]) -> str:
    """Name of the file of a function or class."""
    return Path(inspect.getfile(defined)).name


def session_that_runs(module: str) -> str:
    """Name of the session of nox that runs a module."""
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    (name,) = [node.name for node in functions if repr(module) in ast.unparse(node)]
    return name


def largest(size: str, cases: Iterable[Case]) -> int:
    return max(case.sizes[size] for case in cases)


def steps_of_an_option() -> int:
    """Number of the steps that impls/README.md lists."""
    section = IMPLS.read_text(encoding="utf-8").partition("## An option of the model\n")[2]
    return len(re.findall(r"^\d\. ", section, re.MULTILINE))


#: By page, what it says.
SENTENCES = {
    README: [
        f"You need Python {LOWEST_PYTHON} and torch {LOWEST_TORCH} or newer.",
        f"| {ON_CPU:g}, or `-- --minutes N` |",
        f"less than 1; {bench_compare.parser().get_default('minutes'):g} with `--base REV`",
        f"installs `{PROJECT['name']}`; in a checkout, `from impls import HyperLSTM` works without it",
        f"takes [{word(steps_of_an_option())} steps]",
        f"take [{word(report.HAND_IN.count('nox -s'))} commands]",
        *(f"| {impl.summary} |" for impl in ROWS),
    ],
    IMPLS: [
        f"p is exact to 1/{_LEVELS}",
        f"`HYPERLSTM_BFLOAT16` (`{sets.WAYS[0]}`, `{sets.WAYS[1]}` or `{sets.WAYS[2]}`) overrides the choice",
        f"compiles them for {word(len(CARDS))} kinds of card",
        f"one batched product for the {word(len(GATES) * len(SOURCES))} d",
        f"Without `IMPL`, a file supports every dtype, `{'` and `'.join(sorted(Impl('').options))}`.",
        "*residuals*, `4H + 4S` numbers per step and row (`uh`; `batched_cpu` also stores v where I is large)",
        "`auto` takes the available implementation with the highest `preference`",
    ],
    CARD: [
        f"of compute capability {'.'.join(map(str, find('batched_cuda').capability or ()))} or higher",
        f"some {ON_GPU:g} minutes for each dtype",
        f"compiled for {word(len(CARDS))} kinds of GPU",
    ],
    MEASURE: [
        f"calls a pass until two calls in a row agree within a factor of {timing.AGREE:g}",
        f"over at least {1e3 * timing.BURST:g} ms",
        f"half a second of turns, or {timing.BRIEF} s if all that is timed takes",
        f"over {word(timing.SLOW)} times as long as `torch.nn.LSTM`; at least {word(timing.LEAST)},",
        f"or one if a turn takes more than {timing.LONG} s",
        f"with {word(work.OF_ONE_DRAW)} times the limit of the tolerance rule",
        f"multiplies more than {roofline.MOST} times as fast as the machine's fastest product of matrices",
        f"counts more than {word(server.UNTIMED)} times the seconds of its rounds",
        f"or `torch.nn.LSTM` takes {bench.SLOWED} times as long beside it as beside itself",
        f"takes at least {statistics.APART} times as long in one as in the other",
        f"The rounds of a visit are summarised by `{Stats.__name__}` of pytest-benchmark.",
        f"Every job wants {word(statistics.FEWEST)} visits.",
        f"logarithms of the visits' ratios to `torch.nn.LSTM`, from {word(statistics.FEWEST)} visits on.",
        f"Jobs slower than {word(timing.SLOW)} times come last.",
        f"with `{work.REFERENCES[0]}` in float64 (`{work.REFERENCES[0]}` itself with `{work.REFERENCES[1]}`), by the "
        f"rounding error of `{work.ROUNDS_AS_NAIVE}` in the same dtype, or of `{ORACLE}` for itself.",
        f"changes ratios by up to {share(bench_compare.RUN_TO_RUN)}, so `nox -s compare` calls nothing less a change",
        f"Their rows and their page are `{sizes.PAGE.name}.csv` and `{sizes.PAGE.name}.md` beside `bench.csv`",
        f"want an interval of {share(runner.HALF)} to each side",
        f"After {word(runner.REPEATED)} such visits",
        f"after {server.LIMIT[DeviceType.CPU] / 60:g} minutes, on a GPU after {server.LIMIT[DeviceType.CUDA] / 60:g}.",
        f"if `torch.nn.LSTM` itself drifted by more than {share(bench_compare.MAX_BASELINE_DRIFT)}, it judges no time",
    ],
    # Which `nox -s report` writes.
    RESULTS: [
        report.LEAD,
        report.FOOT,
        " ".join(report.HAND_IN.split()),
    ],
    CHECKS: [
        f"plus {FLOOR[torch.float32]:g} eps ({FLOOR[torch.float64]:g} eps in float64; "
        f"the eps of TF32 is 2^{math.log2(torch.finfo(torch.float16).eps):g})",
        f"from H {min(case.H for case in AT_SIZE)} on, `naive` would build large weight tensors at every step. "
        f"There the oracle is `{WIDE_ORACLE}` in float64, and the limit follows from the error of `{WIDE_ORACLE}`, "
        f"which is itself compared with `{ORACLE}` at H {catalogue.LITERAL.H};",
        f"extreme numbers have `{ORACLE}` up to H {max(pair.case.H for pair in COMBINATIONS)}.",
        f"sizes that people run: {', '.join(f'{size} to {largest(size, BY_DEFAULT)}' for size in 'BIHSZ')}; "
        f"*thorough*, but of `batched_cuda`: {', '.join(f'{size} {largest(size, AT_SIZE)}' for size in 'IHSZ')} |",
        f"inference up to T {max(case.T for case in catalogue.FORWARD_CASES)} give the right results",
        f"are right over [-{activations.MOST}, {activations.MOST}]",
        f"`nox -s {session_that_runs('suite.mutate')}` edits its code or that of the implementations at random",
        f"`{source_of(skip_unless_checked)}` skips them where an implementation does not run, and "
        f"`{source_of(Keep)}` keeps their rows of results",
        f"Initial values and parameter counts are the paper's, except {word(len(OURS))} counts that are listed",
        # pytest's letter for skipped tests
        "with `-rs`, also with what did not run and why",
    ],
}  # fmt: skip


#: By test that shows their fact, sentences without a number of the code, each on its page.
SHOWN_ELSEWHERE = {
    "suite/checks/cost/test_products.py::test_each_product_of_the_equations_is_computed_once": {
        IMPLS: [
            "The backward pass has two products for each of these, so a training step takes three times as many "
            "multiply-adds.",
        ],
    },
    "suite/checks/definition/test_oracle.py::test_with_scales_of_one_it_is_an_lstm": {
        README: ["The reference is the naive form in float64, itself checked against numerical derivatives"],
        USAGE: [
            "[4, H, I], [4, H, H]; gates are in the same order |",
            "| `bias_ih_l0 + bias_hh_l0` [4H] | `layers.0.bias` [4, H] |",
        ],
        IMPLS: ["The forget gate has no added bias of 1.", "The embedding z for the bias has no bias."],
    },
    "suite/checks/equality/test_equality.py::test_equals_the_oracle": {
        IMPLS: [
            "z reads ĥ_t, of the **same** step.",
            "The stored cells c and ĉ are **not** normalised.",
            "The hyper LSTM reads h_{t-1}, the main LSTM's output of the previous step.",
            "which start as the gradients of the final state",
            "its `Inputs`: x [T, B, I], the initial state, the mask of g or None, and the `batch_sizes`",
        ],
    },
    "suite/checks/equality/test_properties.py::test_numbers_that_are_not_finite_stay_in_their_row": {
        CHECKS: ["lets a NaN spread to other rows unless the inner size is a multiple of 32, so in bfloat16 NaN"],
    },
    "suite/checks/equality/test_uses.py::test_equals_the_oracle": {
        README: [
            "The final states are stacked over layers; pass them to the next call to continue a sequence. "
            "`batch_first`, `dropout`, sequences without a batch and `PackedSequence` work as in `torch.nn.LSTM`.",
        ],
        IMPLS: [
            "the tokens of all sequences step by step with the longest sequence first, and `batch_sizes`, the number "
            "of rows at each step, which never rises",
            "the gradient of a row's final state is added when the loop reaches that row's last step",
        ],
    },
    "suite/checks/equality/test_values.py::test_cells_and_their_gradients_gather_small_numbers": {
        IMPLS: [
            "With parameters in half precision, the hand-written implementations carry c, ĉ and their gradients in "
            "float32.",
        ],
        CHECKS: ["| In bfloat16, cells and sums over chunks are kept in float32 |"],
    },
    "suite/checks/faults/test_edits.py::test_a_stale_edit_is_named_with_its_file": {
        CHECKS: [
            "`test_edits.py` says so in one sentence with the file, and the test of that edit is skipped",
        ],
    },
    "suite/checks/faults/test_faults.py::test_rejects_and_names_what_is_damaged": {
        README: ["Faults planted in correct implementations must be found."],
    },
    "suite/checks/faults/test_submitted_faults.py::test_a_fault_of_a_file_is_found": {
        IMPLS: ["verification fails if one is not found."],
    },
    "suite/checks/kernels/test_barrier.py::test_every_order_of_threads_meets_and_faults_are_found": {
        CHECKS: ["meets in every order of operations of two and three threads"],
    },
    "suite/package/test_extension.py::test_without_a_build_auto_takes_the_next": {
        README: ["without a compiler, `auto` picks another implementation and warns"],
    },
    "suite/checks/kernels/test_kernels.py::test_compiled_kernels_fit_their_card": {
        CHECKS: [
            "they fit it, wait as rarely as the model says, except at S 256, multiply no tile twice, round no weight "
            "in a loop, and load weights 16 bytes at a time (*thorough*)",
        ],
    },
    "suite/checks/kernels/test_kernels.py::test_what_a_step_starts": {
        IMPLS: [
            "one launch forward, two launches per chunk backward",
            "A CUDA graph of the caller can capture batches, but not packed sequences",
        ],
        USAGE: ['`torch.compile(mode="reduce-overhead")` cannot capture packed sequences on a GPU.'],
        CARD: [
            "A forward pass is one launch for any T",
            '`torch.compile(mode="reduce-overhead")` cannot capture packed sequences, whose lengths are copied',
        ],
    },
    "suite/checks/kernels/test_mark.py::test_a_mark_that_cannot_be_written_is_a_sentence": {
        CARD: ["cannot be written, set `XDG_CACHE_HOME` to a folder that can be, for the checks and for your programs"],
    },
    "suite/checks/kernels/test_mark.py::test_each_environment_has_a_mark_of_its_own": {
        README: ["until `nox -s cuda` has passed on that GPU with the same driver, torch and Triton; then it runs"],
        IMPLS: ["The mark no longer holds if the card, driver, torch, Triton or a source changes; `repr(model)`"],
        CARD: [
            "The mark holds for the GPU's name, compute capability and number of multiprocessors, the driver, torch, "
            "Triton, and the sources of this package.",
            'without a mark of your GPU, `impl="auto"` runs `deferred` there and warns',
        ],
    },
    "suite/checks/module/test_capabilities.py::test_capability": {
        USAGE: [
            "`torch.export` takes dynamic dimensions for B and, with a hand-written gradient, for T. "
            "ONNX and `torch.jit.trace` fix T.",
            "inside `torch.func`, `auto` does so itself",
            "Hooks, pruning and parametrizations apply to a layer",
        ],
        CHECKS: [
            "A cell is *no* if the implementation refuses with a clear error or needs too much memory, *not run* if it "
            "does not run on that machine, and - if no run tested it",
        ],
    },
    "suite/checks/module/test_custom_op.py::test_limits_of_two_threads_that_overlap": {
        IMPLS: ["the context holds for its own thread"],
    },
    "suite/checks/module/test_custom_op.py::test_residuals_are_saved_by_default": {
        IMPLS: ['`impls.gradient.chunks.limited("cpu", residuals=False)` as a context of the forward pass it does not'],
    },
    "suite/checks/module/test_dropout.py::test_g_is_dropped_by_the_mask": {
        README: ["which all have the same parameters and draw the same dropout masks |"],
        USAGE: ["`recurrent_dropout` drops elements of the candidate g at every step"],
        IMPLS: [
            "A mask is 1 / (1 - p) where it keeps an element and 0 elsewhere.",
            "it drops outputs of each layer but the last",
            "with a new mask at each step; it never drops the cell or the hyper LSTM",
            "The module draws it, `[T, B, H]` per layer, from torch's generator of the device",
        ],
    },
    "suite/checks/module/test_dropout.py::test_the_share_of_zeros_is_p": {
        IMPLS: ["Masks are stored as bool, one byte per element"],
    },
    "suite/checks/module/test_first_use.py::test_training_is_right_in_a_spawned_process": {
        USAGE: [
            "A process forked after a call on several threads hangs in its first call, as with `torch.nn.LSTM`: "
            "use `spawn` or `forkserver`.",
        ],
    },
    "suite/test_option.py::test_an_option_harms_nothing_that_does_not_know_it": {
        README: ["implementations that lack it are skipped"],
        IMPLS: ["An implementation that lacks it is right without it, and refuses it with a sentence."],
    },
    "suite/checks/module/test_register.py::test_is_listed_and_not_taken_for_auto": {
        README: ["| `names()` | the names of the implementations"],
        USAGE: ["A process that loads a pickled model must register the same implementations."],
    },
    "suite/test_submission.py::test_files_are_verified_beside_them": {
        README: ["Results go to a folder beside the file."],
    },
    "suite/test_submission.py::test_what_a_file_imports_from_beside_it_is_part_of_it": {
        README: ["It may import modules there, and its `IMPL = Impl(...)` says what it supports."],
    },
    "suite/comparison/test_tolerance.py::test_a_changed_argument_is_a_finding": {
        CHECKS: ["all arguments must be bitwise unchanged afterwards"],
    },
    "suite/comparison/test_tolerance.py::test_the_relative_error": {
        CHECKS: ["A tensor passes if its relative L2 error is at most twice"],
    },
    "suite/measure/test_bench.py::test_a_wrong_candidate_is_refused": {
        MEASURE: ["A file of `--impl` is compared in every visit."],
    },
    "suite/measure/test_bench.py::test_sizes_have_a_table_and_a_page_of_their_own": {
        MEASURE: ["git ignores them, and nothing else under results/ changes."],
    },
    "suite/measure/test_bench.py::test_what_is_red_or_stale_is_never_timed": {
        README: ["What fails verification is not timed."],
        MEASURE: ["A candidate whose verification on this machine failed or is stale is not timed."],
        RESULTS: ["nox -s verify nox -s bench"],
    },
    "suite/measure/test_bench_compare.py::test_compare_judges_each_row": {
        README: ["compares two benchmarks, or a revision with this code; fails on a regression"],
    },
    "suite/measure/test_bench_compare.py::test_of_a_revision_only_its_module_is_used": {
        MEASURE: ["It uses only `HyperLSTM` of that revision: the suite is this checkout's on both sides."],
    },
    "suite/measure/test_choice.py::test_sizes_are_timed_in_their_form_of_what_is_fast": {
        MEASURE: ["with the same I, H, L and dropout between layers, in the one form that they name"],
    },
    "suite/measure/test_choice.py::test_the_list_says_what_would_run": {README: ["`-- --list` only shows the plan"]},
    "suite/measure/test_choice.py::test_what_cannot_be_a_size_ends_with_a_sentence": {
        MEASURE: ["would take more memory than there is are refused."],
    },
    "suite/measure/test_choice.py::test_without_a_gpu_workloads_are_shortened_unless_asked": {
        MEASURE: ["shortened, unless `--full` is given."],
    },
    "suite/measure/test_honest.py::test_forward_has_no_graph_and_training_new_gradients": {
        MEASURE: ["Forward is in evaluation mode, and its parameters stay as they are."],
    },
    "suite/measure/test_runner.py::test_a_visit_beside_a_busy_machine_does_not_count": {
        MEASURE: ["it does not count and is repeated later", "or if a row met nothing else, they count"],
    },
    "suite/measure/test_runner.py::test_no_server_visits_a_job_twice": {
        MEASURE: ["a server visits a job at most once"],
    },
    "suite/measure/test_server.py::test_a_failure_is_the_status_of_its_rows": {
        MEASURE: ["is the `status` of one job's rows, which `detail` says in words, and the run goes on."],
    },
    "suite/measure/test_timing.py::test_a_gpu_is_timed_until_all_its_streams_are_done": {
        MEASURE: ["On a GPU a round ends when all streams are done"],
    },
    "suite/package/test_documents.py::test_commands_are_accepted": {
        CARD: ["Remove `.nox/environment`, then run `UV_TORCH_BACKEND=auto nox -s cuda`"],
    },
    "suite/package/test_examples.py::test_python_runs": {USAGE: ["`nox -s selftest` runs the code of this page."]},
    "suite/package/test_examples.py::test_weights_decay_and_biases_and_norms_do_not": {
        USAGE: ["**Weight decay** of parameters with `ndim >= 2` also decays biases and norms. Choose by name."],
    },
    "suite/package/test_wheel.py::test_the_wheel_that_was_built_is_checked_and_no_older_one": {
        README: ["`nox -s wheel` builds wheels that have it compiled"],
    },
    "suite/pages/test_bench_tables.py::test_a_verdict_takes_an_interval_beyond_the_noise": {
        MEASURE: ["gives the noise floor: a difference within it is *undecided*."],
    },
    "suite/pages/test_bench_tables.py::test_rows_from_a_busy_machine_are_marked": {
        MEASURE: ["the row is marked by the column `busy`"],
    },
    "suite/test_handed_in.py::test_a_damage_is_named": {
        README: ["`-- --check FOLDER` says whether a machine's can be handed in"],
    },
    "suite/pages/test_sizes.py::test_the_page_shows_sweeps_and_every_size": {
        README: ["`-- --size H512-L2-norm` times your sizes, `-- --sweep H=128,256,512` plots over one"],
    },
    "suite/results/test_statistics.py::test_visits_of_a_row_are_summarised": {
        README: ["in several fresh processes, and reports the median ratio with a confidence interval"],
        MEASURE: ["A figure is the median of the visits'."],
    },
    "suite/test_commands.py::test_a_thorough_run_lists_its_slowest_tests": {
        CHECKS: ["A thorough run also lists its slowest tests."],
    },
    "suite/test_commands.py::test_failures_of_a_file_take_a_line_unless_asked": {
        CHECKS: ["With `--impl FILE`, each failure takes one line with the tensor and its error."],
    },
    "suite/test_commands.py::test_rows_and_conclusion_outlive_an_interruption": {
        CHECKS: ["After Ctrl-C it keeps the rows of what ended and says that the rest was not checked."],
    },
    "suite/test_commands.py::test_sizes_that_are_named_are_compared_alone": {
        README: ["`-- --size H512-L2-norm` compares at your sizes alone"],
    },
    "suite/test_commands.py::test_what_is_thorough_is_left_out_unless_asked": {
        README: ["`-- --thorough` adds slow and internal checks"],
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("page", "sentence"),
    [(page, sentence) for page, sentences in SENTENCES.items() for sentence in sentences],
    ids=lambda value: value.parent.name if isinstance(value, Path) else None,
)
def test_a_page_says_what_the_code_has(page: Path, sentence: str) -> None:
    assert sentence in text(page)


@pytest.mark.parametrize("test", SHOWN_ELSEWHERE)
def test_a_page_says_what_a_test_shows(test: str) -> None:
    """A test that is there."""
    file, _, name = test.partition("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for page, sentences in SHOWN_ELSEWHERE[test].items():
        assert [sentence for sentence in sentences if sentence not in text(page)] == []


#: Of an interval.
COVERAGE, VISITS = share(statistics.COVERAGE), word(statistics.FEWEST)
#: By the name of a text of a command, or of pages that it writes, the text and what it says.
TEXTS: dict[str, tuple[str | None, list[str]]] = {
    "bench": (
        bench.__doc__,
        [
            f"about {ON_CPU:g} minutes, or {ON_GPU:g} on a GPU, for each --dtype",
            "an implementation in a file, for 2 minutes; its results are beside it",  # measure/test_choice.py
        ],
    ),
    "compare": (
        bench_compare.__doc__,
        [
            f"their ratios to `torch.nn.LSTM` differ by more than {share(bench_compare.RUN_TO_RUN)}",
            f"1 of {1 / (1 - statistics.COVERAGE):.0f} comparisons of equal code has such a row",
            f"a row without a figure in OLD or with fewer than {VISITS} visits",
            f"itself drifted by more than {share(bench_compare.MAX_BASELINE_DRIFT)}",
        ],
    ),
    "how to read bench": (
        page_of_bench.READ,
        [
            f"with a {COVERAGE} confidence interval between them",
            f"are fewer than the {VISITS} that an interval takes",
            "the baseline with itself (the A/A run); how far its interval reaches from 1 is the noise floor",
        ],
    ),
    "the same code twice": (
        page_of_bench.TWICE,
        [f"the ratios differ by more than {share(bench_compare.RUN_TO_RUN)}"],
    ),
    "captions": (page_of_bench.INTERVALS_SHOWN, [f"lines show {COVERAGE} confidence intervals"]),
    "how to read sizes": (sizes.READ, [f"a band is a {COVERAGE} confidence interval"]),
    "how far it was compared": (
        page_of_verify.REACH,
        [f"from H {min(case.H for case in WIDE)} on, the oracle is {WIDE_ORACLE} in float64"],
    ),
    "the index": (
        report.LEAD,
        [
            f"Training time / {BASELINE} of the fastest implementation, without layer norm; below 1 is faster.",
            f"are {COVERAGE} confidence intervals, which take {VISITS} visits",
        ],
    ),
    "handing in": (report.HAND_IN, [f"each row needs {VISITS} visits"]),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_says_what_the_code_has(name: str) -> None:
    said, sentences = TEXTS[name]
    words = " ".join((said or "").split())
    assert [sentence for sentence in sentences if sentence not in words] == []


def test_defaults_in_a_help_are_those_of_the_options() -> None:
    by_device = f"default: {ON_CPU:g} for each dtype, on a GPU {ON_GPU:g}"
    assert by_device in " ".join(bench.parser().format_help().split())
    commands = bench_compare.parser()
    said = dict[str, float]()
    for action in commands._actions:
        number = re.search(r"default: (\d+)$", action.help or "")
        if number:
            said[action.dest] = float(number[1])
    options = vars(commands.parse_args(["old", "new"]))
    assert said == {name: options[name] for name in ("threshold", "minutes")}


def test_numbers_in_words_are_those_of_the_code() -> None:
    """Constants whose sentences have no digits."""
    assert (set(visit.BUDGET.values()), BUSY, TIMES) == ({0.5}, 0.1, 2.0)
    assert "at most twice the error of the naive form" in text(CHECKS)
    assert "more than a tenth of the cores" in text(MEASURE)
    assert _residuals(I=1, H=10, S=1) == 4 * 10 + 4 * 1


def test_a_state_without_layers_starts_every_layer() -> None:
    assert "Without L, a state starts every layer" in text(USAGE)
    model = HyperLSTM(3, 4, 2, 1, 2, dtype=torch.float64)
    x = torch.randn(5, 6, 3, dtype=torch.float64)
    state = tuple(torch.randn(6, size, dtype=torch.float64) for size in (4, 4, 2, 2))
    stacked = tuple(torch.stack([part, part]) for part in state)
    assert model(x, state)[0].equal(model(x, stacked)[0])


def test_biases_start_at_zero_and_stay_there() -> None:
    assert "all `bias` and `hyper_bias` start at 0, where `requires_grad_(False)` leaves them" in text(USAGE)
    layer = HyperLSTM(3, 4, 2, 1, 1).layers[0]
    assert not layer.get_parameter("bias").any()
    assert not layer.get_parameter("hyper_bias").any()
