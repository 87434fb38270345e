"""Passes visit every job until the time is up, in an order drawn for each, and keep all rows."""

from types import SimpleNamespace

import pytest

from suite.measure import runner
from suite.measure.examples import FakeServer, job
from suite.measure.job import Job
from suite.measure.runner import Side, passes
from suite.shared.process import Row


class Clock:
    """A clock that visits move."""

    now = 0.0

    def server(self, seconds: dict[str, float]) -> FakeServer:
        """Return a server whose visits take some seconds, by candidate."""

        def measure(one: Job, rows: list[Row], first: bool) -> str:
            self.now += seconds[one.candidate]
            rows += [row | {"median_s": 1.0, "ratio": 1.0} for row in one.rows("ok")]
            return "ok"

        return FakeServer(measure)

    def run(
        self, seconds: dict[str, float], limit: float, visits: dict[Job, list[list[Row]]] | None = None
    ) -> tuple[FakeServer, Side]:
        side = Side(server := self.server(seconds), visits or {})
        list(passes([side], [job(name) for name in seconds], self.now + limit))
        return server, side


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock of a runner that draws nothing."""
    result = Clock()
    monkeypatch.setattr(runner, "time", SimpleNamespace(time=lambda: result.now))
    monkeypatch.setattr(runner, "random", SimpleNamespace(random=lambda: 0.1, shuffle=lambda order: None))
    return result


def test_each_pass_visits_every_job_with_a_new_server(clock: Clock) -> None:
    server, side = clock.run({"batched_cpu": 1.0, "batched": 1.0, "deferred": 1.0}, 12.0)
    assert [server.count(name) for name in ("batched_cpu", "batched", "deferred")] == [4, 4, 4]
    assert server.starts == 5  # the last for a pass without visits
    assert [name for name, first in server.visits if first].count("batched") == 1
    assert {row["visits"] for row in side.summary()} == {4}


@pytest.mark.parametrize(("status", "again"), [("out of memory", False), ("failed: killed", True), ("timed out", True)])
def test_a_visit_after_one_without_figures_is_a_first_one(status: str, again: bool, clock: Clock) -> None:
    server, _ = clock.run({"batched": 1.0}, 0.0, {job(): [job().rows(status)]})
    assert server.visits == [("batched", again)]


@pytest.mark.parametrize(
    ("limit", "visits"), [(0.0, (1, 1)), (5.0, (2, 1)), (7.9, (1, 2)), (8.0, (2, 2)), (9.0, (3, 2))]
)
def test_the_first_pass_ends_and_others_fill_the_time(limit: float, visits: tuple[int, int], clock: Clock) -> None:
    server, _ = clock.run({"deferred": 3.0, "batched": 1.0}, limit)  # the long one comes first
    assert (server.count("batched"), server.count("deferred")) == visits


@pytest.mark.parametrize("flip", [False, True])
def test_each_pass_draws_the_order_of_jobs_and_sides(flip: bool, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = SimpleNamespace(shuffle=list[Job].reverse, random=lambda: 0.5 if flip else 0.49)
    monkeypatch.setattr(runner, "random", chance)
    order = list[tuple[int, str]]()

    def side(number: int) -> Side:
        def measure(one: Job, rows: list[Row], first: bool) -> str:
            order.append((number, one.candidate))
            clock.now += 1.0
            return "ok"

        return Side(FakeServer(measure))

    list(passes([side(0), side(1)], [job(name) for name in ("naive", "batched", "deferred")], 12.0))
    sides = (1, 0) if flip else (0, 1)
    assert order == [(number, name) for name in ("deferred", "batched", "naive") for number in sides] * 2
