"""Tables of the benchmark have ratios with intervals, and say why there is no figure or reason to doubt one."""

from io import StringIO
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from suite.pages.bench import PAGE, speed
from suite.pages.bench_tables import answer, bench_summary, bench_view
from suite.pages.plots import svg
from suite.pages.sheets import markdown
from suite.shared.cases import BASELINE
from suite.shared.examples import runs


def test_ours_is_compared_with_the_best_alternative() -> None:
    plain = [*runs("batched_cpu", 0.1), *runs("row_scaled", 0.9), *runs("compiled", 0.5), *runs("jax", 0.25)]
    norm = [*runs("batched_cpu", 0.2, layer_norm=True), *runs("labml", 1.0, layer_norm=True)]
    assert answer(pd.DataFrame(plain + norm)) == (
        "The fastest implementation (`batched_cpu`) trains in 2.00 to 4.00 times the time of `torch.nn.LSTM`, with "
        "1.45 times its multiply-adds, 2.50 to 5.00 times as fast as the best of JAX, torch.compile and labml."
    )
    assert answer(pd.DataFrame(plain[:4] + norm)).endswith("5.00 times as fast as labml.")
    two = answer(pd.DataFrame(plain[:4] + plain[6:] + norm))
    assert two.endswith("2.50 to 5.00 times as fast as the best of JAX and labml.")
    assert answer(pd.DataFrame(runs("jax", 0.1))) == answer(pd.DataFrame()) == ""


def test_tables_have_ratios_or_say_why_not() -> None:
    table = pd.DataFrame(
        runs("naive", 0) + runs("row_scaled", 0.2, 4_000_000) + runs("batched", 0.1, 3_000_000)
        + runs("torch.nn.LSTM", 0.05, 2_000_000) + runs("row_scaled", 0.4, 4_000_000, True)
        + runs("batched", 0.3, 3_000_000, True) + runs("labml", 0.6, 1_000_000, True)
    )  # fmt: skip
    text = markdown(PAGE.content(table))
    figures, roof = "100 | 2.00 (1.98-2.02) | 100 | 2.00 (1.98-2.02) | slower", "25% compute | -"
    assert "| naive | time-out | - | time-out | - | - | - | - | - | - | - |" in text
    assert f"| batched | {figures} | 0.50 | 3.00 | 1.50 | {roof} |" in text
    figures = "600 | 12.0 (11.9-12.1) | 600 | 12.0 (11.9-12.1) | slower"
    assert f"| labml | {figures} | 1.50 | 1.00 | 0.50 | {roof} |" in text
    assert "| torch.nn.LSTM | 50.0 | 1.00 (0.99-1.01) | 50.0 | 1.00 (0.99-1.01) | undecided |" in text
    assert "Shortened: T 3 of 100, B 2 of 8. Noise floor: 1.0% (forward), 1.0% (train)." in text
    assert "`naive` on small: time-out: 9 s" in text
    assert text.index("trains in 2.00 to 6.00 times the time of `torch.nn.LSTM`") < text.index("| ---")
    summary = bench_summary(table).words()
    assert [line["fastest"] for line in summary] == ["batched", "batched"]
    assert [line["/ labml"] for line in summary] == ["-", "0.50"]


def on_a_gpu(name: str, ratio: float, **changes: Any) -> list[dict[str, Any]]:
    """Return rows of a GPU whose time in a loop is 5 ms a multiple of the baseline's."""
    loop = {
        "loop_s": 0.005 * ratio,
        "loop_ratio": ratio,
        "loop_ratio_low": 0.95 * ratio,
        "loop_ratio_high": 1.05 * ratio,
    }
    return runs(name, 0.1, device="cuda", **(loop | changes))


