"""A visit of the benchmark: both passes of a candidate, without layer norm and with it, alternate with the baseline.

The first visit of a job also measures memory, and checks the candidate's results.
"""

import gc
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial

from torch import nn

from suite.measure import work
from suite.measure.job import Job
from suite.measure.timing import Input, Repeats, Turns, stopwatch
from suite.shared.candidates import LSTM, Candidate, find
from suite.shared.cases import BASELINE, Case, lengths
from suite.shared.process import Row
from suite.shared.tables import about_pass

#: By kind of device, seconds of the turns of a pass.
BUDGET = {"cpu": 0.2, "cuda": 0.5}


def rows(job: Job, first: bool) -> Iterator[Row]:
    """Yield a row for each pass and form, as soon as it is measured."""
    candidate, watch, example = find(job.candidate), stopwatch(job.device), cache(work.example)
    models = {case: candidate.build(case, job.torch_dtype, job.device) for case in job.cases}
    lstm = LSTM.build(job.case, job.torch_dtype, job.device)

    def batch(draw: int) -> Input:
        return example(drawn(job.case, draw), job.torch_dtype, job.device)

    for name, step in work.PASSES.items():
        x = batch(0)
        forms = {case: Repeats(watch, partial(step, model), x) for case, model in models.items()}
        if first and name == "forward":  # after the first call, which is timed
            reasons = [work.refusal(candidate, case, job.torch_dtype, job.device) for case in job.cases]
            if reason := next(filter(None, reasons), None):
                yield from job.rows(f"refused: {reason}")
                return
        turns = Turns({BASELINE: Repeats(watch, partial(step, lstm), x), **forms}, batch)
        turns.take(BUDGET[job.device.type])
        gc.collect()
        for case, model in models.items():
            row = about_pass(case, candidate.name, job.dtype, name) | {"status": "ok", "first_s": forms[case].first_s}
            row |= turns.columns(case) | (once_measured(candidate, model, case, name, turns) if first else {})
            yield row


def drawn(case: Case, draw: int) -> Case:
    """A workload; if it is packed, with the lengths of a draw."""
    return replace(case, lengths=lengths(case.T, case.B, draw)) if draw and case.lengths else case


def once_measured(candidate: Candidate, model: nn.Module, case: Case, name: str, turns: Turns) -> Row:
    """Columns that do not vary between visits: memory, and costs by formula, for packed sequences at draw 0."""
    x, training, parameters = turns.inputs[0], name == "train", sum(p.numel() for p in model.parameters())
    computed = replace(case, lengths=()) if candidate.pads else case
    return {
        "peak_bytes": work.peak(work.PASSES[name], model, x) if candidate.of_torch else None,
        "multiply_adds": candidate.multiply_adds(computed) * (3 if training else 1),
        "work": candidate.multiply_adds(computed) / LSTM.multiply_adds(case),
        "least_bytes": computed.least_numbers(parameters, candidate.saved(case), training) * x.data.element_size(),
    }
