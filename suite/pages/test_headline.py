"""The headline has what a user gains, and only figures with an interval; else a sentence says why there is none."""

from typing import Any

import pytest

from suite.candidates.names import PADDED
from suite.pages.bench import readme_rows
from suite.pages.examples import LSTM, NORM, OURS, at, beside, page
from suite.pages.headline import headline, summary
from suite.results.columns import Row
from suite.results.examples import runs
from suite.results.status import Status

CPU, GPU = "cpu", "cuda"


def sentence(about: str, ratio: str, alternative: str = "No alternative was timed.") -> str:
    """Return a line of the headline."""
    step = "A training step of `batched_cpu` takes"
    return f"{about}): {step} {ratio} times as long as one of `torch.nn.LSTM`. {alternative}"


def over(ratio: str, name: str) -> str:
    """Return the second sentence of a line."""
    return f"It is {ratio} times as fast as the fastest alternative timed, {name}."


MEDIUM = sentence("medium (T 3 of 50, B 2 of 32, float32", "2.00 (1.98-2.02)")
#: The implementation and the alternative that decide are not the first ones; a hand-written gradient is none.
SEVERAL = [*runs("batched", 0.3), *OURS, *runs("compiled", 0.5), *runs("jax", 0.25), *runs("deferred", 0.2)]
PLAIN = [*runs("batched_cpu", 0.06), *runs("labml", 0.3), *runs("row_scaled", 0.4), *runs("batched", 0.12)]
ALONE = [*OURS, *runs("jax", 0.2), *runs("labml", 0)]
FEW: dict[str, Any] = {"ratio_low": None, "ratio_high": None}
ONE_VISIT = "Its speedup over the fastest alternative timed, jax, has no interval yet."
BUSY = "It was not compared with the fastest alternative timed, jax, on a quiet machine."
PACKED_OURS = [*runs("batched_cpu", 0.02), *runs(PADDED, 0.025), *LSTM]
ON_PADDED = "`torch.nn.LSTM` on the padded batch, which is faster than on packed sequences"


@pytest.mark.parametrize(
    ("rows", "sentences"),
    [
        ([*runs("batched_cpu", 0.05), *at("medium", OURS)], [MEDIUM]),
        (
            [*at("medium", SEVERAL), *at("char-ptb", PLAIN)],
            [
                sentence(
                    "medium (T 3 of 50, B 2 of 32, float32",
                    "2.00 (1.98-2.02)",
                    over("2.50 (2.46-2.54)", "jax"),
                ),
                sentence(
                    "char-ptb (T 3 of 100, B 2 of 128, float32",
                    "1.20 (1.19-1.21)",
                    over("2.00 (1.97-2.03)", "`batched`"),
                ),
            ],
        ),
        (
            at("medium", ALONE),
            [
                sentence(
                    "medium (T 3 of 50, B 2 of 32, float32",
                    "2.00 (1.98-2.02)",
                    over("2.00 (1.97-2.03)", "jax"),
                )
            ],
        ),
        (at("medium", [*runs("batched_cpu", 0.02, dtype="bfloat16"), *NORM, *OURS]), [MEDIUM]),
        (
            [*OURS, *NORM],
            [
                sentence("small (T 3 of 100, B 2 of 8, float32", "2.00 (1.98-2.02)"),
                sentence("small (T 3 of 100, B 2 of 8, float32, layer norm", "4.00 (3.96-4.04)"),
            ],
        ),
        (
            at("medium", [*OURS, *runs("jax", 0.2, **FEW), *runs("batched", 0.3)]),
            [
                sentence("medium (T 3 of 50, B 2 of 32, float32", "2.00 (1.98-2.02)", ONE_VISIT)
            ],
        ),
        (
            at("medium-ragged", PACKED_OURS),
            [
                sentence("medium-ragged (T 3 of 50, B 2 of 32, float32", "0.80 (0.79-0.81)").replace(
                    "`torch.nn.LSTM`", ON_PADDED
                ),
            ],
        ),
        (
            at("medium", [*OURS, *runs("jax", 0.2, busy=0.4), *runs("batched", 0.3)]),
            [
                sentence("medium (T 3 of 50, B 2 of 32, float32", "2.00 (1.98-2.02)", BUSY)
            ],
        ),
        (
            at("medium-ragged", [*OURS, *runs(PADDED, 0.06), *LSTM]),
            [sentence("medium-ragged (T 3 of 50, B 2 of 32, float32", "2.00 (1.98-2.02)")],
        ),
        (
            [*at("medium", runs("batched_cpu", 0.1, **FEW)), *at("char-ptb", OURS)],
            [sentence("char-ptb (T 3 of 100, B 2 of 128, float32", "2.00 (1.98-2.02)")],
        ),
    ],
    ids=[
        *("quoted", "best-alternative", "one-alternative", "float32-without-norm", "others"),
        *("alternative-of-few-visits", "padded-is-faster", "busy-alternative"),
        *("padded-is-slower", "few-visits"),
    ],
)  # fmt: skip
def test_the_headline(rows: list[Row], sentences: list[str]) -> None:
    benchmark = beside(rows)
    assert headline(benchmark, CPU) == summary(benchmark, CPU) == sentences
    assert all(f"**{each}**" in page(rows) for each in sentences)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_gpu_quotes_bfloat16_where_it_was_timed(dtype: str) -> None:
    rows = at("medium", [*OURS, *runs("batched_cpu", 0.1, dtype=dtype)][-2:])
    assert headline(beside([*OURS, *rows]), GPU) == [MEDIUM.replace("float32", dtype)]


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (runs("jax", 0.1), "No implementation was timed in training."),
        (runs("batched", 0.1, **FEW), "No headline: an interval takes 3 visits."),
        (runs("batched", 0.1, busy=0.4), "No headline: other processes kept the machine busy."),
    ],
)
def test_without_a_headline_a_page_says_why(rows: list[Row], why: str) -> None:
    assert headline(beside(rows), CPU) == []
    assert summary(beside(rows), CPU) == [why]
    assert f"**{why}**" in page(rows)


def test_a_page_shows_the_name_of_a_workload_as_it_is() -> None:
    assert r"**\*mine\* (T 3" in page([row | {"workload": "*mine*"} for row in OURS])


def test_a_machine_on_which_nothing_ran_has_pages() -> None:
    without: dict[str, Any] = {"status": Status.NOT_RUN, "detail": "It is not installed."}
    nothing = [*runs("jax", 0, **without), *runs("labml", 0, **without)]
    assert readme_rows(beside(nothing), CPU).empty
    assert summary(beside(nothing), CPU) == ["No implementation was timed in training."]
    for name in ("jax", "labml"):
        assert page(nothing).count(f"`{name}` was not timed: It is not installed.") == 1


def test_a_machine_of_two_states_is_said_once_a_workload() -> None:
    changing = [row | {"baseline_s_visits": (0.02, 0.05, 0.021, 0.052, 0.02)} for row in OURS]
    (said,) = [each for each in summary(beside([*changing, *LSTM]), CPU) if "two states" in each]
    assert said == (
        "small (T 3 of 100, B 2 of 8, float32): the machine had two states, in which a forward pass of `torch.nn.LSTM` "
        "took 20.0 and 51.0 ms (3 and 2 visits); intervals there are as wide as these differ."
    )
