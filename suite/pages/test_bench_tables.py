"""Tables of the benchmark have ratios with intervals, and say why there is no figure or reason to doubt one."""

import re
from typing import Any

import pytest

from suite.candidates.names import BASELINE, PADDED
from suite.cases.workloads import Pass
from suite.pages import bench, text
from suite.pages.bench import terminal_table
from suite.pages.examples import LSTM, NORM, OURS, at, beside, page
from suite.results.columns import Row
from suite.results.examples import HERE, runs
from suite.results.run import Run
from suite.results.status import Status


def test_tables_have_ratios_or_say_why_not() -> None:
    rows = (
        runs("naive", 0) + runs("row_scaled", 0.2, 4_000_000) + runs("batched", 0.1, 3_000_000)
        + runs("torch.nn.LSTM", 0.05, 2_000_000) + runs("row_scaled", 0.4, 4_000_000, True)
        + runs("batched", 0.3, 3_000_000, True) + runs("labml", 0.6, 1_000_000, True)
    )  # fmt: skip
    text = page(rows)
    figures, roof = "100 | 2.00 (1.98-2.02) | 100 | 2.00 (1.98-2.02) | slower", "25% compute"
    assert "| naive | time-out | - | time-out | - | - | - | - | - |" in text
    assert f"| batched | {figures} | 3.00 | 1.50 | {roof} |" in text
    assert text.index("| naive | time-out") < text.index("\n| batched | 100 |")
    figures = "600 | 12.0 (11.9-12.1) | 600 | 12.0 (11.9-12.1) | slower"
    assert f"| labml | {figures} | 1.00 | 0.50 | {roof} |" in text
    assert text.count("| torch.nn.LSTM | 50.0 | 1.00 (0.99-1.01) | 50.0 | 1.00 (0.99-1.01) | undecided |") == 2
    assert "Shortened: T 3 of 100, B 2 of 8. Noise floor: 1.0% (forward), 1.0% (train)." in text
    assert "`naive` on small: time-out: 9 s" in text
    heads = "| workload | layer norm | fastest | train, ms | / LSTM | work / LSTM | next best | MB / LSTM |"
    assert f"## The fastest to train\n\n{heads}\n|{' --- |' * 3}{' ---: |' * 5}\n" in text
    assert (
        "| small, T 3, B 2, float32 | off | batched | 100 | 2.00 (1.98-2.02) | 1.45 | 2.00 row_scaled | 1.50 |" in text
    )
    assert (
        "| small, T 3, B 2, float32 | on | batched | 300 | 6.00 (5.94-6.06) | 1.45 | 1.33 row_scaled | 1.50 |" in text
    )


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [  # the interval, that of the baseline, and the verdict: either side of the noise floor of 1.1
        ((1.2, 1.11, 1.3), (1.0, 0.95, 1.1), "slower"),
        ((1.2, 1.09, 1.3), (1.0, 0.95, 1.1), "undecided"),
        ((0.8, 0.7, 0.905), (1.0, 0.95, 1.1), "faster"),
        ((0.8, 0.7, 0.915), (1.0, 0.95, 1.1), "undecided"),
        ((0.8, 0.7, 0.905), (1.0, 0.9, 1.01), "undecided"),
        ((0.8, None, None), (1.0, 0.95, 1.1), "few visits"),
        ((0.8, 0.7, 0.9), None, "no A/A run"),
        ((0.8, 0.7, 0.9), (1.0, None, None), "few A/A visits"),
    ],
)  # fmt: skip
def test_a_verdict_takes_an_interval_beyond_the_noise(
    first: tuple[Any, ...], second: tuple[Any, ...] | None, words: str
) -> None:
    def ends(values: tuple[Any, ...]) -> dict[str, Any]:
        return dict(zip(("ratio", "ratio_low", "ratio_high"), values, strict=True))

    rows = runs("batched", 0.1, **ends(first)) + (runs(BASELINE, 0.05, **ends(second)) if second else [])
    rows += at("medium", runs(BASELINE, 0.05, spread=0))  # the noise floor of another workload
    table = beside(rows).rows
    assert set(table["verdict"][table["implementation"] == "batched"]) == {words}
    assert f" | {words} | " in page(rows)


