"""Tables of the benchmark have ratios with intervals, and say why there is no figure or reason to doubt one."""

import re
from typing import Any

import pandas as pd
import pytest

from suite.candidates.names import BASELINE, PADDED
from suite.cases.workloads import Pass
from suite.pages import bench, text
from suite.pages.bench import terminal_table
from suite.pages.ranking import places, ranked
from suite.results.columns import Row
from suite.results.example_runs import LSTM, NORM, OURS, at, benchmark, timed
from suite.results.status import Status


def page(rows: list[Row]) -> str:
    return bench.page(benchmark(*rows))


def compared(rows: list[Row]) -> pd.DataFrame:
    return ranked(benchmark(*rows).rows)


def times(rows: list[Row]) -> dict[str, dict[str, str]]:
    """Return the lines of the last place, by implementation."""
    *_, place = places(compared(rows))
    table = bench.time_table(place)
    return {line["implementation"]: line for line in table.to_dict("records")}


def fastest(rows: list[Row]) -> list[dict[str, str]]:
    lines: list[dict[str, str]] = bench.fastest_table(compared(rows)).to_dict("records")
    return lines


def test_tables_have_ratios_or_say_why_not() -> None:
    rows = [*timed("naive", 0), *timed("batched", 0.1, 3_000_000), *timed(BASELINE, 0.05, 2_000_000)]
    rows += [
        *timed("row_scaled", 0.2, 4_000_000),
        *timed("labml", 0.6, 1_000_000, True),
        *timed("batched", 0.3, 1, True),
    ]
    without = times([row for row in rows if not row["layer_norm"]])
    assert without["naive"]["train, ms"] == without["naive"]["forward, ms"] == "time-out"
    assert {*without["naive"].values()} == {"naive", "time-out", "-"}
    batched = {"train, ms": "100", "train / LSTM": "2.00 (1.98-2.02)", "verdict": "slower", "train, MB": "3.00"}
    batched |= {"MB / LSTM": "1.50", "of roofline": "25% compute"}
    assert batched.items() <= without["batched"].items()
    with_norm = times(rows)
    assert with_norm["labml"]["train / LSTM"] == "12.0 (11.9-12.1)"
    assert with_norm["labml"]["MB / LSTM"] == "0.50"
    assert with_norm[BASELINE]["train / LSTM"] == "1.00 (0.99-1.01)"
    first, second = fastest(rows)
    assert (first["layer norm"], first["fastest"], first["next best"]) == ("off", "batched", "2.00 row_scaled")
    assert (second["layer norm"], second["fastest"], second["next best"]) == ("on", "batched", "2.00 labml")
    text = page(rows)
    assert text.index("| naive | time-out") < text.index("\n| batched | 100 |")
    assert re.search(r"T 3 of 100, B 2 of 8\. .*1\.0% \(forward\), 1\.0% \(train\)", text)
    assert re.search("^- `naive` .*small: time-out: 9 s", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [  # the interval, that of the baseline, and the verdict: either side of the noise floor of 1.1
        ((1.2, 1.11, 1.3), (1.0, 0.95, 1.1), "slower"),
        ((1.2, 1.09, 1.3), (1.0, 0.95, 1.1), "undecided"),
        ((0.8, 0.7, 0.905), (1.0, 0.95, 1.1), "faster"),
        ((0.8, 0.7, 0.915), (1.0, 0.95, 1.1), "undecided"),
        ((0.8, 0.7, 0.905), (1.0, 0.9, 1.01), "undecided"),
        ((0.8, None, None), (1.0, 0.95, 1.1), "few visits"),
        ((0.8, 0.7, 0.9), None, "no noise floor"),
        ((0.8, 0.7, 0.9), (1.0, None, None), "no noise floor"),
    ],
)  # fmt: skip
def test_a_verdict_takes_an_interval_beyond_the_noise(
    first: tuple[Any, ...], second: tuple[Any, ...] | None, words: str
) -> None:
    def ends(values: tuple[Any, ...]) -> dict[str, Any]:
        return dict(zip(("ratio", "ratio_low", "ratio_high"), values, strict=True))

    rows = timed("batched", 0.1, **ends(first)) + (timed(BASELINE, 0.05, **ends(second)) if second else [])
    rows += at("medium", timed(BASELINE, 0.05, spread=0))  # the noise floor of another workload
    table = compared(rows)
    assert set(table["verdict"][table["implementation"] == "batched"]) == {words}


