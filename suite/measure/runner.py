"""A run: a visit to every job, in random order, and then more visits to those whose figures are least certain."""

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from statistics import median
from typing import Any

from impls import names
from suite.candidates import submission
from suite.candidates.catalogue import alternatives
from suite.candidates.names import BASELINE
from suite.cases.workloads import QUOTED, Pass
from suite.measure import other_processes
from suite.measure.job import Job
from suite.measure.server import Server
from suite.measure.timing import SLOW
from suite.results.columns import Row, key_of
from suite.results.format import significant3
from suite.results.statistics import FEWEST, interval, summarised
from suite.results.status import Status

#: Of the printed figures, whether with layer norm, and the pass; widths of a line's name and of a figure.
COLUMNS = tuple(product((False, True), Pass))
NAME, FIGURE = 43, 9
#: Statuses that are longer than a figure.
SHORT: Mapping[str, str] = {Status.NO_MEMORY: "no memory"}
#: Statuses after which no further visit is a first one, which also measures what does not vary between visits.
MEASURED = (Status.OK, Status.NO_MEMORY)
#: How far the intervals of rows on which a result rests may reach to each side, as a share of the ratio. Wider than
#: WORST times this counts as this wide: where a machine has two states, more visits do not narrow an interval.
HALF, WORST = 0.06, 2.0
#: A server visits the jobs whose score is at least this share of the highest one.
BEFORE = 1 / 3
#: Number of visits to a job beside a busy machine that are repeated; further ones count.
REPEATED = 3


@dataclass
class Visit:
    """Rows of a visit, and the share of the cores that other processes had."""

    rows: list[Row]
    others: float = 0.0

    @property
    def refused(self) -> bool:
        return any(row["status"] == Status.REFUSED for row in self.rows)

    @property
    def busy(self) -> bool:
        return self.others > other_processes.BUSY

    @property
    def measured_all(self) -> bool:
        return all(row["status"] in MEASURED for row in self.rows)


@dataclass
class Revision:
    """A revision that is timed, such as this checkout: its fork server, and its visits so far, by job."""

    server: Server
    visits: dict[Job, list[Visit]] = field(default_factory=dict)

    def visit(self, job: Job) -> None:
        """Visit a job. Visits are first ones until one has measured all; one that is refused replaces the others."""
        earlier = self.visits.setdefault(job, [])
        first = not any(visit.measured_all for visit in earlier)
        share = other_processes.share_since(self.server.cpu_s)
        rows = self.server.visit(job, first=first)
        visit = Visit(rows, share(self.server.cpu_s))
        self.visits[job] = [visit] if visit.refused else [*earlier, visit]

    def counted(self, job: Job) -> list[Visit]:
        """The visits of a job that count: those beside a quiet machine, unless too many were not."""
        visits = self.visits.get(job, [])
        quiet = [visit for visit in visits if not visit.busy]
        busy = len(visits) - len(quiet)
        too_few = len(quiet) < FEWEST and busy >= REPEATED
        refused = bool(visits) and visits[-1].refused
        return visits if too_few or refused else quiet

    def summaries(self) -> dict[Job, list[Row]]:
        """Rows of each job, summarised over the visits that count, or over all if none does.

        What only a first visit measures is there although that visit may not count.
        """
        by_job = {job: self.counted(job) or visits for job, visits in self.visits.items()}
        job_of = {key_of(row): job for job, visits in by_job.items() for visit in visits for row in visit.rows}
        summaries: dict[Job, list[Row]] = {job: [] for job in by_job}
        for row in summarised(_rows(by_job), _rows(self.visits)):
            job = job_of[key_of(row)]
            summaries[job].append(row | _busy(by_job[job]))
        return summaries

    def summary(self) -> list[Row]:
        """All rows, summarised."""
        return [row for rows in self.summaries().values() for row in rows]


