"""A run visits every job, then those whose figures are least certain, and tells busy visits from quiet ones."""

import random as chance
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, product, repeat
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from suite.candidates.names import BASELINE
from suite.cases.workloads import WORKLOADS
from suite.measure import runner
from suite.measure.fakes import beside, fake_server, job
from suite.measure.job import Job
from suite.measure.runner import Revision, Score, Visit, by_result, fewest_first, half, need, visits
from suite.results.columns import Row
from suite.results.example_runs import timed
from suite.results.statistics import FEWEST, STOPPED_COVERAGE, between, pooled_variance
from suite.results.status import Ended, Status

#: Seconds, ratio and spread between visits (a standard deviation of logarithms) of a fake job.
Fake = tuple[float, float, float]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return the clock of a runner that keeps the order of jobs, on a machine that does nothing else."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(runner, "time", SimpleNamespace(time=lambda: clock.now))
    monkeypatch.setattr(runner, "random", SimpleNamespace(random=lambda: 0.1, sample=lambda jobs, n: list(jobs)))
    beside(monkeypatch, 0.0)
    return clock


def rows_of(one: Job, ratio: float) -> list[Row]:
    """Rows of a visit that finds a ratio."""
    return [row | {"median_s": ratio, "baseline_s": 1.0, "ratio": ratio} for row in one.rows(Ended())]


def revision_of(clock: SimpleNamespace, fakes: dict[str, Fake], start_s: float = 0.0) -> Revision:
    """Return a revision whose visits and starts of servers move the clock, and find some ratios, by candidate."""
    drawn = chance.Random(1)

    def measure(one: Job, first: bool) -> list[Row]:
        seconds, ratio, spread = fakes[one.candidate]
        clock.now += seconds
        return rows_of(one, ratio * drawn.lognormvariate(0, spread))

    def starts(names: object) -> None:
        clock.now += start_s

    server = fake_server(measure)
    server.restart.side_effect = starts
    return Revision(server)


def run(revision: Revision, candidates: Iterable[str], limit: float, score: Score = fewest_first) -> dict[str, int]:
    """Run jobs of these candidates, and return the number of their visits."""
    jobs = [job(name) for name in candidates]
    list(visits([revision], jobs, limit, score))
    return {one.candidate: len(revision.visits.get(one, ())) for one in jobs}


FLAT = (1.0, 1.0, 0.02)


def test_no_server_visits_a_job_twice(clock: SimpleNamespace) -> None:
    """Since its children share one memory layout."""
    names = ("batched_cpu", "batched", "deferred")
    revision = revision_of(clock, dict.fromkeys(names, FLAT))
    assert run(revision, names, 12.0) == dict.fromkeys(names, 4)
    server: Any = revision.server
    assert server.restart.call_count == 3
    assert [call.kwargs["first"] for call in server.visit.call_args_list].count(True) == 3
    assert {row["visits"] for row in revision.summary()} == {4}


@pytest.mark.parametrize(
    ("status", "again"), [(Status.NO_MEMORY, False), (Status.FAILED, True), (Status.TIME_OUT, True)]
)
def test_a_visit_after_one_without_figures_is_a_first_one(status: Status, again: bool, clock: SimpleNamespace) -> None:
    revision = revision_of(clock, {"batched": FLAT})
    revision.visits[job()] = [Visit(job().rows(Ended(status)))]
    revision.visit(job())
    server: Any = revision.server
    assert server.visit.call_args.kwargs["first"] is again


@pytest.mark.parametrize(
    ("limit", "counts"), [(0.0, (1, 1)), (5.0, (2, 1)), (7.9, (1, 2)), (8.0, (2, 2)), (9.0, (3, 2))]
)
def test_the_first_server_visits_all_and_others_fill_the_time(
    limit: float, counts: tuple[int, int], clock: SimpleNamespace
) -> None:
    fakes = {"deferred": (3.0, 1.0, 0.0), "batched": FLAT}  # the long one comes first
    assert run(revision_of(clock, fakes), fakes, limit) == dict(zip(("batched", "deferred"), counts, strict=True))


def test_no_first_visit_starts_after_the_latest_time(clock: SimpleNamespace) -> None:
    revision = revision_of(clock, {"deferred": (3.0, 1.0, 0.0), "batched": FLAT})
    list(visits([revision], [job("deferred"), job("batched")], 0.0, fewest_first, latest=2.0))
    assert len(revision.visits) == len(revision.summary()) / 2 == 1


