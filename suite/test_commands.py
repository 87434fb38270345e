"""Commands read paths, devices and numbers as a user means them, and their results outlive Ctrl-C."""

import argparse
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from suite import bench, bench_compare, report, run_tests
from suite.cases.examples import CPU
from suite.measure import choice
from suite.results.run import folder_of, read
from suite.results.status import Ended, Status
from suite.shared import files
from suite.shared.files import ROOT
from suite.verify import conclusion
from suite.verify.options import pytest_configure


def configuration(*arguments: str, testpaths: Sequence[str] = ("suite/checks",)) -> pytest.Config:
    """That of pytest for arguments of `nox -s verify`."""
    options = run_tests.parser().parse_args(["--testpaths", *testpaths, "--", *arguments])
    return pytest.Config.fromdictargs({}, run_tests.arguments_of(options))


def verify_options(arguments: Sequence[str]) -> argparse.Namespace:
    """Options of `nox -s verify`."""
    return configuration(*arguments).option


def words(value: object) -> str | None:
    """The part of a test's id that is arguments of a command; others are as pytest writes them."""
    return " ".join(map(str, value)) if isinstance(value, list) else None


HOME = Path("/home/me")


@pytest.mark.parametrize(
    ("parse", "arguments", "option", "expected"),
    [
        (bench.parser().parse_args, ["--impl=a b:ü/mein LSTM.py"], "impl", [HOME / "a b:ü/mein LSTM.py"]),
        (bench_compare.parser().parse_args, ["old", "new"], "old", HOME / "old"),
        (bench_compare.parser().parse_args, ["old", "./new"], "new", HOME / "new"),
        (report.parser().parse_args, ["--results", "out"], "results", HOME / "out"),
        (verify_options, ["--results=out"], "results", HOME / "out"),
        (verify_options, ["--impl", "a.py", "b.py", "--impl=c.py"], "impl", [HOME / f"{name}.py" for name in "abc"]),
    ],
    ids=words,
)
def test_paths_start_in_the_folder_of_the_user(
    parse: Callable[[list[str]], argparse.Namespace],
    arguments: list[str],
    option: str,
    expected: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(files.INVOKED_FROM, str(HOME))
    assert getattr(parse(arguments), option) == expected


def test_paths_without_nox_start_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link keeps its name, which is that of an implementation, and a home that does not exist is a folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(HOME))
    monkeypatch.setenv(files.INVOKED_FROM, "")
    assert files.path_of("out") == tmp_path / "out"
    monkeypatch.delenv(files.INVOKED_FROM)
    assert files.path_of("out") == tmp_path / "out"
    assert files.path_of("/out/../out") == Path("/out")
    assert files.path_of("~/out") == HOME / "out"
    assert files.path_of("~no-such-user/out") == tmp_path / "~no-such-user/out"
    (tmp_path / "mine.py").symlink_to(tmp_path / "version2.py")
    (tmp_path / "version2.py").touch()
    assert files.path_of("mine.py") == tmp_path / "mine.py"
    monkeypatch.chdir(ROOT)
    assert report.parser().parse_args(["--results", "results"]).results == files.RESULTS  # and README.md is written


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        (bench.main, ["--device", "meta"], "--device: expected .* got 'meta'"),
        (bench.main, ["--device", "cuda:x"], "--device: expected .* got 'cuda:x'"),
        (bench.main, ["--minutes=-1"], "argument --minutes: "),
        (bench.main, ["--minutes=nan"], "argument --minutes: "),
        (bench_compare.main, ["--device", "cpu", "old"], "expected OLD .*--base"),
        (bench_compare.main, ["--device", "cpu", "old", "--base", "REV"], "expected OLD .*--base"),
    ],
    ids=words,
)
def test_a_wrong_argument_is_an_error_of_usage(
    command: Callable[[list[str]], int], arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        command(arguments)
    assert re.search(said, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Status.OK, 0),
        (Status.NO_MEMORY, 0),
        (Status.FAILED, 1),
        (Status.REFUSED, 1),
        (Status.TIME_OUT, 1),
    ],
)
def test_a_benchmark_fails_where_a_row_went_wrong(
    outcome: Status, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What runs out of memory is a result."""

    def measure(jobs: Sequence[Any], *_: Any) -> tuple[list[Any], list[Any], bool]:
        rows = [row for job in jobs for row in job.rows(Ended(outcome) if job.candidate == "batched" else Ended())]
        return rows, [], True

    monkeypatch.setattr(bench, "measure", measure)
    chosen = ["--implementation", "batched", "deferred", "--workload", "small", "--dtype", "float32"]
    assert bench.main(["--device", "cpu", "--results", str(tmp_path), *chosen]) == status
    assert bool(re.search(r"\b4 of 10\b", capsys.readouterr().out)) == bool(status)


@pytest.mark.parametrize("minutes", [0.0, 0.5])
def test_few_minutes_are_not_the_default(minutes: float, monkeypatch: pytest.MonkeyPatch) -> None:
    options = bench.parser().parse_args(["--device", "cpu", "--minutes", str(minutes)])
    assert choice.minutes(options) == minutes
    monkeypatch.setattr("suite.candidates.submission.load_all", lambda *_: [])
    options.impl, options.results = [Path("mine.py")], Path("out")
    assert choice.with_submitted(options).minutes == minutes


def test_files_of_pytest_start_in_the_folder_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(files.INVOKED_FROM, str(tmp_path))
    config = configuration("--device", "cpu", "--junit-xml", "junit.xml")
    pytest_configure(config)
    assert (config.option.xmlpath, config.option.log_file) == (str(tmp_path / "junit.xml"), None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mine.py"], "mine.py: expected .* suite/.* --impl"),
        (["suite/checks/test_no.py::test_a"], "suite/checks/test_no.py: expected "),
        (["--device", "cuda:99"], "--device: .* cuda:99"),
        (["--device", "cpu", "--impl", "mine.py"], "what is wrong with it"),
    ],
    ids=words,
)
def test_verify_refuses_what_it_cannot_check(arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise SystemExit("what is wrong with it")

    monkeypatch.setattr("suite.candidates.submission.load_all", refuse)
    with pytest.raises(pytest.UsageError, match=f"^{said}"):
        pytest_configure(configuration(*arguments))


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [([], files.RESULTS), (["--size", "H8"], None), (["--size", "H8", "--results", "/out"], Path("/out"))],
    ids=words,
)
def test_sizes_that_are_named_are_no_rows_of_the_project(arguments: list[str], folder: Path | None) -> None:
    config = configuration("--device", "cpu", *arguments)
    pytest_configure(config)
    assert config.option.results == folder


SMALL_SIZES = "suite/checks/equality/test_equality.py::test_small_sizes"


def test_a_verification_whose_results_are_not_written_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    chosen = [SMALL_SIZES, "-k", "row_scaled and float64", "-n0", "--results", str(tmp_path / "file")]
    command = [sys.executable, "-m", "suite.run_tests", "--", "--device", "cpu", *chosen]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert "verify.csv" in ended.stdout + ended.stderr
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR


@pytest.mark.parametrize(
    ("arguments", "status", "whole"),
    [
        ([], pytest.ExitCode.OK, True),
        ([], pytest.ExitCode.TESTS_FAILED, True),
        ([], pytest.ExitCode.INTERRUPTED, False),
        (["-k", "naive"], pytest.ExitCode.OK, False),
        (["-m", "triton"], pytest.ExitCode.OK, False),
        (["-x"], pytest.ExitCode.TESTS_FAILED, False),
        (["--lf"], pytest.ExitCode.OK, False),
        (["--stepwise"], pytest.ExitCode.OK, False),
        (["--ignore-glob=*/test_equality.py"], pytest.ExitCode.OK, False),
        (["-o", "python_files=test_equality.py"], pytest.ExitCode.OK, False),
        (["-p", "no:suite.checks.recording"], pytest.ExitCode.OK, False),
        (["--size", "H8"], pytest.ExitCode.OK, False),
        (["-v", "--tb=short", "-n2", "--thorough", "--results", "out"], pytest.ExitCode.OK, True),
        (["suite/checks/equality"], pytest.ExitCode.OK, False),
        (["--impl", "a.py", "--results", str(files.RESULTS)], pytest.ExitCode.OK, False),
        (["--impl", "a.py", "--results", "a-results"], pytest.ExitCode.OK, True),
    ],
    ids=words,
)
def test_a_verification_that_makes_all_checks_is_whole(arguments: list[str], status: int, whole: bool) -> None:
    session: Any = SimpleNamespace(config=configuration(*arguments))
    assert conclusion.is_whole(session, status) is whole


def test_a_verification_of_more_than_the_checks_is_not_whole() -> None:
    session: Any = SimpleNamespace(config=configuration(testpaths=["suite/checks", "suite/results"]))
    assert not conclusion.is_whole(session, pytest.ExitCode.OK)


#: The session *verify* in the environment of this test, where nox itself would make another.
NOXFILE = """
import os, sys
from pathlib import Path
os.chdir({root!r})
sys.path.insert(0, {root!r})
import nox, noxfile
noxfile.bin_of = lambda session: Path(sys.executable).parent

@nox.session(venv_backend="none")
def here(session):
    with session.chdir({root!r}):
        noxfile.verify(session)
"""


def test_rows_and_conclusion_outlive_an_interruption(tmp_path: Path) -> None:
    chosen = [SMALL_SIZES, "-k", "row_scaled or batched", "-n", "1", "-vv"]
    (tmp_path / "noxfile.py").write_text(NOXFILE.format(root=str(ROOT)))
    command = [sys.executable, "-m", "nox", "-s", "here", "--", *chosen, "--results", "out"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    environment.pop("PYTEST_XDIST_WORKER", None)
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, text=True, start_new_session=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # A shell has what it starts in the background ignore the signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        passed = (line for line in process.stdout if " PASSED " in line)
        for _ in range(2):
            next(passed)
        os.killpg(process.pid, signal.SIGINT)
        output = process.stdout.read()
    assert process.returncode != 0
    (folder,) = (folder_of(tmp_path / "out", CPU) / "raw").iterdir()
    run = read(folder, "verify")
    assert run is not None
    rows = run.rows
    assert 2 <= len(rows) < 30
    assert set(rows["verdict"]) == {"pass"}
    assert re.search(r"^row_scaled .* pass *$", output, re.MULTILINE)
    assert str(folder) in output