def _rows(by_job: Mapping[Job, Sequence[Visit]]) -> list[Row]:
    return [row for visits in by_job.values() for visit in visits for row in visit.rows]


def _busy(visits: Sequence[Visit]) -> Row:
    """Column `busy`, if a visit beside a busy machine counts."""
    if any(visit.busy for visit in visits):
        return {"busy": median(visit.others for visit in visits)}
    return {}


#: How much a job wants another visit, 0 if none: (job, summaries of all jobs, number of its visits that count).
Score = Callable[[Job, Mapping[Job, list[Row]], int], float]


def need(rows: Sequence[Row], counted: int, *, priority: bool, widest: float = math.inf) -> float:
    """How much a job wants another visit, by its summarised rows and the number of its visits that counted.

    Every job wants FEWEST visits. priority: whether a result rests on it, so that it comes before others. widest: how
    far the interval of a row that is not SLOW may reach to each side. Jobs of which every row is SLOW come last.
    """
    timed = [row for row in rows if row["status"] == Status.OK]
    slow = bool(timed) and all(row["ratio"] > SLOW for row in timed)
    if counted < FEWEST:
        weight = 1.0
        if priority:
            weight = 2.0
        elif slow:
            weight = 0.1
        return weight * FEWEST / (counted or 0.5)
    if widest == math.inf:
        return 0.0
    reach = max((half(row) for row in timed if row["ratio"] <= SLOW), default=0.0)
    times = reach / widest
    return min(times, WORST) if times > 1 else 0.0


def half(row: Row) -> float:
    """How far the interval of a row reaches to its longer side, as a share of the ratio; inf without an interval."""
    ratio, low, high = interval(row)
    if math.isnan(high):
        return math.inf
    return max(high / ratio, ratio / low) - 1


def fewest_first(job: Job, summaries: Mapping[Job, list[Row]], counted: int) -> float:
    """A score by which all jobs get equally many visits, until the time is up."""
    return 1 / (counted or 0.5)


def by_result(job: Job, summaries: Mapping[Job, list[Row]], counted: int) -> float:
    """Score of a benchmark, see `need`.

    A result rests on `torch.nn.LSTM` against itself, on files of `--impl`, and on our fastest in training, which want
    an interval of HALF. On workloads that the headline quotes it also rests on the fastest alternative without layer
    norm, for which FEWEST visits do: one usually takes three times as long.
    """
    rows = summaries.get(job, [])
    if job.candidate in (BASELINE, *submission.files()) or _is_fastest(job, names(), (False, True), summaries):
        return need(rows, counted, priority=True, widest=HALF)
    priority = job.workload.name in QUOTED and _is_fastest(job, alternatives(), (False,), summaries)
    return need(rows, counted, priority=priority)


def _is_fastest(job: Job, candidates: Sequence[str], norms: Sequence[bool], summaries: Mapping[Job, list[Row]]) -> bool:
    """True if no other of some candidates trains faster than a job, with or without layer norm."""
    if job.candidate not in candidates:
        return False
    for norm in norms:
        ratios = dict[Job, float]()
        for other, rows in summaries.items():
            same_place = other.workload == job.workload and other.dtype == job.dtype
            for row in rows if same_place and other.candidate in candidates else ():
                if row["pass"] == Pass.TRAIN and row["layer_norm"] == norm and row["status"] == Status.OK:
                    ratios[other] = row["ratio"]
        if job == min(ratios, key=ratios.__getitem__, default=None):
            return True
    return False


def visit_neighbours(revisions: Sequence[Revision], job: Job) -> None:
    """Visit a job on each revision. All these visits are repeated, or none, as they are compared with one another."""
    for revision in revisions:
        revision.visit(job)
    others = max(revision.visits[job][-1].others for revision in revisions)
    for revision in revisions:
        revision.visits[job][-1].others = others