@pytest.mark.parametrize(("B", "decisive"), [(1, "forward"), (2, "train")])
def test_one_sequence_is_judged_by_its_forward_pass(B: int, decisive: str) -> None:
    slow, fast = runs("batched", 0.1, B=B), runs("batched", 0.01, B=B)
    rows = [slow[0], fast[1]] if decisive == Pass.FORWARD else [fast[0], slow[1]]
    text = page(rows + runs(BASELINE, 0.05, B=B))
    assert "| slower |" in next(line for line in text.splitlines() if line.startswith("| batched |"))
    (head,) = (line for line in text.splitlines() if line.startswith("| implementation | forward"))
    assert f"| {decisive} / LSTM | verdict |" in head, "a verdict stands beside the figure that it judges"
    (place,) = beside(rows).places()
    columns = [*terminal_table(place)]
    assert columns[columns.index("verdict") - 1] == f"{decisive} / LSTM"


@pytest.mark.parametrize(("B", "roofline"), [(1, "25% compute"), (2, "50% memory")])
def test_memory_is_that_of_training_and_the_roofline_that_of_the_pass_that_counts(B: int, roofline: str) -> None:
    rows = runs("batched", 0.1, 1_000_000, B=B) + runs(BASELINE, 0.05, 1_000_000, B=B)
    for row, peak in ((rows[1], 3_000_000), (rows[3], 2_000_000)):
        row |= {"peak_bytes": peak, "share": 0.5, "bound": "memory"}
    text = page(rows)
    assert "| train, MB | MB / LSTM | of roofline |" in text
    assert f"| 3.00 | 1.50 | {roofline} |" in text
    assert "| 2.00 (1.98-2.02) | 1.45 | 1.50 |" in text


def test_where_all_have_layer_norm_the_baseline_is_beside_them_alone() -> None:
    rows = [*runs("batched_cpu", 0.1, layer_norm=True), *LSTM]
    assert {*beside(rows).rows["layer_norm"]} == {True}
    assert {*beside([*rows, *OURS]).rows["layer_norm"]} == {True, False}
    assert {*beside(LSTM).rows["layer_norm"]} == {False}
    assert "layer norm off" not in page(rows)


def test_a_workload_without_training_is_judged_by_its_forward_pass() -> None:
    text = page([row for row in OURS + LSTM if row["pass"] == "forward"])
    assert "| forward / LSTM | verdict | forward, MB | MB / LSTM |" in text
    assert "| 2.00 (1.98-2.02) | slower | 1.00 | 1.00 |" in text


def test_a_candidate_without_training_has_neither_verdict_nor_memory() -> None:
    """As one that was timed when the workload had no training."""
    forward = [row for row in runs("deferred", 0.2) if row["pass"] == Pass.FORWARD]
    text = page([*OURS, *LSTM, *forward])
    assert "| deferred | 200 | 4.00 (3.96-4.04) | - | - | - | - | - | - |" in text


def test_packed_rows_are_compared_with_the_padded_baseline_where_that_is_faster() -> None:
    norm = runs("batched_cpu", 0.03, layer_norm=True)
    text = page(at("medium-ragged", [*runs("batched_cpu", 0.02), *runs(PADDED, 0.025), *LSTM, *norm]))
    assert re.search(r"\| batched_cpu \| .* \| 0.40 \(0.40-0.40\) \| faster \| 0.80 \|", text)
    assert re.search(r"\| batched_cpu \| .* \| 0.60 \(0.59-0.61\) \| faster \| 1.20 \|", text)
    assert "| 0.40 (0.40-0.40), padded 0.80 | 1.45 | 1.00 |" in text
    slower = at("medium-ragged", [*runs("batched_cpu", 0.02), *runs(PADDED, 0.06), *LSTM])
    assert "| / padded |" not in page(slower)


