"""How long jobs take on a GPU, predicted before any has run there: for `--list` and for the bar of progress.

Every figure here is assumed, for an H100 with 16 cores, and none is measured; a job that has run is known by its rows.
"""

import os
from collections.abc import Sequence

from impls.registry import IMPLS
from suite.measure import rounds
from suite.measure.bench_step import Repeats, budget
from suite.measure.jobs import Job
from suite.measure.stopwatch import DeviceEvents, Stopwatch
from suite.shared.candidates import LSTM, Candidate, find
from suite.shared.cases import Case
from suite.shared.rows import PASSES

#: Operators in a step, forward and in training, of what calls them one after the other, with layer norm, as the column
#: `calls_per_step` of results has them; and the seconds that the host takes for one. What is not named runs its steps
#: in a launch of its own, as cuDNN does, at so many seconds each.
OPERATORS = {
    "naive": (478, 1502),
    "row_scaled": (350, 1378),
    "batched": (82, 229),
    "compiled": (13, 43),
    "deferred": (82, 186),
    "labml": (280, 730),
}
OPERATOR, STEP = 6e-6, {"forward": 15e-6, "train": 45e-6}
#: Multiply-adds that all products of a pass reach in a second.
RATES = {"float64": 5e12, "float32": 10e12, "tf32": 50e12, "bfloat16": 100e12, "float16": 100e12}
#: Seconds from a process's start to its first check; of one check; of what a pass is profiled for; of a call's idle
#: start, with the cache emptied.
START, CHECK, PROFILE, IDLE = 6.0, 1.0, 0.3, 1e-4
#: Passes beside the rounds: to settle, of the candidate again before its memory is measured, and to measure.
MINE, THEIRS = 2 * DeviceEvents.least + 2, DeviceEvents.least + 1
#: Seconds to compile what compiles for each size, for a row of either pass; to measure the ceilings of a dtype; to
#: compile one kernel ahead of time, on one core.
COMPILE, CEILING, KERNEL = 30.0, 10.0, 10.0


def seconds(job: Job) -> float:
    """Return the seconds of a job on a GPU, with its process."""
    return START + sum(min(_case(job, case), len(PASSES) * job.time_limit) for case in job.cases)


def before(jobs: Sequence[Job]) -> float:
    """Return the seconds that a run takes before its first job: the hardware's ceilings, and kernels compiled."""
    ahead = {impl.name for impl in IMPLS if "cpu" not in impl.devices}
    sizes = {(case.H, case.S, case.B, case.layer_norm, job.dtype) for job in jobs for case in job.cases}
    kernels = len(PASSES) * len(sizes) if any(job.candidate in ahead for job in jobs) else 0
    return CEILING * len({job.dtype for job in jobs}) + KERNEL * kernels / (os.cpu_count() or 1)


def _case(job: Job, case: Case) -> float:
    candidate = find(job.candidate)
    found = CHECK + COMPILE * len(PASSES) * candidate.compiles_each_size
    for name in PASSES:
        sides = [_pass(each, case, name, job.dtype) + IDLE for each in (candidate, LSTM)]
        mine, theirs = (Repeats(Stopwatch(), lambda x: None, [], once) for once in sides)
        many = rounds.rounds(mine.round_s, theirs.round_s, budget(job))
        found += many * (mine.round_s + theirs.round_s) + PROFILE
        found += (MINE + 2 * mine.calls) * sides[0] + (THEIRS + 2 * theirs.calls) * sides[1]
    return found


def _pass(candidate: Candidate, case: Case, name: str, dtype: str) -> float:
    """Return the seconds of a pass: the host's, or the device's where these are more."""
    train = name == "train"
    calls = OPERATORS.get(candidate.name, (0, 0))[train] * case.T * case.L * OPERATOR
    products = (3 if train else 1) * candidate.multiply_adds(case) / RATES[dtype]
    return max(calls, case.T * case.L * STEP[name] + products)
