"""Rows tell what they rest on, and what no device has proven is not chosen unasked."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from impls.registry import IMPLS, find
from suite.shared import trust
from suite.shared.examples import HERE
from suite.shared.results import RESULTS
from suite.shared.rows import table

#: A row that needs a GPU, as it would be if a GPU had proven it.
ON_GPU = replace(find("batched_cuda"), dtypes=(torch.float32, torch.bfloat16), experimental=False)


def test_what_needs_a_gpu_is_experimental_until_a_gpu_has_verified_it_at_these_sources() -> None:
    assert trust.unproven(IMPLS, RESULTS) == []


def on_gpu(**changes: Any) -> dict[str, Any]:
    row = {"implementation": ON_GPU.name, "dtype": "float32", "case": "training", "verdict": "pass"}
    return row | HERE | {"device": "cuda", "sources": trust.sources()} | changes


@pytest.mark.parametrize(
    ("folders", "proven"),
    [
        ([[on_gpu(), on_gpu(dtype="bfloat16")]], True),
        ([[on_gpu(), on_gpu(dtype="bfloat16"), on_gpu(dtype="float16", verdict="skipped")]], True),
        ([[on_gpu(verdict="FAIL")], [on_gpu(), on_gpu(dtype="bfloat16")]], True),
        ([], False),
        ([[on_gpu()]], False),
        ([[on_gpu()], [on_gpu(dtype="bfloat16")]], False),
        ([[on_gpu(), on_gpu(dtype="bfloat16", verdict="skipped")]], False),
        ([[on_gpu(), on_gpu(dtype="bfloat16"), on_gpu(case="T1", verdict="FAIL")]], False),
        ([[on_gpu(), on_gpu(dtype="bfloat16", sources="elsewhere")]], False),
        ([[on_gpu(device="cpu"), on_gpu(dtype="bfloat16", device="cpu")]], False),
        ([[on_gpu(implementation="deferred"), on_gpu(implementation="deferred", dtype="bfloat16")]], False),
    ],
    ids=[
        "green", "green-where-not-skipped", "green-on-another-card", "no-results", "a-dtype-missing",
        "half-on-each-card", "a-dtype-skipped", "red", "stale", "interpreted-on-a-cpu", "of-another",
    ],
)  # fmt: skip
def test_a_card_proves_an_implementation_by_a_green_verification(
    folders: list[list[dict[str, Any]]], proven: bool, tmp_path: Path
) -> None:
    for n, rows in enumerate(folders):
        table("verify").replace(tmp_path / f"card-{n}", rows)
    assert trust.unproven([ON_GPU], tmp_path) == [ON_GPU.name] * (not proven)
    assert trust.unproven([replace(ON_GPU, experimental=True)], tmp_path) == []
    assert trust.unproven([replace(ON_GPU, devices=("cpu", "cuda"))], tmp_path) == []
