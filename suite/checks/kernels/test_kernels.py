"""The kernels of `batched_cuda` without a GPU: interpreted, every address traced, and compiled for cards not here.

`--thorough --kernels=all` takes every case in every dtype and every card, as `nox -s kernels` does.
"""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from impls import why_unavailable
from impls.batched_cuda.split import H100, Card
from impls.definition import dtype_name
from suite.checks.kernels import compiled as ahead
from suite.checks.kernels import interpreted
from suite.checks.kernels.interpreted import NAME
from suite.checks.kernels.launched import Counting, Started, launched, on, stand_in, training_step
from suite.checks.kernels.predicted import predictions
from suite.conftest import Keep, Record
from suite.shared.cases import INTERPRETED, VERIFY, WORKLOADS, Case
from suite.shared.compare import Verdict
from suite.shared.process import rows_of
from suite.shared.rows import TABLES

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed.")
for_a_card = pytest.mark.thorough("kernels compiled for a card that is not here, and what would reach it")
KERNELS = {"forward_steps", "rebuild", "backward_steps"}
PRECOMPILED = VERIFY[0]
#: Most bytes per thread that a kernel may spill, and CPU seconds that it may take to compile; on a shared core, so many
#: times more.
SPILL, SECONDS, SHARED = 128, 10, 2.5
#: Group barriers in the instructions of a kernel without layer norm, and with it.
BARRIERS = {"forward_steps": (3, 5), "backward_steps": (3, 5)}
#: Most torch operator calls of a training step of one chunk, views included.
OPERATORS = 60
#: Most milliseconds predicted for a training step on an H100, by (workload, arithmetic).
PREDICTED = {("char-ptb", "bfloat16"): 4.6, ("small", "float32"): 1.5}
STREAM = 77


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
    if row.seconds > SECONDS * SHARED:
        found.append(f"compilation: expected at most {SECONDS} s on a core of its own, got {row.seconds:.1f} s")
    if row.barriers not in ((0,) if not row.cooperative else BARRIERS[row.kernel]):
        found.append(f"barriers: expected one of {BARRIERS[row.kernel]}, got {row.barriers}")
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose cases and cards."""
    extent = _extent(metafunc.config)
    if "case" in metafunc.fixturenames:
        pairs = interpreted.PAIRS if extent == "all" else interpreted.SOME_PAIRS
        few, more = interpreted.FEW_PAIRS, pytest.mark.thorough("other cases of batched_cuda, interpreted")
        params = [
            pytest.param(*pair, marks=[more] * (pair not in few), id=f"{pair[0].id}-{dtype_name(pair[1])}")
            for pair in pairs
        ]
        metafunc.parametrize(("case", "dtype"), params)
    if "capability" in metafunc.fixturenames:
        capabilities = tuple(ahead.CARDS) if extent in ("cards", "all") else ahead.SOME_CAPABILITIES
        metafunc.parametrize("capability", capabilities, ids=[f"{n / 10:.1f}" for n in capabilities])


def _extent(config: pytest.Config) -> str:
    return config.getoption("--kernels") or ("some" if config.getoption("--thorough") else "few")


@pytest.fixture(scope="module")
def compiled(request: pytest.FixtureRequest) -> pd.DataFrame:
    """Table of kernels compiled ahead of time."""
    return rows_of("suite.checks.kernels.compiled", _extent(request.config), TRITON_INTERPRET=None)


@pytest.fixture(scope="module")
def verdicts(request: pytest.FixtureRequest) -> pd.DataFrame:
    """Verdicts on interpreted runs, and what their trace found."""
    if reason := interpreted.why_not():
        pytest.skip(reason)
    rows = rows_of("suite.checks.kernels.interpreted", _extent(request.config), TRITON_INTERPRET="1")
    return rows.fillna({"wrong": ""}).set_index(["case", "dtype"])


@for_a_card
def test_kernels_fit_the_card(
    compiled: pd.DataFrame, capability: int, request: pytest.FixtureRequest, keep: Keep
) -> None:
    rows = compiled[compiled["capability"] == capability]
    for row in rows.to_dict("records") if _extent(request.config) == "all" else ():
        keep("kernels", **row)
    assert set(rows["kernel"]) >= KERNELS
    assert set(rows) <= set(TABLES["kernels"].columns)
    wrong = [
        f"{row.kernel} in {row.arithmetic} at {row.size}: {found}"
        for row in rows.itertuples()
        for found in complaints(row)
    ]
    assert not wrong, "\n".join(wrong)


def test_interpreted_equals_the_oracle(
    case: Case, dtype: torch.dtype, verdicts: pd.DataFrame, device: torch.device, record: Record
) -> None:
    row = verdicts.loc[(case.id, dtype_name(dtype))]
    worst = Verdict(row["tensor"], row["error"], row["allowed"])
    if why_unavailable(NAME, device) is not None:  # else the row is that of a run on the card
        record(NAME, dtype, case.id, "pass" if worst.ratio <= 1 else "FAIL", worst, INTERPRETED)
    assert worst.ratio <= 1, str(worst)


def test_no_race_and_no_access_out_of_bounds(case: Case, dtype: torch.dtype, verdicts: pd.DataFrame) -> None:
    traced = verdicts.loc[(case.id, dtype_name(dtype))]
    assert traced["addresses"] > traced["programs"] >= traced["launches"] > 0
    assert not traced["wrong"]


def test_no_argument_multiplies_compilations() -> None:
    """Neither alignment nor values specialise a kernel: a launch needs just what was compiled before."""
    cases = (replace(WORKLOADS[name], layer_norm=True) for name in ("small", "char-ptb", "enwik8"))
    started = {launch.kernel for case in cases for launch in launched(case, H100, torch.float32, "float32")}
    assert {kernel.fn.__name__ for kernel in started} == KERNELS
    for kernel in started:
        assert all(p.is_constexpr or p.do_not_specialize for p in kernel.params), kernel.fn.__name__


@pytest.mark.parametrize("name", ["small", "char-ptb"])
def test_a_mask_adds_no_launch_and_changes_no_tile(name: str) -> None:
    plain, masked = (
        launched(replace(WORKLOADS[name], recurrent_dropout=p), H100, torch.bfloat16, "bfloat16") for p in (0.0, 0.1)
    )
    assert [one[:2] + one[3:] for one in masked] == [one[:2] + one[3:] for one in plain]


def test_the_instructions_of_a_barrier_are_read_in_order() -> None:
    right = ["MEMBAR.ALL.GPU", "ERRBAR", "REDG.E.ADD.STRONG.GPU", "BAR.SYNC", "LDG.E.STRONG.GPU", "CCTL.IVALL"]
    right += ["BAR.SYNC.DEFER_BLOCKING 0x0", "LDG.E.128"]
    assert ahead.barriers(right + right) == 2
    for missing in ("REDG.E.ADD.STRONG.GPU", "LDG.E.STRONG.GPU", "CCTL.IVALL"):
        with pytest.raises(ValueError, match="expected"):
            ahead.barriers([text for text in right if text != missing])
    with pytest.raises(ValueError, match="no other load in it, got"):
        ahead.barriers([*right[:4], "LDGSTS.E.BYPASS.128", *right[4:]])


def _started(case: Case, dtype: torch.dtype) -> tuple[list[Started], Counting]:
    """Launches that reach the driver of an H100 in a training step, and its torch operators."""
    counting = Counting()
    with on(H100, dtype_name(dtype)), stand_in(90, STREAM) as driver:
        training_step(case, dtype, torch.device("cpu"), counting)
    return driver.started, counting


@for_a_card
@pytest.mark.parametrize(
    ("name", "dtype", "layer_norm"),
    [
        ("small", torch.float32, False),
        ("small", torch.bfloat16, True),
        ("medium", torch.float32, True),
        ("char-ptb", torch.bfloat16, False),
    ],
    ids=["small-float32", "small-bfloat16-norm", "medium-float32-norm", "char-ptb-bfloat16"],
)
def test_what_reaches_a_driver(name: str, dtype: torch.dtype, layer_norm: bool) -> None:
    """Through Triton's own launch code, at any length: one kernel forward, two backward, and few operators."""
    case = replace(WORKLOADS[name], layer_norm=layer_norm)
    lengths = [(3, *[1] * (case.B - 1)), (5, *[4] * (case.B - 1))]
    cases = [replace(case, T=2), replace(case, T=5), *(replace(case, T=one[0], lengths=one) for one in lengths)]
    cases += [replace(one, recurrent_dropout=0.1) for one in cases[1:3]]
    for launches, counting in (_started(one, dtype) for one in cases):
        assert [one.name for one in launches] == ["forward_steps", "rebuild", "backward_steps"]
        for one in launches:
            assert one.stream == STREAM
            assert one.zero, "counters of arrivals are not 0"
            if one.name != "rebuild":
                assert one.grid[0] <= H100.multiprocessors
                assert one.cooperative == (one.grid[0] > -(-case.B // 16))
        assert counting.operators + counting.views <= OPERATORS


@for_a_card
def test_a_pass_reads_nothing_back_and_can_be_captured() -> None:
    """No operator copies to the host and none waits, as a capture demands; packed sequences copy from the host."""
    case = replace(WORKLOADS["small"], T=3)
    _, counting = _started(case, torch.bfloat16)
    assert not counting.names & {"_local_scalar_dense", "item", "nonzero", "is_nonzero", "_to_cpu", "equal"}
    assert not counting.from_host, "a batch copies nothing from the host"
    _, counting = _started(replace(case, lengths=(3, *[2] * (case.B - 1))), torch.bfloat16)
    assert counting.from_host == 2, "packed sequences copy one small array, for each pass"


@for_a_card
def test_the_model_predicts(keep: Keep) -> None:
    rows = pd.DataFrame(predictions())
    for row in rows.to_dict("records"):
        keep("predicted", **row)
    assert (rows["members"] * rows["groups"] <= 132).where(rows["members"] > 1, True).all()
    h100 = rows[(rows["card"] == "H100") & (rows["layer_norm"] == "off")]
    for (workload, arithmetic), most in PREDICTED.items():
        here = h100[(h100["workload"] == workload) & (h100["arithmetic"] == arithmetic)]
        assert set(here["pass"]) == {"forward", "backward"}
        assert here["pass_ms"].sum() <= most


@for_a_card
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