@pytest.mark.parametrize(("B", "decisive"), [(1, "forward"), (2, "train")])
def test_one_sequence_is_judged_by_its_forward_pass(B: int, decisive: str) -> None:
    slow, fast = timed("batched", 0.1, B=B), timed("batched", 0.01, B=B)
    rows = [slow[0], fast[1]] if decisive == Pass.FORWARD else [fast[0], slow[1]]
    rows += timed(BASELINE, 0.05, B=B)
    assert times(rows)["batched"]["verdict"] == "slower"
    (place,) = places(compared(rows))
    for columns in ([*bench.time_table(place)], [*terminal_table(place)]):
        assert columns[columns.index("verdict") - 1] == f"{decisive} / LSTM", "it is beside the figure that it judges"


@pytest.mark.parametrize(("B", "roofline"), [(1, "25% compute"), (2, "50% memory")])
def test_memory_is_that_of_training_and_the_roofline_that_of_the_pass_that_counts(B: int, roofline: str) -> None:
    rows = timed("batched", 0.1, 1_000_000, B=B) + timed(BASELINE, 0.05, 1_000_000, B=B)
    for row, peak in ((rows[1], 3_000_000), (rows[3], 2_000_000)):
        row |= {"peak_bytes": peak, "share": 0.5, "bound": "memory"}
    line = times(rows)["batched"]
    assert [line[name] for name in ("train, MB", "MB / LSTM", "of roofline")] == ["3.00", "1.50", roofline]
    assert fastest(rows)[0]["MB / LSTM"] == "1.50"


def test_where_all_have_layer_norm_the_baseline_is_beside_them_alone() -> None:
    rows = [*timed("batched_cpu", 0.1, layer_norm=True), *LSTM]
    assert {*compared(rows)["layer_norm"]} == {True}
    assert {*compared([*rows, *OURS])["layer_norm"]} == {True, False}
    assert {*compared(LSTM)["layer_norm"]} == {False}
    assert "layer norm off" not in page(rows)


def test_a_workload_without_training_is_judged_by_its_forward_pass() -> None:
    line = times([row for row in OURS + LSTM if row["pass"] == Pass.FORWARD])["batched_cpu"]
    assert (line["verdict"], line["forward, MB"], line["MB / LSTM"]) == ("slower", "1.00", "1.00")


def test_packed_rows_are_compared_with_the_padded_baseline_where_that_is_faster() -> None:
    norm = timed("batched_cpu", 0.03, layer_norm=True)
    rows = at("medium-ragged", [*timed("batched_cpu", 0.02), *timed(PADDED, 0.025), *LSTM, *norm])
    line = times(rows)["batched_cpu"]
    assert (line["train / LSTM"], line["verdict"], line["/ padded"]) == ("0.60 (0.59-0.61)", "faster", "1.20")
    assert fastest(rows)[0]["/ LSTM"] == "0.40 (0.40-0.40), padded 0.80"
    slower = at("medium-ragged", [*timed("batched_cpu", 0.02), *timed(PADDED, 0.06), *LSTM])
    assert "/ padded" not in times(slower)["batched_cpu"]


