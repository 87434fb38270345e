"""Results differ where a change is larger than their intervals, and revisions are compared by visits in turns."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch

from impls import HyperLSTM
from suite import bench_compare
from suite.candidates import catalogue, ours
from suite.candidates.names import BASELINE
from suite.cases.examples import CPU, TINY
from suite.measure import choice
from suite.measure.job import Job
from suite.measure.server import Server
from suite.results.columns import Row
from suite.results.example_runs import benchmark, timed
from suite.results.statistics import FEWEST
from suite.results.status import Status
from suite.shared.devices import DeviceType
from suite.shared.files import ResultsError

OLD, TWIN, NAIVE = timed("batched", 0.1), timed(BASELINE, 0.05), timed("naive", 1)
NO_INTERVAL = timed("batched", 0.2, visits=1, ratio_low=None, ratio_high=None)


@pytest.mark.parametrize(
    ("old", "new", "arguments", "status", "output"),
    [
        (OLD, timed("batched", 0.1005), "", 0, "2 same"),
        (OLD, timed("batched", 0.123), "", 1, "+23.0%"),
        (OLD, timed("batched", 0.08), "", 0, "2 faster"),
        (OLD, timed("batched", 0.118), "", 0, "2 same"),  # as two runs of equal code
        (OLD, timed("batched", 0.13), "--threshold 31", 0, "2 slower"),
        (OLD, timed("batched", 0.13), "--threshold 29", 1, "2 regression"),
        (OLD, timed("batched", 0.1, peak=1_090_000), "", 0, "2 same"),
        (OLD, timed("batched", 0.1, peak=1_110_000), "", 1, "+11.0% regression"),
        (timed("batched", 0.1, peak=0), OLD, "", 0, "2 same"),
        # Intervals of 1 % and of 11 or 24 %.
        (OLD, timed("batched", 0.13, spread=0.11), "", 1, "2 regression"),
        (OLD, timed("batched", 0.13, spread=0.24), "", 0, "2 same"),
        # Rows without a figure or an interval, and the baseline.
        (TWIN, timed(BASELINE, 0.06), "", 0, "2 same"),
        (OLD, NO_INTERVAL, "", 0, "2 same"),
        (NO_INTERVAL, OLD, "", 0, "2 same"),
        (timed("batched", 0), OLD, "", 0, "2 same"),
        (OLD, timed("batched", 0, status=Status.NO_MEMORY), "", 1, "2 missing"),
        (OLD, timed("batched", 0), "", 0, "2 missing"),
        (OLD + NAIVE, OLD, "", 1, "2 missing"),
    ],
)
def test_compare_judges_each_row(
    old: list[Any], new: list[Any], arguments: str, status: int, output: str, tmp_path: Path, capsys: Any
) -> None:
    for name, rows in (("old", old), ("new", new)):
        benchmark(*rows).write(tmp_path / name)
    assert bench_compare.main([str(tmp_path / "old"), str(tmp_path / "new"), *arguments.split()]) == status
    assert output in " ".join(capsys.readouterr().out.split())


def test_results_of_two_machines_are_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark(*OLD).write(tmp_path / "old")
    benchmark(*OLD, processor="another", torch="1.0").write(tmp_path / "new")
    bench_compare.main([str(tmp_path / "old"), str(tmp_path / "new")])
    assert "processor, torch." in capsys.readouterr().out


def test_a_folder_without_rows_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"bench\.json"):
        bench_compare.main([str(tmp_path), str(tmp_path)])


@pytest.fixture
def compare_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run `--base REV` for five minutes, of the fastest implementation, where visits give these rows of both sides."""

    def compare(old: list[Row], new: list[Row], *arguments: str) -> int:
        servers, ends = dict[Path | None, MagicMock](), list[float]()

        def server(log: Path, scratch: Path, base: Path | None, device: DeviceType) -> MagicMock:
            servers[base] = MagicMock(base=base)
            return servers[base]

        def side(server: MagicMock) -> SimpleNamespace:
            return SimpleNamespace(server=server, summary=lambda: old if server.base else new)

        def run(sides: Sequence[SimpleNamespace], jobs: Sequence[Job], until: float) -> None:
            assert [side.server for side in sides] == [*servers.values()]
            assert {job.candidate for job in jobs} == {*choice.taken_by_auto(CPU, ["float32"])}
            for server in servers.values():  # what a first call compiles is compiled on both sides before
                assert [call.args[0].label for call in server.visit.call_args_list] == [job.label for job in jobs]
            ends.append(until)

        monkeypatch.setattr(bench_compare, "checkout", lambda revision, scratch: nullcontext(tmp_path / revision))
        monkeypatch.setattr(bench_compare, "time", SimpleNamespace(time=lambda: 1000.0))
        for name, value in (("Server", server), ("Revision", side), ("run", run)):
            monkeypatch.setattr(bench_compare, name, value)
        status = bench_compare.main(["--base", "REV", *arguments, "--results", str(tmp_path), "--device", "cpu"])
        assert list(servers) == [tmp_path / "REV", None]
        assert ends == [1000 + 5 * 60]
        return status

    return compare


