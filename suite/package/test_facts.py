"""What pages say in numbers and names is what the code has: a sentence and the code can only change together."""

import tomllib
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from impls import HyperLSTM
from impls.batched_cpu import _residuals, sets
from impls.calls import _LEVELS
from impls.registry import find
from suite import bench, bench_compare
from suite.checks.equality.comparison import WIDE_ORACLE
from suite.comparison.tolerance import FLOOR, TIMES
from suite.measure import bench as visit
from suite.measure import choice, roofline, runner, server, timing, work
from suite.measure.others import BUSY
from suite.results import statistics
from suite.shared.files import ROOT

README, USAGE, IMPLS = ROOT / "README.md", ROOT / "impls" / "USAGE.md", ROOT / "impls" / "README.md"
CARD, MEASURE = ROOT / "impls" / "batched_cuda" / "README.md", ROOT / "suite" / "measure" / "README.md"
CHECKS, RESULTS = ROOT / "suite" / "checks" / "README.md", ROOT / "results" / "README.md"
WORDS: dict[float, str] = {2: "two", 3: "three"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
(TORCH,) = (one for one in map(Requirement, PROJECT["dependencies"]) if one.name == "torch")
LOWEST_PYTHON, LOWEST_TORCH = (str(bound).removeprefix(">=") for bound in (PROJECT["requires-python"], TORCH.specifier))


def share(number: float) -> str:
    return f"{number:.0%}".replace("%", " %")


#: By page, what it says.
SENTENCES = {
    README: [
        f"You need Python {LOWEST_PYTHON} and torch {LOWEST_TORCH} or newer.",
        f"| {choice.MINUTES['cpu']:g}, or `-- --minutes N` |",
        "select that one by name for second derivatives",
    ],
    IMPLS: [
        f"p is exact to 1/{_LEVELS}",
        f"`HYPERLSTM_BFLOAT16` (`{sets.WAYS[0]}`, `{sets.WAYS[1]}` or `{sets.WAYS[2]}`) overrides the choice",
        "*residuals*, `4H + 4S` numbers per step and row (`uh`; `batched_cpu` also stores v where I is large)",
        "`auto` takes the available implementation with the highest `preference`",
    ],
    CARD: [
        f"of compute capability {'.'.join(map(str, find('batched_cuda').capability or ()))} or higher",
        f"some {choice.MINUTES['cuda']:g} minutes for each dtype",
        "cannot be written, set `XDG_CACHE_HOME` to a folder that can be, for the checks and for your programs",
    ],
    MEASURE: [
        f"calls a pass until two calls in a row agree within a factor of {timing.AGREE:g}",
        f"over at least {1e3 * timing.BURST:g} ms",
        f"half a second of turns, or {timing.BRIEF} s if all that is timed takes",
        f"over {WORDS[timing.SLOW]} times as long as `torch.nn.LSTM`; at least {WORDS[timing.LEAST]},",
        f"or one if a turn takes more than {timing.LONG} s",
        f"with {WORDS[work.OF_ONE_DRAW]} times the limit of the tolerance rule",
        f"multiplies more than {roofline.MOST} times as fast as the machine's fastest product of matrices",
        f"counts more than {WORDS[server.UNTIMED]} times the seconds of its rounds",
        f"or `torch.nn.LSTM` takes {bench.SLOWED} times as long beside it as beside itself",
        f"takes at least {statistics.APART} times as long in one as in the other",
        f"Every job wants {WORDS[statistics.FEWEST]} visits.",
        f"want an interval of {share(runner.HALF)} to each side",
        f"After {WORDS[runner.REPEATED]} such visits",
        f"after {server.LIMIT['cpu'] / 60:g} minutes, on a GPU after {server.LIMIT['cuda'] / 60:g}.",
        f"if `torch.nn.LSTM` itself drifted by more than {share(bench_compare.MAX_BASELINE_DRIFT)}, it judges no time",
    ],
    RESULTS: ["nox -s report -- --check results/<machine>"],
    CHECKS: [
        f"plus {FLOOR[torch.float32]:g} eps ({FLOOR[torch.float64]:g} eps in float64; the eps of TF32 is 2^-10)",
        f"There the oracle is `{WIDE_ORACLE}` in float64, and the limit follows",
        # pytest's letter for skipped tests
        "with `-rs`, also with what did not run and why",
    ],
}  # fmt: skip


#: By page, sentences without a number of the code; where its fact is tested is beside each.
SHOWN_ELSEWHERE = {
    README: [
        # module/test_register.py, which has implementations that do not run here
        "| `names()` | the names of the implementations, which all have the same parameters",
    ],
    USAGE: [
        # module/capabilities.py
        "`torch.export` takes dynamic dimensions for B and, with a hand-written gradient, for T. "
        "ONNX and `torch.jit.trace` fix T.",
        "inside `torch.func`, `auto` does so itself",
        # module/first_use.py
        "A process forked after a call on several threads hangs in its first call, as with `torch.nn.LSTM`: "
        "use `spawn` or `forkserver`.",
        # module/test_register.py
        "A process that loads a pickled model must register the same implementations.",
        # module/test_dropout.py
        "`recurrent_dropout` drops elements of the candidate g at every step",
        # test_documents.py
        "**Weight decay** of parameters with `ndim >= 2` also decays biases and norms. Choose by name.",
    ],
    MEASURE: [
        # measure/test_choice.py
        "shortened, unless `--full` is given.",
    ],
    CARD: [
        # noxfile.py
        "Remove `.nox/environment`, then run `UV_TORCH_BACKEND=auto nox -s cuda`",
        # kernels/test_mark.py
        "The mark holds for the GPU's name, compute capability and number of multiprocessors, the driver, torch, "
        "Triton, and the sources of this package.",
        'without a mark of your GPU, `impl="auto"` runs `deferred` there and warns',
    ],
    IMPLS: [
        # equality/test_uses.py, definition/test_oracle.py
        "z reads ĥ_t, of the **same** step.",
        "The stored cells c and ĉ are **not** normalised.",
        "The forget gate has no added bias of 1.",
        "The embedding z for the bias has no bias.",
        # cost/test_products.py
        '`impls.gradient.chunks.limited("cpu", residuals=False)` as a context of the forward pass it does not',
        # module/test_dropout.py
        "A mask is 1 / (1 - p) where it keeps an element and 0 elsewhere.",
        "it drops outputs of each layer but the last",
    ],
}


def text(page: Path) -> str:
    """A page with single spaces."""
    return " ".join(page.read_text(encoding="utf-8").split())


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        (page, sentence)
        for pages in (SENTENCES, SHOWN_ELSEWHERE)
        for page, sentences in pages.items()
        for sentence in sentences
    ],
    ids=lambda value: value.parent.name if isinstance(value, Path) else None,
)
def test_a_page_says_what_the_code_has(page: Path, sentence: str) -> None:
    assert sentence in text(page)


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