def test_figures_in_a_loop_come_first_on_gpu() -> None:
    rows = on_a_gpu("batched", 1.3) + on_a_gpu("deferred", 1.2) + on_a_gpu(BASELINE, 1.0)
    rows += [row | {"ratio": 1.0} for row in on_a_gpu("batched_cuda", 4.0)]
    table, elsewhere = pd.DataFrame(rows), pd.DataFrame(rows).assign(workload="char-ptb")
    text = markdown(PAGE.content(table))
    heads = ["forward in a loop, ms", "forward in a loop / LSTM", "forward, ms", "forward / LSTM"]
    assert f"| implementation | {' | '.join(heads)} | train in a loop, ms | " in text
    looped = "6.00 | 1.20 (1.14-1.26) | 100 | 2.00 (1.98-2.02)"
    assert f"| deferred | {looped} | {looped} | slower |" in text
    assert "Noise floor: 5.3% (forward), 5.3% (train)." in text
    assert answer(table).startswith("The fastest implementation (`deferred`) trains in 1.20 times the time of")
    assert [line["/ LSTM"] for line in bench_summary(table).words()] == ["1.20 (1.14-1.26)"]
    assert "forward in a loop" not in markdown(PAGE.content(elsewhere))
    assert "(`batched_cuda`)" in answer(elsewhere)
    assert answer(table.assign(device="cpu")) == answer(elsewhere)
    (view,) = bench_view(table).values()
    assert view.columns[2:4] == ["train in a loop, ms", "train in a loop / LSTM"]


@pytest.mark.parametrize(("kernel", "marks"), [("a kernel seen", "-"), ("no kernel seen", "baseline without cuDNN")])
def test_a_baseline_that_ran_without_cudnn_is_marked(kernel: str, marks: str) -> None:
    text = markdown(PAGE.content(pd.DataFrame(on_a_gpu("batched", 1.3, cudnn=f"91002, {kernel}"))))
    assert f"| 25% compute | {marks} |" in text


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_rows_without_any_figure_have_their_labels(device: str) -> None:
    rows = pd.DataFrame(runs("naive", 0, device=device))
    assert "| naive | time-out |" in markdown(PAGE.content(rows))
    assert [view.words()[0]["verdict"] for view in bench_view(rows).values()] == ["-"]


@pytest.mark.parametrize(("visits", "note"), [(1, "one visit"), (2, "two visits")])
def test_few_visits_give_no_interval_and_no_verdict(visits: int, note: str) -> None:
    few = runs("batched", 0.1, visits=visits, ratio_low=None, ratio_high=None)
    text = markdown(PAGE.content(pd.DataFrame(few + runs(BASELINE, 0.05))))
    assert f"| batched | 100 | 2.00 | 100 | 2.00 | few visits | 1.00 | 1.00 | 25% compute | {note} |" in text


def test_no_noise_run_means_no_verdict() -> None:
    text = markdown(PAGE.content(pd.DataFrame(runs("row_scaled", 0.2) + runs("batched", 0.1))))
    assert "| batched | 100 | 2.00 (1.98-2.02) | 100 | 2.00 (1.98-2.02) | no A/A run |" in text


def test_tables_in_a_terminal_cut_no_word() -> None:
    rows = runs("naive", 0, status="out of memory") + runs("row_scaled", 0.51, 1 << 30) + runs("batched_cuda", 0.9)
    rows += runs("torch.nn.LSTM", 0.05)
    console = Console(file=StringIO(), width=80)
    for title, view in bench_view(pd.DataFrame(rows)).items():
        view.show(title, console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    words = {word.rstrip(",:") for line in lines for word in line.split()}
    assert {"implementation", "naive", "row_scaled", "batched_cuda", "torch.nn.LSTM", "undecided", "1,074"} <= words
    assert max(map(len, lines)) <= 80


@pytest.mark.filterwarnings("error")
def test_one_point_is_drawn_without_a_warning() -> None:
    drawn = speed(pd.DataFrame(runs("batched", 0.1)))
    assert drawn is not None
    assert "torch.nn.LSTM" in svg(drawn)
