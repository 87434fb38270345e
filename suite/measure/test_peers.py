"""The study of peers draws the sizes that it says, times in turns, and names whatever is faster."""

from dataclasses import replace
from itertools import product

import pandas as pd
import pytest

from suite.measure import examples, peers
from suite.measure.jobs import Job
from suite.measure.work import PASSES
from suite.pages.peers import faster, lead, summary
from suite.shared.cases import WORKLOADS, Case
from suite.shared.statistics import merged, with_intervals

TINY = replace(WORKLOADS["small"], T=3, B=2, H=16, S=8)


def job(candidates: tuple[str, ...]) -> Job:
    return examples.job(table="peers", part="Z4", candidates=candidates, case=TINY)


def draws() -> list[Case]:
    forms = product(peers.SIZES_Z, (False, True))
    return [case for Z, norm in forms for case in peers.drawn(replace(TINY, Z=Z, layer_norm=norm))]


def test_sizes_of_peers_are_within_bounds() -> None:
    cases = draws()
    assert cases == draws()
    assert len({case.id for case in cases}) == len(cases) == 20
    for case in cases:
        for n, (low, high) in peers.RANGES.items():
            assert low <= getattr(case, n) <= high
        assert case.H // 8 <= case.S <= case.H / 4 + 1
        assert case.multiply_adds() <= peers.MOST_WORK


def test_peers_are_timed_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "RANGES", {"T": (2, 4), "B": (1, 3), "H": (16, 32)})
    monkeypatch.setattr(peers, "POINTS", 2)
    monkeypatch.setattr(peers, "BUDGET", 0.0)
    monkeypatch.setattr(peers, "SLOW_TO_COMPILE", ("row_scaled",))
    names = ("deferred", "batched", "row_scaled")  # the first is ours
    points = merged([], list(peers.rows(job(names), True)))
    points = merged(merged(points, list(peers.rows(job(names), False))), list(peers.rows(job(names), False)))
    first, second = peers.drawn(TINY)
    timed = {(row["T"], row["B"], row["H"], row["implementation"], row["pass"]) for row in points}
    expected = {*product([first], names, PASSES), *product([second], names[:2], PASSES)}
    assert timed == {(case.T, case.B, case.H, name, step) for case, name, step in expected}
    rows = pd.DataFrame(with_intervals(points))
    assert set(rows[rows["ratio"].notna()]["implementation"]) == set(names[1:])
    for _, row in rows[rows["ratio"].notna()].iterrows():
        assert 0 < row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
    lines = {
        line["pass"]: line for line in summary(rows.dropna(subset="ratio")).lines if line["compared with"] == "batched"
    }
    assert [lines[step]["points"] for step in ("training step", "forward pass")] == [2, 2]


def rows_of(ratio: float, name: str = "jax") -> pd.DataFrame:
    """Return rows of a point at which ours takes so many times as long as another."""
    own = {"multiply_adds": 1e6, "ours": "batched_cpu", "status": "ok", "library": None}
    row, interval = job(("batched_cpu",)).row, {"ratio": ratio, "ratio_low": 0.9 * ratio, "ratio_high": 1.1 * ratio}
    return pd.DataFrame(
        own | point
        for step in PASSES
        for point in (
            row("point", "batched_cpu") | {"pass": step, "median_s": 0.01},
            row("point", name) | {"pass": step, "median_s": 0.01 / ratio, "library": "jax 1.2"} | interval,
        )
    )


def test_a_point_where_another_is_faster_is_named() -> None:
    slower = faster(rows_of(1.5))
    assert slower.splitlines()[2:] == [
        f"- `jax`, {step}, T 3, B 2, H 16, S 8, Z 4, layer norm off: 1.50 (1.35-1.65)"
        for step in ("forward pass", "training step")
    ]
    assert faster(rows_of(0.5)) == "No other is faster at any point."
    assert [line["faster at"] for line in summary(rows_of(1.5).dropna(subset="ratio")).lines] == [0, 0]
    assert [line["faster at"] for line in summary(rows_of(0.5).dropna(subset="ratio")).lines] == [1, 1]


def test_the_page_of_peers_says_what_is_missing() -> None:
    text = lead(rows_of(0.5))
    assert "Versions: jax 1.2. Not timed: labml." in text
    assert "`compiled` takes tens of seconds to compile for each size, so it was timed at 0 of them." in text
