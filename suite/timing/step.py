"""What one benchmark process does: check one subject on one workload, then time it and measure its memory.

Started by `suite/shared/jobs.py` with a job file; each pass leaves its row there as soon as it is measured, so that a
later crash takes nothing with it. A row's rounds alternate with rounds of `torch.nn.LSTM` of the same I, H, L, T, B.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from impls import names, registry
from suite.shared import machine, measure, pairing
from suite.shared.cases import Case
from suite.shared.corpus import one_hot, streams
from suite.shared.jobs import Job
from suite.shared.results import write_whole
from suite.shared.stopwatch import Stopwatch, clock_columns, stopwatch
from suite.shared.subjects import LSTM, find

#: Seconds that the rounds of one pass may take together with their baseline's; the A/A run, whose interval is the noise
#: floor of all others, has so many times as long.
BUDGET, AA = 1.6, 2
#: A first call that took longer says well enough how long the next will take.
SLOW = 0.5
#: What takes less than WARM runs once untimed before each round: caches, memory and sleeping threads are the other's
#: then. A round is as many calls as take BURST, so that the time of a call that is shorter than that is a mean.
WARM, BURST = 0.1, 0.02
#: The lengths that operator calls are counted at; what comes with every step is the difference.
LENGTHS = (2, 4)

_STARTED = time.monotonic()


class RefusedError(Exception):
    """The subject does not compute what it should, so its speed says nothing."""


class TooLongError(Exception):
    """The subject would not end within the time it has left."""


class Bench:
    """One subject on one case, found right: what is timed, and beside what."""

    def __init__(self, job: Job, case: Case) -> None:
        """Check and build the subject, and build its baseline; a row says why if that fails."""
        self.job, self.case, self.since = job, case, _STARTED if case == job.cases[0] else time.monotonic()
        self.model = checked_model(job, case)
        self.baseline = LSTM.build(case, job.torch_dtype, job.torch_device)
        self.watch: Stopwatch = stopwatch(job.torch_device)
        self.x = example(job)
        self.predicted = 0.0  # seconds of the longest pass so far

    @cached_property
    def kept_bytes(self) -> int:
        """What a forward pass leaves for the way back."""
        return measure.kept_bytes(lambda: self.model(self.x), self.job.torch_device)

    def left(self) -> float:
        """Return the seconds that the case may still take."""
        return self.job.time_limit - (time.monotonic() - self.since)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the passes on each case of the job, one case after the other."""
    cases = Job.read(metafunc.config.getoption("--job")).cases
    metafunc.parametrize("bench", cases, ids=[case.id for case in cases], indirect=True, scope="module")


@pytest.fixture(scope="module")
def bench(request: pytest.FixtureRequest) -> Bench:
    """Take on the job's memory limit, and build what is timed."""
    job = Job.read(request.config.getoption("--job"))
    machine.limit_memory(job.memory_limit, job.torch_device)
    return Bench(job, request.param)


def checked_model(job: Job, case: Case) -> nn.Module:
    """Build the subject, once it has passed the comparison at the sizes of the workload, else RefusedError says why."""
    with labelled(job, case, *job.passes):
        subject, device = find(job.subject), job.torch_device
        reason = subject.why_unavailable(device, job.torch_dtype)
        if reason is not None:
            raise RefusedError(reason)
        worst = subject.check(replace(case, T=2, B=2), job.torch_dtype, device)[:1]
        if worst and not worst[0].ratio <= 1:
            raise RefusedError(f"{worst[0].tensor} is off by {worst[0].error:.1e}, allowed {worst[0].allowed:.1e}")
        return subject.build(case, job.torch_dtype, device)


def forward(model: nn.Module, x: Tensor) -> None:
    """Run the forward pass alone."""
    with torch.no_grad():
        model(x)


def train(model: nn.Module, x: Tensor) -> None:
    """Run a training step, but for the optimiser's part, which is the same for all."""
    model.zero_grad(set_to_none=True)
    model(x)[0].square().mean().backward()


