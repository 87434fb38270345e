"""The headline has what a user gains, and only figures with an interval; else a sentence says why there is none."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from suite.candidates.names import BASELINE, ORDER, PADDED
from suite.pages import bench
from suite.pages.headline import about_files, headline, states
from suite.pages.ranking import ranked
from suite.results.columns import Row
from suite.results.example_runs import LSTM, NORM, OURS, at, benchmark, timed
from suite.results.status import Status

#: The implementation and the alternative that decide are not the first ones; a hand-written gradient is none.
SEVERAL = [*timed("batched", 0.3), *OURS, *timed("compiled", 0.5), *timed("jax", 0.25), *timed("deferred", 0.2)]
PLAIN = [*timed("batched_cpu", 0.06), *timed("labml", 0.3), *timed("row_scaled", 0.4), *timed("batched", 0.12)]
FEW: dict[str, Any] = {"ratio_low": None, "ratio_high": None}
PACKED_OURS = [*timed("batched_cpu", 0.02), *timed(PADDED, 0.025), *LSTM]
MEDIUM = ["medium", "batched_cpu", "2.00 (1.98-2.02)", BASELINE]


def told(sentence: str) -> list[str]:
    """Return the workload of a line of the headline, the candidates and the figures that it names."""
    place, _, rest = sentence.partition("): ")
    words = re.findall(r"\d[\d.]* \([\d.-]+\)|[\w.]*\w", rest)
    return [place.split(" (")[0], *(word for word in words if word[0].isdigit() or word in ORDER)]


@pytest.mark.parametrize(
    ("rows", "lines"),
    [
        ([*timed("batched_cpu", 0.05), *at("medium", OURS)], [MEDIUM]),
        (
            [*at("medium", SEVERAL), *at("char-ptb", PLAIN)],
            [
                [*MEDIUM, "2.50 (2.46-2.54)", "jax"],
                ["char-ptb", "batched_cpu", "1.20 (1.19-1.21)", BASELINE, "2.00 (1.97-2.03)", "batched"],
            ],
        ),
        (at("medium", [*OURS, *timed("jax", 0.2), *timed("labml", 0)]), [[*MEDIUM, "2.00 (1.97-2.03)", "jax"]]),
        (at("medium", [*timed("batched_cpu", 0.02, dtype="bfloat16"), *NORM, *OURS]), [MEDIUM]),
        ([*OURS, *NORM], [["small", *MEDIUM[1:]], ["small", "batched_cpu", "4.00 (3.96-4.04)", BASELINE]]),
        # Beside an alternative without an interval, or from a busy machine, there is no speedup.
        (at("medium", [*OURS, *timed("jax", 0.2, **FEW), *timed("batched", 0.3)]), [[*MEDIUM, "jax"]]),
        (at("medium", [*OURS, *timed("jax", 0.2, busy=0.4), *timed("batched", 0.3)]), [[*MEDIUM, "jax"]]),
        (at("medium-ragged", PACKED_OURS), [["medium-ragged", "batched_cpu", "0.80 (0.79-0.81)", BASELINE]]),
        (at("medium-ragged", [*OURS, *timed(PADDED, 0.06), *LSTM]), [["medium-ragged", *MEDIUM[1:]]]),
        ([*at("medium", timed("batched_cpu", 0.1, **FEW)), *at("char-ptb", OURS)], [["char-ptb", *MEDIUM[1:]]]),
        ([*at("medium", timed("batched_cpu", 0.1, busy=0.4)), *at("char-ptb", OURS)], [["char-ptb", *MEDIUM[1:]]]),
    ],
    ids=[
        *("quoted", "best-alternative", "one-alternative", "float32-without-norm", "others"),
        *("alternative-of-few-visits", "busy-alternative", "padded-is-faster", "padded-is-slower"),
        *("few-visits", "busy"),
    ],
)  # fmt: skip
def test_the_headline(rows: list[Row], lines: list[list[str]]) -> None:
    run = benchmark(*rows)
    sentences = headline(ranked(run.rows), run.device)
    assert [told(each) for each in sentences] == lines
    assert all(f"**{each}**" in bench.page(run) for each in sentences)


@pytest.mark.parametrize(
    ("device", "dtypes", "dtype"),
    [
        ("cuda", ["float32", "bfloat16"], "bfloat16"),
        ("cuda", ["float32"], "float32"),
        ("cpu", ["bfloat16", "float32"], "float32"),
    ],
)
def test_the_dtype_of_headline_and_plot_is_that_which_people_train_in(
    device: str, dtypes: Sequence[str], dtype: str
) -> None:
    rows = [row for each in dtypes for row in at("medium", timed("batched_cpu", 0.1, dtype=each))]
    run = benchmark(*OURS, *rows, device=device)
    (line,) = headline(ranked(run.rows), run.device)
    assert line.startswith(f"medium (T 3 of 50, B 2 of 32, {dtype})")
    assert re.search(rf"^!\[.*\b{dtype}\b.*\]\({bench.TRAINING}\)$", bench.page(run), re.MULTILINE)


@pytest.mark.parametrize(
    "rows",
    [timed("jax", 0.1), timed("batched", 0.1, **FEW), timed("batched", 0.1, busy=0.4)],
    ids=["none", "few-visits", "busy"],
)
def test_without_a_headline_a_page_says_why(rows: list[Row]) -> None:
    run = benchmark(*rows)
    (sentence,) = headline(ranked(run.rows), run.device)
    assert not re.search(r"\d\.\d", sentence)
    assert f"**{sentence}**" in bench.page(run)


def test_a_page_shows_the_name_of_a_workload_as_it_is() -> None:
    assert r"**\*mine\* (T 3" in bench.page(benchmark(*[row | {"workload": "*mine*"} for row in OURS]))


def test_a_machine_on_which_nothing_ran_has_pages() -> None:
    without: dict[str, Any] = {"status": Status.NOT_RUN, "detail": "It is not installed."}
    run = benchmark(*timed("jax", 0, **without), *timed("labml", 0, **without))
    assert bench.plots(run) == {}
    for name in ("jax", "labml"):
        assert len(re.findall(rf"`{name}` .*: It is not installed\.", bench.page(run))) == 1


def test_a_machine_of_two_states_is_said_once_a_workload() -> None:
    changing = [row | {"baseline_s_visits": (0.02, 0.05, 0.021, 0.052, 0.02)} for row in OURS]
    run = benchmark(*changing, *LSTM)
    (said,) = states(ranked(run.rows))
    assert f"**{said}**" in bench.page(run)
    assert re.findall(r"\d[\d.]*", said.partition("): ")[2]) == ["20.0", "51.0", "3", "2"]


def test_each_row_of_a_file_has_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"batched": Path("batched.py"), "naive": Path("naive.py")}
    monkeypatch.setattr("suite.candidates.submission.files", lambda: files)
    rows = [*timed("batched", 0.2), *timed("deferred", 0.1), *timed("row_scaled", 0.4), *timed("naive", 0)]
    lines = about_files(ranked(benchmark(*rows, *timed("batched", 0.3, layer_norm=True)).rows))
    parts = re.compile(r"\d\.\d\d|[\w.]*LSTM|batched|deferred|naive|small|norm|time-out: 9 s")
    assert [*map(parts.findall, lines)] == [
        ["batched", "small", "4.00", BASELINE, "2.00", "deferred"],
        ["naive", "small", "time-out: 9 s"],
        ["batched", "small", "norm", "6.00", BASELINE],
    ]
