"""What one benchmark process does: check one candidate on one workload, then time it and measure its memory.

Started by `suite/measure/processes.py` with a job file; each pass leaves its row as soon as it is measured, so that a
later crash takes nothing with it. A row's rounds alternate with rounds of `torch.nn.LSTM` of the same I, H, L, T, B.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from typing import Any

import pytest
import torch
from torch import nn

from suite.measure import rounds, work
from suite.measure.jobs import Job
from suite.measure.stopwatch import Stopwatch, clock_columns, stopwatch, warm_up
from suite.shared import pairing, usage
from suite.shared.candidates import LSTM, Candidate, find
from suite.shared.cases import Case
from suite.shared.process import append_row
from suite.shared.rows import PASSES

#: Seconds that the rounds of one pass may take together with their baseline's, by kind of device; the A/A run, whose
#: interval is the noise floor of all others, has so many times as long.
BUDGET, AA = {"cpu": 0.8, "cuda": 0.4}, 2
#: What takes less than WARM runs once untimed before each round: caches, memory and sleeping threads are the other's
#: then. A round is as many calls as take BURST, so that the time of a call that is shorter than that is a mean.
WARM, BURST = 0.1, 0.02
#: A pass is called at least so often: the first call, the fewest rounds, and the calls that measure memory.
CALLS = 3 + pairing.FEWEST
#: The lengths that a time is predicted from, and those that operator calls are counted at; what comes with every step
#: is the difference.
SHORT, LENGTHS = (1, 3), (2, 4)

_STARTED = time.monotonic()


class RefusedError(Exception):
    """The candidate does not compute what it should, so its speed says nothing."""


class TooLongError(Exception):
    """The candidate would not end within the time it has left."""


class Bench:
    """One candidate on one case, found right: what is timed, and beside what."""

    def __init__(self, job: Job, case: Case) -> None:
        """Check and build the candidate, and build its baseline; a row says why if that fails."""
        self.job, self.case = job, case
        self.since = _STARTED if case == job.cases[0] else time.monotonic()  # the row before was left
        self.model = checked_model(job, case)
        self.baseline = LSTM.build(case, job.torch_dtype, job.torch_device)
        self.watch: Stopwatch = stopwatch(job.torch_device)
        self.x = work.example(case, job.torch_dtype, job.torch_device)
        self.predicted = 0.0  # seconds of the longest pass so far

    def batch(self, draw: int) -> tuple[Case, work.Input]:
        """Return the batch of a draw: of other lengths than those of other draws, where the case has lengths."""
        if not self.case.lengths:
            return self.case, self.x
        drawn = work.redrawn(self.case, draw)
        return drawn, work.example(drawn, self.job.torch_dtype, self.job.torch_device)

    def left(self) -> float:
        """Return the seconds that the row may still take."""
        return self.job.time_limit - (time.monotonic() - self.since)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the passes on each case of the job, one case after the other."""
    cases = Job.read(metafunc.config.getoption("--job")).cases
    metafunc.parametrize("bench", cases, ids=[case.id for case in cases], indirect=True, scope="module")
    metafunc.parametrize("name", PASSES)


@pytest.fixture(scope="module")
def bench(request: pytest.FixtureRequest) -> Bench:
    """Build what is timed, under the job's memory limit and in its arithmetic."""
    job = Job.read(request.config.getoption("--job"))
    job.take_on()
    return Bench(job, request.param)


def checked_model(job: Job, case: Case) -> nn.Module:
    """Build the candidate once it has passed the comparison at the sizes of the workload; else raise RefusedError."""
    with labelled(job, case, *PASSES):
        candidate = find(job.candidate)
        if reason := work.refusal(candidate, case, job.torch_dtype, job.torch_device):
            raise RefusedError(reason)
        return candidate.build(case, job.torch_dtype, job.torch_device)


def bench_pass(bench: Bench, name: str, benchmark: Any) -> None:
    """Time the pass beside its baseline's, measure memory and calls in runs apart, and leave the row."""
    job, case, model, x, step = bench.job, bench.case, bench.model, bench.x, work.PASSES[name]
    device, training = job.torch_device, name == "train"
    with labelled(job, case, name):
        figures = timed(bench, name, benchmark)
        bench.baseline.zero_grad(set_to_none=True)
        figures |= {
            "status": "ok",
            "peak_bytes": work.peak(step, model, x),
            "kept_bytes": usage.saved_bytes(lambda: model(x), device) if training else None,
            "parameters": sum(p.numel() for p in model.parameters()),
            "calls_per_step": calls_per_step(bench, step),
            "library": find(job.candidate).library,
        }
        if device.type == "cuda":
            names = usage.kernels(lambda: step(bench.baseline, x))
            figures["cudnn"] = usage.cudnn_of(names, torch.backends.cudnn.version())
        append_row(job.path, job.columns(case, name) | figures)
        bench.since = time.monotonic()