def test_the_next_best_is_the_alternative_with_the_smallest_ratio() -> None:
    """And not with the shortest time: the clock was half as fast while `jax` ran, for the baseline beside it too."""
    rows = [*timed("batched", 0.3), *timed("jax", 0.4, ratio=4.0, baseline_s=0.1), *timed("labml", 0.35, ratio=7.0)]
    assert fastest(OURS + rows + LSTM)[0]["next best"] == "2.00 jax"
    assert "next best" not in fastest(OURS + LSTM)[0]


def test_rows_from_a_busy_machine_are_marked() -> None:
    assert times(timed("batched", 0.1, busy=0.42) + LSTM)["batched"]["busy"] == "42%"
    assert "busy" not in times(timed("batched", 0.1) + LSTM)["batched"]


WITHOUT = [
    *timed("naive", 0.1, status=Status.FAILED, detail=""),
    *at("char-ptb", OURS),
    *at("stream", timed("batched_cpu", 0)),
]
FAILED = r"\n\n- `naive` .*small: failed\n- `batched_cpu` .*stream: time-out: 9 s"
PACKED = at("medium", timed("batched", 0.1), tokens=5, whole_T=None, whole_B=None)
TOO_LARGE = [*OURS, *at("medium", timed("naive", 0, status=Status.TOO_LARGE, detail="naive needs 9 MB."))]
ABSENT = timed("batched", 0.1) + timed("jax", 0, status=Status.NOT_RUN, detail="jax is not installed.")


@pytest.mark.parametrize(
    ("rows", "shown", "hidden"),
    [  # what is found once on the page, and what is not
        (
            WITHOUT,
            [r"\*\*char-ptb \(", r"\n\| batched_cpu \| 100 \| 2\.00 \(1\.98-2\.02\) \|", FAILED],
            [r"\*\*stream \(", r"\| small, T"],
        ),
        (ABSENT + at("medium", ABSENT), ["`jax` .*: jax is not installed"], [r"\| jax \|", "- `jax`"]),
        (TOO_LARGE, ["naive needs 9 MB", "- `naive` .*medium: too large: naive needs 9 MB"], []),
        (timed("naive", 0), [r"\| naive \| time-out \|"], [r"\bnan\b"]),
        (timed("batched", 0.1) + PACKED, [r"\b5 .* 6\."], [r": \."]),
        (NORM + at("medium", LSTM), ["\n## medium"], ["\n## medium, T 3, B 2, float32, layer norm on"]),
    ],
    ids=["failed", "cannot-run", "too-large", "no-figures", "packed", "norm-elsewhere"],
)  # fmt: skip
def test_a_page_shows_and_hides(rows: list[Row], shown: list[str], hidden: list[str]) -> None:
    text = page(rows)
    assert [len(re.findall(part, text)) for part in shown] == [1] * len(shown)
    assert [part for part in hidden if re.search(part, text)] == []
    assert all(len(terminal_table(place)) for place in places(compared(rows)))


def test_the_hardware_and_where_a_run_was_made_are_shown() -> None:
    rates = {"dtype": "float32", "multiply_adds_per_s": 7e10, "bytes_per_s": 5e10, "side": 2048, "product": "torch.mm"}
    run = benchmark(*OURS, hardware=[rates])
    shown = bench.page(run)
    assert "| float32 | 140 | torch.mm | 2,048 | 50.0 |" in shown
    assert re.search(rf"{run.date}, .*\bc: torch {re.escape(run.torch)}, ", shown)


def test_tables_in_a_terminal_cut_no_figure(capsys: pytest.CaptureFixture[str]) -> None:
    rows = timed("naive", 0, status=Status.NO_MEMORY) + timed("row_scaled", 0.51, 1 << 30) + timed("batched_cuda", 0.9)
    for place in places(compared(rows + LSTM)):
        text.show(terminal_table(place), "title")
    words = {word for line in capsys.readouterr().out.splitlines() for word in line.split()}
    assert {"implementation", "row_scaled", "batched_cuda", "torch.nn.LSTM", "undecided", "1,074", "10.2"} <= words