def test_the_next_best_is_the_alternative_with_the_smallest_ratio() -> None:
    """And not with the shortest time: the clock was half as fast while `jax` ran, for the baseline beside it too."""
    rows = [*runs("batched", 0.3), *runs("jax", 0.4, ratio=4.0, baseline_s=0.1), *runs("labml", 0.35, ratio=7.0)]
    assert "| 2.00 (1.98-2.02) | 1.45 | 2.00 jax | 1.00 |" in page(OURS + rows + LSTM)
    assert "| next best |" not in page(OURS + LSTM)


def test_rows_from_a_busy_machine_are_marked() -> None:
    rows = runs("batched", 0.1, busy=0.42) + LSTM
    assert re.search(r"\| batched \| .* \| 42% \|\n", page(rows))
    assert "busy |" not in page(runs("batched", 0.1) + LSTM)


CRASHED: dict[str, Any] = {"status": Status.CRASHED, "detail": ""}
WITHOUT = [*runs("naive", 0.1, **CRASHED), *at("char-ptb", OURS), *at("stream", runs("batched_cpu", 0))]
FAILED = "## What has no figures\n\n- `naive` on small: crashed\n- `batched_cpu` on stream: time-out: 9 s"
PACKED = at("medium", runs("batched", 0.1), tokens=5, whole_T=None, whole_B=None)
TOO_LARGE = [*OURS, *at("medium", runs("naive", 0, status=Status.TOO_LARGE, detail="naive needs 9 MB."))]
ABSENT = runs("batched", 0.1) + runs("jax", 0, status=Status.NOT_RUN, detail="jax is not installed.")


@pytest.mark.parametrize(
    ("rows", "shown", "hidden"),
    [  # parts of the page that are shown once, and others that are not
        (WITHOUT, ["**char-ptb (", "\n| batched_cpu | 100 | 2.00 (1.98-2.02) |", FAILED], ["**stream (", "| small, T"]),
        (ABSENT + at("medium", ABSENT), ["`jax` was not timed: jax is n"], ["| jax |", "What has no figures"]),
        (TOO_LARGE, ["What has no figures\n\n- `naive` on medium: too large: naive needs 9 MB."], ["not timed"]),
        (runs("naive", 0), ["| naive | time-out |"], ["Noise floor:"]),
        (runs("batched", 0.1) + PACKED, ["Packed: 5 tokens instead of 6."], ["Shortened: ."]),
        (NORM + at("medium", LSTM), ["\n## medium"], ["\n## medium, T 3, B 2, float32, layer norm on"]),
    ],
    ids=["failed", "cannot-run", "too-large", "no-figures", "packed", "norm-elsewhere"],
)  # fmt: skip
def test_a_page_shows_and_hides(rows: list[Row], shown: list[str], hidden: list[str]) -> None:
    text = page(rows)
    assert [text.count(part) for part in shown] == [1] * len(shown)
    assert [part for part in hidden if part in text] == []
    assert all(len(terminal_table(place)) for place in beside(rows).places())


def test_the_hardware_and_where_a_run_was_made_are_shown() -> None:
    rates = {"dtype": "float32", "multiply_adds_per_s": 7e10, "bytes_per_s": 5e10, "side": 2048, "product": "torch.mm"}
    shown = bench.page(Run.of("bench", HERE, {"bench": OURS, "hardware": [rates]}))
    assert "| float32 | 140 | torch.mm | 2,048 | 50.0 |" in shown
    assert f"{HERE.date}, by commit c: torch {HERE.torch}, " in shown


def test_tables_in_a_terminal_cut_no_figure(capsys: pytest.CaptureFixture[str]) -> None:
    rows = runs("naive", 0, status=Status.NO_MEMORY) + runs("row_scaled", 0.51, 1 << 30) + runs("batched_cuda", 0.9)
    for place in beside(rows + LSTM).places():
        text.show(terminal_table(place), "title")
    words = {word for line in capsys.readouterr().out.splitlines() for word in line.split()}
    assert {"implementation", "row_scaled", "batched_cuda", "torch.nn.LSTM", "undecided", "1,074", "10.2"} <= words