def timed(bench: Bench, name: str, benchmark: Any) -> dict[str, Any]:
    """Return the figures of paired rounds, as many as their budget allows; TooLongError if the least do not fit."""
    watch, model, baseline, x, step = bench.watch, bench.model, bench.baseline, bench.x, work.PASSES[name]
    first = watch.seconds(lambda: step(model, work.first_steps(x, 1)))
    taken = warm_up(watch, lambda: step(model, x), expected(bench, first, step))
    batches = [(bench.case, x)]
    candidate = Repeats(watch, partial(step, model), batches, taken[-1])
    rival = Repeats(watch, partial(step, baseline), batches, warm_up(watch, lambda: step(baseline, x))[-1])
    baseline_s: list[float] = []
    clocks = [watch.clock()]

    def before() -> None:
        batches.append(bench.batch(len(batches)))
        rival.warm()
        baseline_s.append(rival.round() / rival.calls)
        candidate.warm()

    benchmark.pedantic(
        candidate.round,
        setup=before,
        teardown=lambda: clocks.append(watch.clock()),
        rounds=rounds.rounds(candidate.round_s, rival.round_s, budget(bench.job)),
    )
    subject_s = [seconds / candidate.calls for seconds in benchmark.stats.stats.data]
    benchmark.extra_info.update(bench.job.columns(bench.case, name), calls_per_round=candidate.calls)
    benchmark.extra_info.update(baseline_s=baseline_s, clocks_mhz=clocks)
    figures = pairing.columns(subject_s, baseline_s) | clock_columns(clocks) | {"first_s": first + taken[0]}
    # The median time is about that of the batch with the median of tokens.
    typical = sorted((case for case, _ in batches[1:]), key=lambda case: case.tokens)[(len(batches) - 1) // 2]
    figures |= costs(find(bench.job.candidate), typical, name, x.data.element_size())
    # What a call takes in a loop that waits for none of them, where that is another figure.
    mine, theirs = candidate.in_a_loop(), rival.in_a_loop()
    return figures | ({} if mine is None or theirs is None else {"loop_s": mine, "loop_ratio": mine / theirs})


def budget(job: Job) -> float:
    """Return the seconds that the rounds of a pass may take."""
    return BUDGET[job.torch_device.type] * (AA if job.candidate == LSTM.name else 1)


def costs(candidate: Candidate, case: Case, name: str, itemsize: int) -> dict[str, Any]:
    """Return what a row says that a pass over a case comes to, by formula."""
    training = name == "train"
    return {
        "multiply_adds": candidate.multiply_adds(case) * (3 if training else 1),
        "work": candidate.multiply_adds(case) / LSTM.multiply_adds(case),
        "least_bytes": candidate.least_numbers(case, training) * itemsize,
    }


class Repeats:
    """The rounds of one side: how many calls make one, and whether a call goes before."""

    def __init__(
        self, watch: Stopwatch, work: Callable[[work.Input], None], batches: list[tuple[Case, work.Input]], once: float
    ) -> None:
        """Take what is called, the batches drawn so far, to which each round adds one, and the seconds of a call."""
        self.watch, self.work, self.batches = watch, work, batches
        self.calls = max(1, math.ceil(BURST / once))
        self.warms = once < WARM
        self.round_s = once * (self.calls + self.warms)

    def warm(self) -> None:
        """Make the processor this side's, where that does not take too long, on the batch of the round before."""
        if self.warms:
            self.work(self.batches[-2][1])

    def round(self) -> float:
        """Return what the calls of one round take."""
        return sum(self.watch.seconds(lambda: self.work(self.batches[-1][1])) for _ in range(self.calls))

    def in_a_loop(self) -> float | None:
        """Return what a call takes among others that do not wait for it; None where that is no other figure."""
        inputs = cycle(x for _, x in self.batches[1:])
        return self.watch.in_a_loop(lambda: self.work(next(inputs)), 2 * self.calls + 1)


def expected(bench: Bench, first: float, step: work.Pass) -> float:
    """Return the seconds that a pass should take; TooLongError if so many would not end in time.

    first: seconds of the first call, on one step, which tells unless it compiled. Where it gives reason to doubt, later
    calls on two lengths tell. A training step takes no less than the forward pass before it.
    """
    guess = max(bench.predicted, first * bench.case.T)
    if guess * CALLS <= bench.left():
        return guess
    if not bench.predicted:
        bench.predicted = predicted(bench, step)
    if bench.predicted * CALLS > bench.left():
        need = f"{CALLS} passes of {bench.predicted:.1f} s each"
        left = f"{max(0, bench.left()):.0f} of {bench.job.time_limit:.0f} s left"
        raise TooLongError(f"time-out: predicted, {need}, {left}")
    return bench.predicted


def predicted(bench: Bench, step: work.Pass) -> float:
    """Return the seconds of a pass by what calls on two lengths take, the second call on each, which builds nothing."""
    T, lengths = bench.case.T, [min(T, bench.case.T) for T in SHORT]
    inputs = [work.first_steps(bench.x, length) for length in lengths]
    short, long = ([bench.watch.seconds(partial(step, bench.model, x)) for _ in range(2)][-1] for x in inputs)
    slope = (long - short) / max(1, lengths[1] - lengths[0])
    return max(long, short + slope * (T - lengths[0]))


def calls_per_step(bench: Bench, step: work.Pass) -> float:
    """Return how many operators are called on top for one step more: what comes with every step."""
    # Two rows say as much as all, but for what would compile anew.
    rows = bench.case.B if find(bench.job.candidate).compiles_each_size else 2

    def calls(T: int) -> int:
        x = work.repeated(bench.x, T, rows)
        for _ in range(bench.watch.least):  # so that both lengths are run as later calls are
            step(bench.model, x)
        return usage.operator_calls(lambda: step(bench.model, x))

    short, long = LENGTHS
    return (calls(long) - calls(short)) / (long - short)


@contextmanager
def labelled(job: Job, case: Case, *passes: str) -> Iterator[None]:
    """Leave a row that says what went wrong, and let it go on as the failure that it is."""
    try:
        yield
    except Exception as error:
        text = " ".join(str(error).split())
        kind = "refused" if isinstance(error, RefusedError) else f"failed: {type(error).__name__}"
        status = text if isinstance(error, TooLongError) else f"{kind}: {text}"[:200]
        if work.is_out_of_memory(error):
            status = "out of memory"
        for name in passes:
            append_row(job.path, job.columns(case, name) | {"status": status})
        raise