def visits(
    revisions: Sequence[Revision], jobs: Sequence[Job], until: float, score: Score, latest: float = math.inf
) -> Iterator[tuple[int, Job]]:
    """Visit every job on all revisions, then those with the highest scores, until the time is up or none wants a visit.

    Yields the job of each visit, and the number of the server that it was made in, from 1.

    A server visits each job at most once, since all its children share the memory layout of one start; then another
    one starts. until, latest: as `time.time` counts; the first server makes its visits even if the time is up, but
    starts none later than `latest`.
    """
    seconds = dict.fromkeys(jobs, math.inf)
    number = 1
    sweep = random.sample(jobs, len(jobs))
    while sweep:
        for revision in revisions:
            revision.server.wait()
        for job in sweep:
            start = time.time()
            if start > latest or (number > 1 and start + seconds[job] > until):
                continue
            order = revisions if random.random() < 0.5 else revisions[::-1]
            visit_neighbours(order, job)
            seconds[job] = min(time.time() - start, seconds[job])
            yield number, job
        number += 1
        scores = dict[Job, float]()
        for job, job_score in wanting(revisions, jobs, score).items():
            if time.time() + seconds[job] <= until:
                scores[job] = job_score
        least = BEFORE * max(scores.values(), default=0.0)
        sweep = [job for job in scores if scores[job] >= least]
        if sweep:
            names = {job.candidate for job in sweep}
            for revision in revisions:
                revision.server.restart(names)


def wanting(revisions: Sequence[Revision], jobs: Sequence[Job], score: Score) -> dict[Job, float]:
    """Scores of the jobs that want another visit, the highest first, of the revision in which they are highest.

    A job that was refused wants none.
    """
    scores = dict.fromkeys(jobs, 0.0)
    for revision in revisions:
        summaries = revision.summaries()
        for job in jobs:
            visited = revision.visits.get(job)
            if visited and not visited[-1].refused:
                scores[job] = max(scores[job], score(job, summaries, len(revision.counted(job))))
    mixed = random.sample(jobs, len(jobs))  # equal ones in random order
    ordered = sorted(mixed, key=lambda job: -scores[job])
    return {job: scores[job] for job in ordered if scores[job] > 0}


def run(
    revisions: Sequence[Revision],
    jobs: Sequence[Job],
    until: float,
    score: Score = fewest_first,
    latest: float = math.inf,
) -> None:
    """Make visits; print the milliseconds of the last revision's first ones, and how far the run is at each start."""
    norms = "".join(f"layer norm {norm}".rjust(FIGURE * len(Pass)) for norm in ("off", "on"))
    headings = "".join(timed.rjust(FIGURE) for _, timed in COLUMNS)
    print(f"{'':{NAME}}{norms}\n{'ms':{NAME}}{headings}", flush=True)
    last = 1
    for server, job in visits(revisions, jobs, until, score, latest):
        if server > last:
            last = server
            more = len(wanting(revisions, jobs, score))
            print(f"{_minutes(until)} left; {more} of {len(jobs)} jobs want more visits", flush=True)
        if server == 1:
            rows = revisions[-1].visits[job][0].rows
            figures = {(row["layer_norm"], row["pass"]): _figure(row) for row in rows}
            cells = "".join(figures.get(place, "").rjust(FIGURE) for place in COLUMNS)
            print(f"{job.label:{NAME}}{cells}".rstrip(), flush=True)
    skipped = [job.label for job in jobs if job not in revisions[-1].visits]
    if skipped:
        print(f"The time was up before these had a visit: {', '.join(skipped)}.", flush=True)
    elif not wanting(revisions, jobs, score):
        print(f"Every figure is known as well as it should be, {_minutes(until)} before the time was up.", flush=True)


def _minutes(until: float) -> str:
    seconds = max(0, round(until - time.time()))
    return f"{seconds // 60}:{seconds % 60:02}"


def _figure(row: Mapping[str, Any]) -> str:
    if row["status"] == Status.OK:
        return significant3(1e3 * row["median_s"])
    return SHORT.get(row["status"], row["status"])
