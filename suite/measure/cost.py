"""How long jobs take, predicted before they run: for `--list`, and for sharing a run's time among its processes.

A call takes what an earlier row says; where there is none, every figure here is assumed, for two slow cores or for an
H100 with 16 cores, and none is measured.
"""

import os
from collections.abc import Mapping, Sequence

import pandas as pd

from impls import names
from impls.registry import IMPLS
from suite.measure import rounds
from suite.measure.jobs import Job
from suite.measure.rounds import Repeats
from suite.measure.stopwatch import SLOW as LONG_CALL
from suite.measure.stopwatch import Stopwatch
from suite.shared.candidates import LSTM, find
from suite.shared.cases import Case
from suite.shared.rows import PASSES, about_pass, table

#: Operators in a step, forward and in training, of what calls them one after the other, with layer norm, as the column
#: `calls_per_step` of results has them; and the seconds that the host takes for one. What is not named runs its steps
#: in compiled code, at so many seconds each.
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
RATES = {
    "cpu": {"float64": 20e9, "float32": 45e9, "bfloat16": 45e9, "float16": 1e9},
    "cuda": {"float64": 5e12, "float32": 10e12, "tf32": 50e12, "bfloat16": 100e12, "float16": 100e12},
}
#: Seconds that the naive form takes for a weight of a sample's matrices, forward and in training.
WEIGHT = {"cpu": (2.7e-9, 8.5e-9), "cuda": (2e-11, 6e-11)}
#: Seconds from a process's start to its first job; of building and checking a form; of what a pass is profiled for; of
#: a call's idle start, with the cache emptied.
START, CHECK, PROFILE, IDLE = {"cpu": 10.0, "cuda": 6.0}, 0.3, {"cpu": 0.1, "cuda": 0.3}, {"cpu": 0.0, "cuda": 1e-4}
#: Calls of a pass beside its rounds: to settle, where a slow one takes a call less, and to measure memory.
CALLS, SLOW_CALLS = 3.5, 2.5
#: Seconds to compile a pass of a form, by what compiles for each size; to measure the ceilings of a dtype; to compile
#: one kernel ahead of time, on one core.
COMPILE, CEILING, KERNEL = {"compiled": 12.0, "jax": 3.0}, 10.0, 10.0

#: By the key of a row, seconds of a call.
KEY = table("bench").key
Known = Mapping[tuple[object, ...], float]


def known(rows: pd.DataFrame) -> Known:
    """Seconds of a call by earlier rows of the benchmark."""
    timed = rows[rows["status"] == "ok"] if len(rows) else rows
    return {_key(*(row[column] for column in KEY)): row["median_s"] for _, row in timed.iterrows()}


def seconds(job: Job, earlier: Known) -> float:
    """Seconds of a job with its first rounds, without the start of its process."""
    device, found = job.torch_device.type, CHECK * len(job.cases)
    for name in PASSES:
        calls = [call_s(job.candidate, case, name, job, earlier) + IDLE[device] for case in job.cases]
        forms = [Repeats(Stopwatch(), print, call) for call in calls]
        baseline = Repeats(Stopwatch(), print, call_s(LSTM.name, job.case, name, job, earlier) + IDLE[device])
        turn = baseline.round_s + sum(form.round_s for form in forms)
        found += turn * rounds.fewest(job, max(form.round_s for form in forms), baseline.round_s)
        found += sum(call * (SLOW_CALLS if call > LONG_CALL else CALLS) + PROFILE[device] for call in calls)
        found += COMPILE.get(job.candidate, 0.0) * len(job.cases)
    return found


def before(jobs: Sequence[Job]) -> float:
    """Seconds that a run takes before its first job: the hardware's ceilings, and kernels compiled."""
    ahead = {impl.name for impl in IMPLS if "cpu" not in impl.devices}
    sizes = {(case.H, case.S, case.B, case.layer_norm, job.dtype) for job in jobs for case in job.cases}
    kernels = len(PASSES) * len(sizes) if any(job.candidate in ahead for job in jobs) else 0
    return CEILING * len({job.dtype for job in jobs}) + KERNEL * kernels / (os.cpu_count() or 1)


def _key(*columns: object) -> tuple[object, ...]:
    return tuple(map(str, columns))


def call_s(implementation: str, case: Case, name: str, job: Job, earlier: Known) -> float:
    """Seconds of a call of a pass: by an earlier row, else the host's or the device's, whichever are more."""
    here = about_pass(case, implementation, job.dtype, name)
    key = _key(*(here[column] for column in KEY))
    if key in earlier:
        return earlier[key]
    train, steps, device = name == "train", case.T * case.L, job.torch_device.type
    calls = OPERATORS.get(implementation, (0, 0))[train] * steps * OPERATOR
    products = (3 if train else 1) * find(implementation).multiply_adds(case) / RATES[device][job.dtype]
    weights = sum(steps // case.L * case.B * 4 * case.H * (case.H + I) for I in case.inputs)
    built = weights * WEIGHT[device][train] if implementation == names()[0] else 0.0
    return max(calls, steps * STEP[name] + products) + built
