"""What one benchmark process does: check one subject on one workload, then time it and measure its memory.

Started by `suite/timing/processes.py` with a job file; each pass leaves its row as soon as it is measured, so that a
later crash takes nothing with it. A row's rounds alternate with rounds of `torch.nn.LSTM` of the same I, H, L, T, B.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from torch import nn

from suite.shared import measure, pairing, work
from suite.shared.cases import Case
from suite.shared.children import leave
from suite.shared.jobs import PASSES, Job
from suite.shared.stopwatch import Stopwatch, clock_columns, settled, stopwatch
from suite.shared.subjects import LSTM, find

#: Seconds that the rounds of one pass may take together with their baseline's; the A/A run, whose interval is the noise
#: floor of all others, has so many times as long.
BUDGET, AA = 0.8, 2
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
    """The subject does not compute what it should, so its speed says nothing."""


class TooLongError(Exception):
    """The subject would not end within the time it has left."""


class Bench:
    """One subject on one case, found right: what is timed, and beside what."""

    def __init__(self, job: Job, case: Case) -> None:
        """Check and build the subject, and build its baseline; a row says why if that fails."""
        self.job, self.case = job, case
        self.since = _STARTED if case == job.cases[0] else time.monotonic()  # the row before was left
        self.model = checked_model(job, case)
        self.baseline = LSTM.build(case, job.torch_dtype, job.torch_device)
        self.watch: Stopwatch = stopwatch(job.torch_device)
        self.x = work.example(case, job.torch_dtype, job.torch_device)
        self.predicted = 0.0  # seconds of the longest pass so far

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
    """Build the subject, once it has passed the comparison at the sizes of the workload, else RefusedError says why."""
    with labelled(job, case, *PASSES):
        subject = find(job.subject)
        if reason := work.refusal(subject, case, job.torch_dtype, job.torch_device):
            raise RefusedError(reason)
        return subject.build(case, job.torch_dtype, job.torch_device)


def bench_pass(bench: Bench, name: str, benchmark: Any) -> None:
    """Time the pass beside its baseline's, measure memory and calls in runs apart, and leave the row."""
    job, case, model, x, step = bench.job, bench.case, bench.model, bench.x, work.PASSES[name]
    subject, device, training = find(job.subject), job.torch_device, name == "train"
    with labelled(job, case, name):
        figures = timed(bench, name, benchmark)
        bench.baseline.zero_grad(set_to_none=True)
        figures |= {
            "status": "ok",
            "peak_bytes": work.peak(step, model, x),
            "kept_bytes": measure.kept_bytes(lambda: model(x), device) if training else None,
            "parameters": sum(p.numel() for p in model.parameters()),
            "multiply_adds": subject.multiply_adds(case) * (3 if training else 1),
            "work": subject.multiply_adds(case) / LSTM.multiply_adds(case),
            "least_bytes": subject.least_numbers(case, training) * x.data.element_size(),
            "calls_per_step": calls_per_step(bench, step),
        }
        leave(job.path, job.columns(case, name) | figures)
        bench.since = time.monotonic()


def timed(bench: Bench, name: str, benchmark: Any) -> dict[str, Any]:
    """Return the figures of paired rounds, as many as their budget allows; TooLongError if the least do not fit."""
    watch, model, baseline, x, step = bench.watch, bench.model, bench.baseline, bench.x, work.PASSES[name]
    first = watch.seconds(lambda: step(model, work.first_steps(x, 1)))
    taken = settled(watch, lambda: step(model, x), expected(bench, first, step))
    subject = Burst(watch, lambda: step(model, x), taken[-1])
    rival = Burst(watch, lambda: step(baseline, x), settled(watch, lambda: step(baseline, x))[-1])
    baseline_s: list[float] = []
    clocks = [watch.clock()]

    def before() -> None:
        rival.warm()
        baseline_s.append(rival.round() / rival.calls)
        subject.warm()

    benchmark.pedantic(
        subject.round,
        setup=before,
        teardown=lambda: clocks.append(watch.clock()),
        rounds=pairing.rounds(subject.round_s, rival.round_s, BUDGET * (AA if bench.job.subject == LSTM.name else 1)),
    )
    subject_s = [seconds / subject.calls for seconds in benchmark.stats.stats.data]
    benchmark.extra_info.update(bench.job.columns(bench.case, name), calls_per_round=subject.calls)
    benchmark.extra_info.update(baseline_s=baseline_s, clocks_mhz=clocks)
    figures = pairing.columns(subject_s, baseline_s) | clock_columns(clocks) | {"first_s": first + taken[0]}
    # What a call takes in a loop that waits for none of them, where that is another figure.
    mine, theirs = (side.watch.in_a_loop(side.work, 2 * side.calls + 1) for side in (subject, rival))
    return figures | ({} if mine is None or theirs is None else {"loop_s": mine, "loop_ratio": mine / theirs})


class Burst:
    """The rounds of one side: how many calls make one, and whether a call goes before."""

    def __init__(self, watch: Stopwatch, work: Callable[[], None], once: float) -> None:
        """Take what is called, and the seconds that a call takes."""
        self.watch, self.work = watch, work
        self.calls = max(1, math.ceil(BURST / once))
        self.warms = once < WARM
        self.round_s = once * (self.calls + self.warms)

    def warm(self) -> None:
        """Make the processor this side's, where that does not take too long."""
        if self.warms:
            self.work()

    def round(self) -> float:
        """Return what the calls of one round take."""
        return sum(self.watch.seconds(self.work) for _ in range(self.calls))


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
    rows = bench.case.B if find(bench.job.subject).compiles_each_size else 2

    def calls(T: int) -> int:
        x = work.repeated(bench.x, T, rows)
        for _ in range(bench.watch.least):  # so that both lengths are run as later calls are
            step(bench.model, x)
        return measure.operator_calls(lambda: step(bench.model, x))

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
            leave(job.path, job.columns(case, name) | {"status": status})
        raise