def bench_forward(bench: Bench, benchmark: Any) -> None:
    run(bench, "forward", forward, benchmark)


def bench_train(bench: Bench, benchmark: Any) -> None:
    run(bench, "train", train, benchmark)


def run(bench: Bench, name: str, step: Callable[[nn.Module, Tensor], None], benchmark: Any) -> None:
    """Time the pass beside its baseline's, measure memory and calls in runs apart, and leave the row."""
    job, case, model, x = bench.job, bench.case, bench.model, bench.x
    subject, device = find(job.subject), job.torch_device

    def work() -> None:
        step(model, x)

    with labelled(job, case, name):
        figures = timed(bench, name, step, benchmark)
        bench.baseline.zero_grad(set_to_none=True)
        model.zero_grad(set_to_none=True)
        leave(
            job,
            case,
            name,
            status="ok",
            **figures,
            peak_bytes=measure.peak_bytes(work, device),
            kept_bytes=bench.kept_bytes,
            parameters=sum(p.numel() for p in model.parameters()),
            multiply_adds=subject.multiply_adds(case) * (3 if name == "train" else 1),
            work=subject.multiply_adds(case) / LSTM.multiply_adds(case),
            least_bytes=subject.least_numbers(case, name == "train") * x.element_size(),
            calls_per_step=calls_per_step(bench, step),
            **launch_columns(bench, name, work),
        )


def timed(bench: Bench, name: str, step: Callable[[nn.Module, Tensor], None], benchmark: Any) -> dict[str, Any]:
    """Return the figures of paired rounds, as many as their budget allows; TooLongError if the least do not fit."""
    watch, model, baseline, x = bench.watch, bench.model, bench.baseline, bench.x
    first = watch.seconds(lambda: step(model, x[:1]))
    will_end(bench, first, step)
    first += watch.seconds(lambda: step(model, x))
    subject = Burst(watch, lambda: step(model, x), first if first > SLOW else None)
    watch.seconds(lambda: step(baseline, x))
    rival = Burst(watch, lambda: step(baseline, x))
    budget = BUDGET * AA if bench.job.subject == LSTM.name else BUDGET
    rounds = pairing.rounds(subject.round_s, rival.round_s, budget)
    subject_s: list[float] = []
    baseline_s: list[float] = []
    clocks = [watch.clock()]

    def before() -> None:
        rival.warm()
        baseline_s.append(rival.seconds())
        subject.warm()

    benchmark.pedantic(
        lambda: subject_s.append(subject.seconds()),
        setup=before,
        teardown=lambda: clocks.append(watch.clock()),
        rounds=rounds,
    )
    benchmark.extra_info.update(bench.job.columns(bench.case, name), calls_per_round=subject.calls)
    benchmark.extra_info.update(baseline_s=baseline_s, subject_s=subject_s, clocks_mhz=clocks)
    return pairing.columns(subject_s, baseline_s) | clock_columns(clocks) | {"first_s": first}


class Burst:
    """The rounds of one side: how many calls make one, and whether a call goes before."""

    def __init__(self, watch: Stopwatch, work: Callable[[], None], once: float | None = None) -> None:
        """Find out how long a call takes, unless that is known. It must have run before: a first call makes room."""
        self.watch, self.work = watch, work
        once = watch.seconds(work) if once is None else once
        self.calls = max(1, math.ceil(BURST / once))
        self.warms = once < WARM
        self.round_s = once * (self.calls + self.warms)

    def warm(self) -> None:
        """Make the processor this side's, where that does not take too long."""
        if self.warms:
            self.work()

    def seconds(self) -> float:
        """Return what a call of one round takes in the mean."""
        return sum(self.watch.seconds(self.work) for _ in range(self.calls)) / self.calls


