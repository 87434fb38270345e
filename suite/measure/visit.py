"""A visit of the benchmark: both passes of a candidate, without layer norm and with it, alternate with the baseline.

The first visit of a job also measures memory, and compares a timed call with a verified implementation; a file of
`--impl` is compared in every visit.
"""

import gc
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from suite.candidates import submission
from suite.candidates.candidate import Candidate
from suite.candidates.catalogue import find
from suite.candidates.lstm import LSTM
from suite.candidates.names import BASELINE
from suite.cases.case import Case, lengths
from suite.cases.workloads import Pass
from suite.measure import work
from suite.measure.job import Job, RefusedError
from suite.measure.step import Input, Step
from suite.measure.timing import Rounds, ratio, take_turns
from suite.results.columns import Row, about_pass
from suite.results.status import Ended

#: Seconds of the turns of a pass. With half of it a run has 7 visits of a row for 5, and intervals that are no
#: narrower: the ratios of shorter visits differ more.
TURNS_S = 0.5


def rows(job: Job, first: bool) -> Iterator[Row]:
    """Yield a row for each pass and form, as soon as it is measured.

    RefusedError says why the figures are none of the candidate's.
    """
    candidate = find(job.candidate)
    compares = candidate.compared and (first or candidate.name in submission.files())
    models = {case: candidate.build(case, job.torch_dtype, job.device) for case in job.cases}
    lstm = LSTM.build(job.case, job.torch_dtype, job.device)

    def new(draw: int, *, of_lstm: bool = not candidate.compared) -> Input:
        case = job.case if job.workload.of_size else with_new_lengths(job.case, draw)
        return work.example(case, job.torch_dtype, job.device, of_lstm=of_lstm)

    for timed in job.workload.passes:
        baseline = Rounds(Step(lstm, timed), partial(new, of_lstm=True), job.device)
        ours = {case: Rounds(Step(model, timed), new, job.device) for case, model in models.items()}
        take_turns({BASELINE: baseline, **ours}, TURNS_S)
        for case, rounds in ours.items() if compares else ():
            reason = work.wrong(candidate, case, timed, rounds.sampled_call)
            if reason:
                raise RefusedError(reason)
        gc.collect()
        for case, rounds in ours.items():
            row = about_pass(job.workload, case, candidate.name, job.dtype, timed) | Ended().columns
            row |= {"median_s": rounds.times.median, "baseline_s": baseline.times.median}
            row["ratio"] = ratio(rounds.times, baseline.times)
            if first:
                row |= once_measured(candidate, rounds.step, case, timed, new(0))
            yield row


def call_once(job: Job, first: bool) -> Iterator[Row]:
    """Run every pass once, so that what is compiled at the first call is in the caches; yield no rows."""
    candidate = find(job.candidate)
    for case in job.cases:
        model = candidate.build(case, job.torch_dtype, job.device)
        for timed in job.workload.passes:
            step = Step(model, timed)
            step(*work.example(case, job.torch_dtype, job.device, of_lstm=not candidate.compared))
    yield from ()


def with_new_lengths(case: Case, draw: int) -> Case:
    """A case; if it is packed, with the lengths of a draw."""
    if draw == 0 or not case.lengths:
        return case
    return replace(case, lengths=lengths(case.T, case.B, draw))


def once_measured(candidate: Candidate, step: Step, case: Case, timed: Pass, arguments: Input) -> Row:
    """Columns that do not vary between visits: memory, and costs by formula, for packed sequences at draw 0."""
    training = timed is Pass.TRAIN
    parameters = sum(p.numel() for p in step.model.parameters())
    computed = replace(case, lengths=()) if candidate.pads else case
    of_forward = candidate.multiply_adds(computed)
    least_numbers = computed.least_numbers(parameters, candidate.saved(case), training)
    return {
        "peak_bytes": work.peak(step, arguments) if candidate.of_torch else None,
        "multiply_adds": of_forward * (3 if training else 1),
        "work": of_forward / LSTM.multiply_adds(case),
        "least_bytes": least_numbers * arguments[0].data.element_size(),
    }
