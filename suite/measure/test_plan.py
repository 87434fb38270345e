"""A benchmark refuses what verification calls red or stale, and does nothing twice."""

from pathlib import Path

import pytest

from suite.measure import plan as planning
from suite.measure.examples import job
from suite.shared.examples import CPU, made, verified
from suite.shared.rows import TABLES, stamp


def test_red_and_stale_are_refused_unless_told_otherwise(tmp_path: Path) -> None:
    TABLES["verify"].replace(tmp_path, [verified("batched", 0.5), verified("deferred", 2)])
    jobs = [job(name) for name in ("batched", "deferred", "torch.nn.LSTM")]
    labels = [planned.instead for planned in planning.plan(jobs, tmp_path)]
    assert labels == [None, "refused: verify.csv is red for deferred in float32", None]
    assert [planned.runs for planned in planning.plan(jobs, tmp_path, unverified=True)] == [True] * 3


@pytest.mark.parametrize(
    ("changes", "finished"),
    [
        ({}, True),
        ({"date": "2020-02-29"}, True),
        ({"sources": "elsewhere"}, False),
        ({"status": "time-out: 9 s"}, False),
    ],
)
def test_to_resume_keeps_rows_of_these_sources_whichever_day_they_are_of(
    changes: dict[str, str], finished: bool, tmp_path: Path
) -> None:
    TABLES["bench"].replace(tmp_path, made("batched", 0.1, **{**stamp(CPU, "batched"), **changes}))
    assert [planned.finished for planned in planning.plan([job()], tmp_path, resume=True)] == [finished]