def will_end(bench: Bench, first: float, step: Callable[[nn.Module, Tensor], None]) -> None:
    """Raise TooLongError if the pass would not end in time, judging by its first steps; first: seconds of one step.

    A first call may have compiled; calls on two steps tell, but only where the first gave reason to doubt. A training
    step takes no less than the forward pass before it.
    """
    T, passes = bench.case.T, pairing.FEWEST + 3  # the first pass, and those that measure memory
    if max(bench.predicted, first * T) * passes > bench.left():
        if not bench.predicted:
            two = min(bench.watch.seconds(lambda: step(bench.model, bench.x[:2])) for _ in range(2))
            bench.predicted = two * T / 2
        if bench.predicted * passes > bench.left():
            need = f"{passes} passes of {bench.predicted:.1f} s each"
            left = f"{max(0, bench.left()):.0f} of {bench.job.time_limit:.0f} s left"
            raise TooLongError(f"time-out: predicted, {need}, {left}")


def calls_per_step(bench: Bench, step: Callable[[nn.Module, Tensor], None]) -> float:
    """Return how many operators are called on top for one step more: what comes with every step."""
    job = bench.job
    # Two rows say as much as all, but for what would compile anew.
    compiles = job.subject in names() and registry.find(job.subject).compiles_each_size
    x = bench.x if compiles else bench.x[:, :2]
    short, long = (x[:1].repeat(T, 1, 1) for T in LENGTHS)
    more = measure.operator_calls(lambda: step(bench.model, long))
    return (more - measure.operator_calls(lambda: step(bench.model, short))) / (LENGTHS[1] - LENGTHS[0])


def launch_columns(bench: Bench, name: str, work: Callable[[], None]) -> dict[str, Any]:
    """Return how an implementation that starts its own kernels started them, from one more pass."""
    if bench.job.subject != "batched_cuda":
        return {}
    from impls import batched_cuda

    work()
    started = batched_cuda.launches()
    sweeps = [started[sweep] for sweep in (("forward", "backward") if name == "train" else ("forward",))]
    return {
        "mode": " and ".join(sorted({sweep.mode for sweep in sweeps})),
        "launches_per_step": sum(sweep.kernels / sweep.steps for sweep in sweeps),
    }


def example(job: Job) -> Tensor:
    """Return the input: real characters, one-hot, or for handwriting a seeded random walk of pen offsets."""
    case = job.case
    if case.name == "handwriting":
        return pen_offsets(case).to(job.torch_dtype).to(job.torch_device)
    return one_hot(streams(case.I, case.T, case.B), case.I, job.torch_dtype).to(job.torch_device)


def pen_offsets(case: Case) -> Tensor:
    """Return [T, B, 3]: steps in x and y of a pen whose direction drifts, and if it is lifted, on one step in 25."""
    generator = torch.Generator().manual_seed(0)
    turn, length, lift = (torch.rand(case.T, case.B, generator=generator) for _ in range(3))
    direction = 2 * math.pi * ((turn - 0.5) / 4).cumsum(0)
    return torch.stack([length * direction.cos(), length * direction.sin(), (lift < 1 / 25).double()], dim=-1)


@contextmanager
def labelled(job: Job, case: Case, *passes: str) -> Iterator[None]:
    """Leave a row that says what went wrong, and let it go on as the failure that it is."""
    try:
        yield
    except Exception as error:
        for name in passes:
            leave(job, case, name, status=status_of(error))
        raise


def status_of(error: Exception) -> str:
    """Return the label of a row that has no figures."""
    text = " ".join(str(error).split())
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in text:
        return "out of memory"
    if isinstance(error, TooLongError):
        return text
    kind = "refused" if isinstance(error, RefusedError) else f"failed: {type(error).__name__}"
    return f"{kind}: {text}"[:200]


def leave(job: Job, case: Case, name: str, **figures: Any) -> None:
    """Write the row of one pass where the parent looks for it."""
    write_whole(job.left(case, name), json.dumps(job.columns(case, name) | figures))
