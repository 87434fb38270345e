"""Files that would be timed as faster than they are: each is refused, or timed as what it does."""

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from suite.candidates import submission
from suite.candidates.names import BASELINE
from suite.cases.case import Case
from suite.measure.believed import believed
from suite.measure.fakes import job
from suite.measure.guard import guard
from suite.measure.job import RefusedError
from suite.measure.runner import Revision, Visit
from suite.measure.server import Server, new_log
from suite.results.status import Ended, Status

FOLDER = Path(__file__).with_name("cheats")
#: A cheat that is not refused takes as long as the honest file, up to NOISE, in one of VISITS visits.
NOISE, VISITS = 1.5, 3
#: Visits in which a cheat must be refused: each looks at one call, drawn at random, so one that replays half of its
#: calls escapes them once in 4,000 times.
LOOKS = 12
CASE = Case(T=20, B=4, I=16, H=24, S=8, Z=2)
WRONG = r".* \S*\d"  # a tensor, its error, and what is allowed
#: What the reason of each refusal names; None for those that are timed, since no input comes twice.
REFUSED = {
    "finishes_later": ".*",
    "keeps_the_cores_busy": None,  # or by the baseline beside it
    "packs_once": WRONG,
    "patches_the_clock": r"cheat\.py .*time\.perf_counter.*",
    "replays_by_pointer": WRONG,
    "replays_gradients": None,
    "sets_one_thread": r"cheat\.py .*torch\.get_num_threads\(\) .*\d.*",
}
#: Makes a visit to a file, or to the baseline beside it.
Visited = Callable[..., Visit]


@pytest.fixture(scope="module")
def visited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visited]:
    folder = tmp_path_factory.mktemp("cheats")
    file = folder / "cheat.py"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(submission.VARIABLE, submission.written([file]))
        with Server(new_log(folder / "log.txt"), folder) as server:

            def visit(name: str, candidate: str = file.stem) -> Visit:
                shutil.copy(FOLDER / f"{name}.py", file)
                return Visit(server.visit(job(candidate, case=CASE)))

            yield visit


@pytest.fixture(scope="module")
def honest(visited: Visited) -> list[float]:
    """Smallest ratios of forward and of training of some visits to the honest file."""
    visits = [visited("honest") for _ in range(VISITS)]
    assert {row["status"] for visit in visits for row in visit.rows} == {Status.OK}
    return [min(ratios) for ratios in zip(*map(ratios_of, visits), strict=True)]


def ratios_of(visit: Visit) -> list[float]:
    return [row["ratio"] or 0.0 for row in visit.rows]


@pytest.mark.parametrize("name", [name for name in REFUSED if name != "keeps_the_cores_busy"])
def test_a_cheat_is_refused_or_timed_as_what_it_does(name: str, visited: Visited, honest: list[float]) -> None:
    reason = REFUSED[name]
    for _ in range(VISITS if reason is None else LOOKS):
        visit = visited(name)
        ends = {Ended.of(row) for row in visit.rows}
        if reason is not None and visit.refused:
            assert all(ended.refused and re.fullmatch(reason, ended.detail) for ended in ends)
            return
        if reason is None:
            assert ends == {Ended()}
            if all(mine >= theirs / NOISE for mine, theirs in zip(ratios_of(visit), honest, strict=True)):
                return
    pytest.fail(f"{name}: expected a refusal or {honest}, got {ends} and {ratios_of(visit)}")


def test_a_file_does_not_gain_by_keeping_the_cores_busy(visited: Visited, honest: list[float]) -> None:
    file, alone = job("cheat", case=CASE), job(BASELINE, case=CASE)
    here = Revision(object.__new__(Server))
    here.visits[file] = [visited("keeps_the_cores_busy") for _ in range(VISITS)]
    here.visits[alone] = [visited("honest", BASELINE) for _ in range(VISITS)]
    rows = [row for row in believed(here.summary(), {}) if row["implementation"] == "cheat"]
    for row, ratio in zip(rows, honest, strict=True):
        ended = Ended.of(row)
        slows = ended.refused and BASELINE in ended.detail
        assert slows or row["ratio"] >= ratio / NOISE


@pytest.mark.usefixtures("_withdrawn")
def test_the_file_that_replaces_the_clock_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", time.perf_counter)  # and sets it back
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text("def run(p, inputs): ...")
    two.write_text("import time\ntime.perf_counter = lambda: 0.0\ndef run(p, inputs): ...")
    with pytest.raises(RefusedError, match=r"^two\.py .*time\.perf_counter"):
        submission.loaded([one, two], guard())
