"""The kernels of `batched_cuda` without a GPU: interpreted, every address traced, and compiled for cards not here.

`--all-kernels` takes every case in every dtype and every card, as `nox -s kernels` does.
"""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from impls.batched_cuda.tiles import H100, Card

from impls.registry import dtype_name
from suite.checks.kernels import compiled as ahead
from suite.checks.kernels import interpreted
from suite.checks.kernels.interpreted import NAME
from suite.checks.kernels.launched import Launch, launched
from suite.conftest import Keep, Record
from suite.shared.cases import INTERPRETED, VERIFY, WORKLOADS, Case
from suite.shared.children import rows_of
from suite.shared.compare import Verdict

pytestmark = [
    pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed."),
    pytest.mark.thorough("kernels interpreted, and compiled for a card that is not here"),
]
BACKWARD = {"rebuild_gates", "main_gradient", "embedding_gradient", "hyper_gradient"}
KERNELS = {"forward_sequence", "backward_sequence", "hyper_gates", "main_gates", *BACKWARD}
PRECOMPILED = VERIFY[0]
STEPS = 5
#: The most a kernel may spill, in bytes a thread.
SPILL = 128


def complaints(row: Any) -> list[str]:
    found = []
    if row.stack_bytes > SPILL:
        found.append(f"stack: expected at most {SPILL} bytes a thread, got {row.stack_bytes}")
    if row.shared_bytes > row.shared_limit:
        found.append(f"shared memory: expected at most {row.shared_limit} bytes a block, got {row.shared_bytes}")
    if row.product and row.arithmetic != "float32" and not row.tensor_cores:
        found.append(f"{row.arithmetic} product: expected a tensor-core instruction in the PTX, got none")
    if row.product and row.arithmetic == "tf32" and not row.rounds:
        found.append("tf32 product: expected operands rounded to nearest in the PTX, got none")
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose cases and cards."""
    everything = metafunc.config.getoption("--all-kernels")
    if "case" in metafunc.fixturenames:
        pairs = interpreted.PAIRS if everything else interpreted.SOME_PAIRS
        metafunc.parametrize(("case", "dtype"), pairs, ids=[f"{case.id}-{dtype_name(dtype)}" for case, dtype in pairs])
    if "capability" in metafunc.fixturenames:
        capabilities = tuple(ahead.CARDS) if everything else ahead.SOME_CAPABILITIES
        metafunc.parametrize("capability", capabilities, ids=[f"{n / 10:.1f}" for n in capabilities])


def _extent(request: pytest.FixtureRequest) -> list[str]:
    return ["all"] * request.config.getoption("--all-kernels")


@pytest.fixture(scope="module")
def compiled(request: pytest.FixtureRequest) -> pd.DataFrame:
    """Return the table of kernels compiled ahead of time; Triton compiles nothing where its interpreter is on."""
    return rows_of("suite.checks.kernels.compiled", *_extent(request), TRITON_INTERPRET=None)


@pytest.fixture(scope="module")
def verdicts(request: pytest.FixtureRequest) -> pd.DataFrame:
    """Return the verdicts on interpreted runs, and what their trace found."""
    rows = rows_of("suite.checks.kernels.interpreted", *_extent(request), TRITON_INTERPRET="1")
    return rows.fillna({"wrong": ""}).set_index(["case", "dtype"])


def test_kernels_fit_the_card(
    compiled: pd.DataFrame, capability: int, request: pytest.FixtureRequest, keep: Keep
) -> None:
    rows = compiled[compiled["capability"] == capability]
    for row in rows.to_dict("records") if request.config.getoption("--all-kernels") else ():
        keep("kernels", **row)
    assert set(rows["kernel"]) >= KERNELS
    wrong = [
        f"{row.kernel} in {row.arithmetic} at {row.size}: {found}"
        for row in rows.itertuples()
        for found in complaints(row)
    ]
    assert not wrong, "\n".join(wrong)


def test_interpreted_equals_the_oracle(case: Case, dtype: torch.dtype, verdicts: pd.DataFrame, record: Record) -> None:
    row = verdicts.loc[(case.id, dtype_name(dtype))]
    worst = Verdict(row["tensor"], row["error"], row["allowed"])
    record(NAME, dtype, case.id, "pass" if worst.ratio <= 1 else "FAIL", worst, INTERPRETED)
    assert worst.ratio <= 1, f"{worst.tensor}: relative error {worst.error:.2e}, allowed {worst.allowed:.2e}"


def test_no_race_and_no_access_out_of_bounds(case: Case, dtype: torch.dtype, verdicts: pd.DataFrame) -> None:
    traced = verdicts.loc[(case.id, dtype_name(dtype))]
    assert traced["addresses"] > traced["programs"] > traced["launches"] > 0
    assert not traced["wrong"]


def test_no_argument_multiplies_compilations() -> None:
    """No alignment, no value: what was compiled before a run, or by a plain launch, is what a graph's replay needs."""
    cases = (replace(WORKLOADS[name], layer_norm=True) for name in ("small", "char-ptb", "enwik8"))
    sweeps = [sweep for case in cases for sweep in launched(case, H100, torch.float32, "ieee")]
    started = {launch.kernel for sweep in sweeps for launch in sweep}
    assert {kernel.fn.__name__ for kernel in started} >= KERNELS
    for kernel in started:
        assert all(p.is_constexpr or p.do_not_specialize for p in kernel.params), kernel.fn.__name__


def _takes_a_mask(launch: Launch) -> bool:
    return any(type(value) is float for value in launch.given)


@pytest.mark.parametrize("layer_norm", [False, True], ids=["off", "on"])
@pytest.mark.parametrize("name", ["small", "char-ptb"])
def test_a_mask_adds_no_launch_and_changes_no_tile(name: str, layer_norm: bool) -> None:
    case = replace(WORKLOADS[name], layer_norm=layer_norm)
    plain, masked = (
        launched(replace(case, recurrent_dropout=p), H100, torch.bfloat16, "ieee", STEPS) for p in (0.0, 0.1)
    )
    for without, under in zip(plain, masked, strict=True):
        assert [one[:2] + one[3:] for one in under] == [one[:2] + one[3:] for one in without]
        assert not any(map(_takes_a_mask, without))
        # Where one launch does all steps forward, it takes the mask of all.
        assert sum(map(_takes_a_mask, under)) == min(STEPS, len(under))


def test_a_launch_finds_what_was_compiled_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(ahead, "why_unavailable", lambda *what: None)
    monkeypatch.setattr(Card, "of", lambda device: H100)
    ahead.precompile([(PRECOMPILED, "float16")], torch.device("cuda"))
    made = set(tmp_path.rglob("*.cubin"))
    kernels = set(ahead.kernels(PRECOMPILED, "float16", 90, H100))
    assert len(made) == len(kernels) > 1
    for kernel in kernels:
        ahead.build(kernel)
    assert set(tmp_path.rglob("*.cubin")) == made


@pytest.mark.parametrize("layer_norm", [False, True], ids=["off", "on"])
@pytest.mark.parametrize(("name", "alone"), [("small", True), ("medium", False), ("char-ptb", False)])
def test_a_small_model_goes_either_way_in_one_launch(name: str, alone: bool, layer_norm: bool) -> None:
    case = replace(WORKLOADS[name], layer_norm=layer_norm)
    for sweep in launched(case, H100, torch.bfloat16, "ieee", STEPS):
        assert len(sweep) == 1 if alone else len(sweep) >= 2 * STEPS