def visits(*seconds: float, **changes: Any) -> list[Row]:
    few: dict[str, Any] = {} if len(seconds) >= FEWEST else {"ratio_low": None, "ratio_high": None}
    return timed("batched", 0.05, median_s_visits=seconds, **few, **changes)


#: States of the host, which hit both sides.
STATES = (1.0, 1.4, 1.4, 1.0, 1.1, 1.0)


@pytest.mark.parametrize(
    ("changes", "arguments", "status", "said"),
    [
        ((1.08, 1.07, 1.09, 1.08, 1.08, 1.07), "", 0, "2 slower"),
        ((1.25, 1.24, 1.26, 1.25, 1.25, 1.25), "", 1, "2 regression"),
        ((1.25, 1.24, 1.26, 1.25, 1.25, 1.25), "--threshold 30", 0, "2 slower"),
        ((0.92, 0.91, 0.93, 0.92, 0.92, 0.92), "", 0, "2 faster"),
        ((1.01, 0.99, 1.03, 0.98, 1.00, 0.97), "", 0, "2 same"),
        ((1.25, 1.24), "", 1, "--minutes"),
    ],
)
def test_a_revision_differs_where_neighbouring_visits_do(
    changes: Sequence[float], arguments: str, status: int, said: str, compare_base: Callable[..., int], capsys: Any
) -> None:
    old = STATES[: len(changes)]
    new = [state * change for state, change in zip(old, changes, strict=True)]
    assert compare_base(visits(*old), visits(*new), *arguments.split()) == status
    assert said in capsys.readouterr().out


def test_a_row_that_one_side_lacks_or_has_few_visits_of_is_compared(
    compare_base: Callable[..., int], capsys: Any
) -> None:
    of_old = [*visits(1, 1, 1), *visits(1, 1, 1, B=3)]
    assert compare_base(of_old, [*visits(1, 1, 1)[1:], *visits(1.25, 1.24, B=3)]) == 1
    assert "3 same, 1 missing." in capsys.readouterr().out


def test_of_many_rows_a_small_change_of_one_may_be_chance(compare_base: Callable[..., int], capsys: Any) -> None:
    """An interval covers more, the more rows are compared: else one of twenty would be called different."""
    old, small = visits(*[1.0] * 6), visits(1.035, 1.005, 1.045, 1.015, 1.025, 1.0)
    compare_base(old, small)
    assert "2 slower" in capsys.readouterr().out
    many = [(visits(*[1.0] * 6, T=T), visits(1.02, 0.99, 1.01, 0.98, 1.0, 1.01, T=T)) for T in range(4, 44)]
    compare_base(old + [row for before, _ in many for row in before], small + [row for _, now in many for row in now])
    assert "82 same" in capsys.readouterr().out


def test_a_revision_is_its_implementations_alone(tmp_path: Path) -> None:
    with bench_compare.checkout("HEAD", tmp_path) as folder:
        assert (folder / "impls" / "naive.py").exists()
    assert not (tmp_path / "worktree").exists()
    with pytest.raises(KeyboardInterrupt), bench_compare.checkout("HEAD", tmp_path):
        raise KeyboardInterrupt
    assert not (tmp_path / "worktree").exists()
    with pytest.raises(ResultsError, match=r"^--base: .*no-such"), bench_compare.checkout("no-such", tmp_path):
        pass


def test_of_a_revision_only_its_module_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "impls").mkdir()
    (tmp_path / "impls" / "__init__.py").write_text("from .theirs import HyperLSTM")
    (tmp_path / "impls" / "theirs.py").write_text("from impls import HyperLSTM as ours\nclass HyperLSTM(ours): pass")
    monkeypatch.setenv(ours.BASE, str(tmp_path))
    package = ours.timed_package.__wrapped__()
    monkeypatch.setattr(ours, "timed_package", lambda: package)
    model = catalogue.find("batched").build(TINY, torch.float32, CPU)
    assert (type(model).__module__, type(model).__bases__) == ("impls_of_base.theirs", (HyperLSTM,))


@pytest.mark.parametrize("device", DeviceType)
def test_a_revision_that_cannot_be_imported_ends_the_run(device: DeviceType, tmp_path: Path) -> None:
    (tmp_path / "impls").mkdir()
    (tmp_path / "impls" / "__init__.py").write_text("raise ImportError('of theirs')")
    log = tmp_path / "log.txt"
    with Server(log, tmp_path, tmp_path, device) as server, pytest.raises(SystemExit, match="ImportError: of theirs"):
        server.wait()


@pytest.mark.thorough("a whole benchmark")
def test_a_revision_is_timed_against_this_one(tmp_path: Path, capsys: Any) -> None:
    chosen = ["--workload", "small", "--implementation", "batched", "--minutes", "0.3", "--device", "cpu"]
    assert bench_compare.main(["--base", "HEAD", *chosen, "--results", str(tmp_path)]) == 0
    assert "4 " in capsys.readouterr().out
