"""Predicted time of jobs with their first rounds: for `--list`, and to share a run's time among its processes.

A call takes what an earlier row of this machine says, otherwise what is assumed here for two slow cores or for an H100
with 16 cores.
"""

import os
from collections.abc import Mapping, Sequence

import pandas as pd

from impls import names
from impls.registry import IMPLS
from suite.measure import rounds
from suite.measure.jobs import Job
from suite.measure.rounds import Repeats
from suite.measure.stopwatch import Stopwatch
from suite.shared.candidates import LSTM, find
from suite.shared.cases import Case
from suite.shared.rows import PASSES, TABLES, about_pass

#: Operators per time step, forward and in training, with layer norm, as in the column `calls_per_step`; and the seconds
#: that the host takes for one. Other candidates run steps in compiled code, with the seconds of a step by pass.
OPERATORS = {
    "naive": (478, 1502),
    "row_scaled": (350, 1378),
    "batched": (82, 229),
    "compiled": (13, 43),
    "deferred": (82, 186),
    "labml": (280, 730),
}
OPERATOR, STEP = 6e-6, {"forward": 15e-6, "train": 45e-6}
#: Multiply-adds per second of the products of a pass.
RATES = {
    "cpu": {"float64": 20e9, "float32": 45e9, "bfloat16": 45e9, "float16": 1e9},
    "cuda": {"float64": 5e12, "float32": 10e12, "tf32": 50e12, "bfloat16": 100e12, "float16": 100e12},
}
#: Seconds of the naive form, forward and in training, per weight of the matrices that it makes for each sample.
WEIGHT = {"cpu": (2.7e-9, 8.5e-9), "cuda": (2e-11, 6e-11)}
#: Seconds from a process's start to its first job, and to build, check and profile a form.
START, CHECK = {"cpu": 10.0, "cuda": 6.0}, {"cpu": 0.5, "cuda": 0.9}
#: Calls of a pass that are not rounds: to settle, and to measure memory.
CALLS = 3.5
#: Seconds to compile both passes of a form and what checks it; to measure the ceilings of a dtype; to compile a kernel
#: ahead of time, on one core. Kernels of a form: three of a training step and one without gradient, for two batches.
COMPILE, CEILING, KERNEL, KERNELS = {"compiled": 32.0, "jax": 6.0}, 10.0, 5.0, 8

#: By the key of a row, seconds of a call.
Known = Mapping[tuple[str, ...], float]


def known(rows: pd.DataFrame) -> Known:
    """Seconds of a call by earlier rows of the benchmark."""
    timed = rows[rows["status"] == "ok"] if len(rows) else rows
    return {_key(row): row["median_s"] for _, row in timed.iterrows()}


def seconds(job: Job, earlier: Known) -> float:
    """Seconds of a job with its first rounds, without the start of its process."""
    found = (CHECK[job.device.type] + COMPILE.get(job.candidate, 0.0)) * len(job.cases)
    for name in PASSES:
        calls = [call_s(job.candidate, case, name, job, earlier) for case in job.cases]
        baseline = _round_s(call_s(LSTM.name, job.case, name, job, earlier))
        forms = list(map(_round_s, calls))
        found += CALLS * sum(calls) + rounds.fewest(job, max(forms), baseline) * (baseline + sum(forms))
    return found


def before(jobs: Sequence[Job]) -> float:
    """Seconds of a run before its first job: the hardware's ceilings, and kernels compiled ahead of time."""
    ahead = {impl.name for impl in IMPLS if "cpu" not in impl.devices}
    sizes = {(case.H, case.S, case.B, case.layer_norm, job.dtype) for job in jobs for case in job.cases}
    kernels = KERNELS * len(sizes) if any(job.candidate in ahead for job in jobs) else 0
    return CEILING * len({job.dtype for job in jobs}) + KERNEL * kernels / (os.cpu_count() or 1)


def call_s(implementation: str, case: Case, name: str, job: Job, earlier: Known) -> float:
    """Seconds of a call of a pass: of an earlier row, otherwise the host's or the device's, whichever are more."""
    key = _key(about_pass(case, implementation, job.dtype, name))
    if key in earlier:
        return earlier[key]
    train, steps, device = name == "train", case.T * case.L, job.device.type
    calls = OPERATORS.get(implementation, (0, 0))[train] * steps * OPERATOR
    products = (3 if train else 1) * find(implementation).multiply_adds(case) / RATES[device][job.dtype]
    weights = sum(case.T * case.B * 4 * case.H * (case.H + I) for I in case.inputs)
    built = weights * WEIGHT[device][train] if implementation == names()[0] else 0.0
    return max(calls, steps * STEP[name] + products) + built


def _key(row: "Mapping[str, object] | pd.Series") -> tuple[str, ...]:
    return tuple(str(row[column]) for column in TABLES["bench"].key)


def _round_s(call: float) -> float:
    return Repeats(Stopwatch(), print, call).round_s