@pytest.mark.parametrize("flip", [False, True])
def test_each_start_draws_the_order_of_equal_jobs_and_of_revisions(
    flip: bool, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = SimpleNamespace(sample=lambda jobs, n: [*jobs][::-1], random=lambda: 0.5 if flip else 0.49)
    monkeypatch.setattr(runner, "random", drawn)
    order = list[tuple[int, str]]()

    def revision(number: int) -> Revision:
        def measure(one: Job, first: bool) -> list[Row]:
            order.append((number, one.candidate))
            clock.now += 1.0
            return []

        return Revision(fake_server(measure))

    jobs = [job(name) for name in ("naive", "batched", "deferred")]
    list(visits([revision(0), revision(1)], jobs, 12.0, fewest_first))
    numbers = (1, 0) if flip else (0, 1)
    assert order == [(number, name) for name in ("deferred", "batched", "naive") for number in numbers] * 2


OK = {"status": Status.OK, "ratio": 1.0, "ratio_low": 0.95, "ratio_high": 1.05}
SLOW = {"status": Status.OK, "ratio": 3.1, "ratio_low": 2.0, "ratio_high": 5.0}
FAILED = {"status": Status.FAILED}


@pytest.mark.parametrize(
    ("rows", "wants"),
    [
        ([OK], 0.0), ([OK | {"ratio_high": 1.059}], 0.0), ([FAILED], 0.0), ([SLOW], 0.0),
        ([OK, OK | {"ratio_high": 1.12}, SLOW], 2.0), ([OK | {"ratio_low": 1 / 1.09}], 1.5),
        ([OK | {"ratio_high": 1.5}], 2.0), ([OK | {"ratio_low": float("nan"), "ratio_high": float("nan")}], 2.0),
    ],
)  # fmt: skip
def test_ours_wants_intervals_of_six_per_cent(rows: list[Row], wants: float) -> None:
    """More than twice as wide counts as twice; a job of which one row alone is slow is not late."""
    assert need(rows, FEWEST, priority=True, widest=runner.HALF) == pytest.approx(wants)
    assert need([*rows, OK], 1, priority=False) == need([OK], 1, priority=False) > need([SLOW], 1, priority=False)


def test_a_result_rests_on_ours_and_on_the_fastest_alternative_of_a_headline() -> None:
    def summary(one: Job, ratio: float, **changes: Any) -> list[Row]:
        return [row | OK | {"ratio": ratio} | changes for row in one.rows(Ended())]

    def of_medium(candidate: str) -> Job:
        return job(candidate, name="medium")

    ours, fast, slow = map(of_medium, ("batched_cpu", "jax", "batched"))
    elsewhere = job("jax", WORKLOADS["char-ptb"].case)
    summaries = {ours: summary(ours, 0.5), fast: summary(fast, 1.1), slow: summary(slow, 1.2)}
    summaries[elsewhere] = summary(elsewhere, 0.9)
    for row in summaries[fast]:
        row["ratio"] = 1.1 if row["pass"] == "train" else 1.9  # training decides
    assert {one.label for one in summaries if by_result(one, summaries, 2) == 3.0} == {ours.label, fast.label}
    summaries[fast] = summary(fast, 1.1, status=Status.FAILED)
    assert by_result(slow, summaries, 2) == 3.0
    wide = {"ratio_low": 1.0, "ratio_high": 2.0}
    summaries |= {ours: summary(ours, 1.5, **wide), slow: summary(slow, 1.5, **wide)}
    assert by_result(ours, summaries, 3) > 1
    assert by_result(slow, summaries, 3) == 0  # its visits are for its own interval, which may be wide
    deferred = of_medium("deferred")
    summaries |= {ours: summary(ours, 0.5), deferred: summary(deferred, 1.1)}
    assert by_result(slow, summaries, 2) == 3.0  # what is ours is no alternative
    assert by_result(deferred, summaries, 2) == 1.5
    summaries[ours] = summary(ours, 0.5, status=Status.FAILED)
    assert by_result(deferred, summaries, 2) == 3.0  # as on a GPU, where `auto` does not take the fastest


#: As the jobs of a default run: ours and the baseline in few seconds, others slower, with host noise of some per cent.
FAKES: dict[str, Fake] = {
    "batched_cpu": (1.2, 1.4, 0.05),
    BASELINE: (1.0, 1.0, 0.03),
    "deferred": (2.0, 1.8, 0.07),
    "batched": (2.5, 2.4, 0.07),
    "row_scaled": (6.0, 9.0, 0.07),
    "naive": (20.0, 60.0, 0.07),
}


def test_time_goes_where_it_decides(clock: SimpleNamespace) -> None:
    """Ours and the A/A run get an interval of 6 %, others three visits, slow ones what is left; and the run ends."""
    count = run(revision_of(clock, FAKES, start_s=3.0), FAKES, 80.0, by_result)
    assert count["deferred"] == count["batched"] == 3
    assert count["batched_cpu"] >= 7 > 1 == count["naive"]
    clock.now = 0.0
    revision = revision_of(clock, FAKES, start_s=3.0)
    count = run(revision, FAKES, 10_000.0, by_result)
    assert clock.now < 200
    halves = {row["implementation"]: half(row) for row in revision.summary()}
    assert max(halves["batched_cpu"], halves[BASELINE]) <= 0.06
    assert [count[name] for name in ("deferred", "batched", "row_scaled", "naive")] == [3] * 4
    assert count["batched_cpu"] < 20


def test_a_refused_job_is_visited_no_more(clock: SimpleNamespace) -> None:
    wrong = Ended(Status.REFUSED, "wrong")
    answers = iter([rows_of(job(), 1.0), job().rows(wrong)])
    revision = Revision(fake_server(lambda *_: next(answers)))
    list(visits([revision], [job()], 10.0, fewest_first))
    assert [(Ended.of(row), row.get("ratio")) for row in revision.summary()] == [(wrong, None)] * 2


@pytest.mark.parametrize(
    ("of_visits", "limit", "counted", "busy", "ratio"),
    [
        ((0.0, 0.05, 0.1), 9.0, 3, None, 1.0),
        ((0.5, 0.0, 0.0, 0.0), 9.0, 3, None, 1.0),  # it is repeated
        ((0.5, 0.9, 0.0, 0.0, 0.0), 9.0, 3, None, 1.0),
        ((0.5, 0.9, 0.7), 9.0, 3, 0.7, 9.0),  # and counts after three, in a row that is marked
        ((0.5, 0.9), 2.0, 2, 0.7, 9.0),  # or if the time is up
        ((0.5, 0.0), 2.0, 1, None, 1.0),
    ],
)
def test_a_visit_beside_a_busy_machine_does_not_count(
    of_visits: Sequence[float], limit: float, counted: int, busy: float | None, ratio: float, clock: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    ratios: Iterator[float] = chain([9.0] * sum(share > 0.1 for share in of_visits), repeat(1.0))

    def measure(one: Job, first: bool) -> list[Row]:
        clock.now += 1.0
        return rows_of(one, next(ratios))

    beside(monkeypatch, of_visits)
    revision = Revision(fake_server(measure))
    list(visits([revision], [job("jax")], limit, by_result))
    assert clock.now == len(of_visits)
    for row in revision.summary():
        assert (row["visits"], row.get("busy"), row["ratio"]) == (counted, busy, ratio)


def test_neighbouring_visits_count_or_are_repeated_together(
    clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside(monkeypatch, [0.0, 0.0, 0.5, *[0.0] * 7])
    old, new = revision_of(clock, {"batched": FLAT}), revision_of(clock, {"batched": FLAT})
    list(visits([old, new], [job()], 10.0, fewest_first))
    assert [len(revision.visits[job()]) for revision in (old, new)] == [5, 5]
    assert [row["visits"] for revision in (old, new) for row in revision.summary()] == [4] * 4


def test_what_a_busy_first_visit_measured_is_kept() -> None:
    busy, quiet = ([row | OK | {"median_s": s} for row in job().rows(Ended())] for s in (9.0, 1.0))
    first = Visit([row | {"multiply_adds": 7} for row in busy], others=0.5)
    revision = Revision(MagicMock(), {job(): [first, Visit(quiet), Visit(quiet)]})
    assert [(row["multiply_adds"], row["median_s"]) for row in revision.summary()] == [(7, 1.0)] * 2


@pytest.mark.parametrize("spreads", [[0.05] * 30, [0.12, 0.03, 0.03] * 10], ids=["rows alike", "rows that differ"])
def test_intervals_have_the_ratio_although_visits_end_when_they_are_narrow(spreads: list[float]) -> None:
    """In 95 of 100 rows, within what 900 rows show; at most 14 visits a row, as in a run of 5 minutes."""
    drawn = chance.Random(2)
    hits = list[bool]()
    for _ in range(30):
        visited = [[drawn.lognormvariate(0, spread) for _ in range(FEWEST)] for spread in spreads]
        wanting = [*range(len(spreads))]
        while wanting:
            pooled = pooled_variance(visited)
            intervals = [between(ratios, pooled, STOPPED_COVERAGE) for ratios in visited]
            wide = [half(interval._asdict()) > runner.HALF for interval in intervals]
            wanting = [i for i, ratios in enumerate(visited) if wide[i] and len(ratios) < 14]
            for i in wanting:
                visited[i].append(drawn.lognormvariate(0, spreads[i]))
        hits += [interval.ratio_low <= 1 <= interval.ratio_high for interval in intervals]
    assert sum(hits) / len(hits) > 0.94


def test_a_run_shows_milliseconds_of_each_first_visit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [job(name, layer_norms=(False, True)) for name in ("naive", "batched")]
    no_memory, time_out = timed("naive", 0, status=Status.NO_MEMORY)[0], timed("naive", 0)[1]
    ran = [[no_memory, time_out, *timed("naive", 0.1234, layer_norm=True)], timed("batched", 2)]
    here = Revision(MagicMock(), {one: [Visit(rows)] for one, rows in zip(jobs, ran, strict=True)})
    monkeypatch.setattr(runner, "visits", lambda *_: product((1, 2), jobs))
    runner.run([here], jobs, time.time() + 125.4)
    printed = capsys.readouterr().out.splitlines()
    lines = [" ".join(line.split()) for line in printed if line.startswith("small")]
    assert lines == ["small float32 naive no memory time-out 123 123", "small float32 batched 2,000 2,000"]
    assert max(map(len, printed)) <= 80
