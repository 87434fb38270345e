"""The kernels of `batched_cuda` without a GPU: interpreted, every address traced, and compiled for cards not here.

`nox -s kernels` compiles for every card too.
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from impls import why_unavailable
from impls.batched_cuda import split
from impls.batched_cuda.split import H100, Card
from suite.cases.workloads import WORKLOADS
from suite.checks.equality.held import held
from suite.checks.equality.tasks import PLAIN
from suite.checks.equality.values import error_of_cells_far_from_0
from suite.checks.faults.planting import stale
from suite.checks.faults.reach import unmet
from suite.checks.recording import Record
from suite.checks.triton import TRITON, compiled, instructions, interpreted
from suite.checks.triton.ahead import of_checks
from suite.checks.triton.instructions import Instruction
from suite.checks.triton.launched import recorded
from suite.shared.process import ProcessError, killed_with, run

pytestmark = [
    pytest.mark.triton,
    pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed."),
]
more = pytest.mark.thorough("other cases of batched_cuda, interpreted")
for_a_card = pytest.mark.thorough("kernels compiled for a card that is not here, and what would reach it")
KERNELS = ["forward_steps", "rebuild", "backward_steps"]
#: Most torch operator calls of a training step of one chunk, views included. A batch without layer norm has 60, four of
#: them to line up the states before the first step; packed sequences and layer norm have up to 15 more.
OPERATORS = 75
#: The operator that makes a tensor of what Python has. Those that wait for a GPU raise an error on meta tensors.
FROM_HOST = "aten::lift_fresh"
#: A card of `split.py`, and the name and capability by which a device is known for it.
DEVICES = [
    (split.H100, "NVIDIA H100 80GB HBM3", 9, 0),
    (split.A100, "NVIDIA A100-SXM4-80GB", 8, 0),
    (split.L4, "NVIDIA L4", 8, 9),
    (split.RTX_4090, "NVIDIA GeForce RTX 4090", 8, 9),
]


@pytest.fixture(scope="module")
def interpreter() -> Iterator[ProcessPoolExecutor]:
    """A process with Triton's interpreter on, and with one thread."""
    with ProcessPoolExecutor(1, get_context("spawn"), killed_with, (os.getpid(),)) as pool:
        with pytest.MonkeyPatch.context() as environment:
            for variable in ("TRITON_INTERPRET", "OMP_NUM_THREADS"):
                environment.setenv(variable, "1")
            pool.submit(interpreted.prepare).result()
        yield pool


@for_a_card
def test_compiled_kernels_fit_their_card() -> None:
    unfit = compiled.unfit((*what, compiled.SMALLEST) for what in compiled.SOME)
    assert not unfit, "\n".join(unfit)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, id=name, marks=() if each.default else more) for name, each in interpreted.SOME.items()],
)
def test_interpreted_equals_the_oracle_without_a_race(
    name: str, interpreter: ProcessPoolExecutor, device: torch.device, record: Record
) -> None:
    comparison = interpreted.SOME[name]
    worst, wrong = interpreter.submit(interpreted.compared, name).result()
    # On a card the row is that of a run there.
    if comparison.group == PLAIN and why_unavailable(TRITON, device) is not None:
        oracle = comparison.oracle.name
        record(TRITON, comparison.dtype, comparison.id, worst, oracle=oracle, interpreted=True, case=comparison.case)
    assert not worst.wrong, str(worst)
    assert not wrong


def test_every_fault_of_a_call_applies() -> None:
    reasons = stale(interpreted.edited(fault) for fault in interpreted.FAULTS.values())
    assert not reasons, reasons


@pytest.mark.thorough("planted faults of batched_cuda's calls, interpreted")
@pytest.mark.parametrize("fault", interpreted.FAULTS)
def test_a_fault_of_a_call_is_caught(fault: str, interpreter: ProcessPoolExecutor) -> None:
    if reason := interpreted.edited(interpreted.FAULTS[fault]).stale():
        pytest.skip(reason)
    assert interpreter.submit(interpreted.caught, fault).result()


def test_sums_over_chunks_keep_small_parts(interpreter: ProcessPoolExecutor) -> None:
    """In bfloat16, where the tolerance rule allows what a sum in bfloat16 loses."""
    assert interpreter.submit(interpreted.lost).result() < 0.01


def test_cells_are_not_in_half_precision(interpreter: ProcessPoolExecutor) -> None:
    cpu = torch.device("cpu")
    assert interpreter.submit(error_of_cells_far_from_0, TRITON, cpu).result() < 0.05


def test_many_interpreted_steps_hold_no_memory(interpreter: ProcessPoolExecutor) -> None:
    case = replace(interpreted.OWN, T=1)  # what a launch holds does not depend on it
    assert interpreter.submit(held, TRITON, case, torch.device("cpu")).result() == 0


def test_an_interpreted_case_meets_each_condition() -> None:
    conditions = unmet(comparison.case for comparison in interpreted.WIDE)
    assert conditions == ["B above 256", "H of 500 or more", "T B above 256"], "which take minutes"


def test_a_barrier_in_another_order_is_found() -> None:
    right = ["STG.E", "BAR.SYNC 0x0", "MEMBAR.ALL.GPU", "ERRBAR", "REDG.E.ADD.STRONG.GPU", "BAR.SYNC 0x0"]
    right += ["LDG.E.STRONG.GPU", "CCTL.IVALL", "BAR.SYNC.DEFER_BLOCKING 0x0", "LDG.E.128"]
    assert instructions.barriers(right + right) == 2
    for missing in (1, 4, 6, 7):
        with pytest.raises(ValueError, match="barrier 1: expected"):
            instructions.barriers([*right[:missing], *right[missing + 1 :]])
    with pytest.raises(ValueError, match=r"expected BAR\.SYNC between all writes and the fence, got 'STG.E'"):
        instructions.barriers([right[1], right[0], *right[2:]])
    with pytest.raises(ValueError, match="no other load in it, got"):
        instructions.barriers([*right[:5], "LDGSTS.E.BYPASS.128", *right[5:]])


def test_groups_of_loads_are_counted() -> None:
    """With a barrier in between there are two; another iteration of an unrolled loop does not count."""
    texts = ["LDG.E.64 R0", "BAR.SYNC 0x0", "LDG.E.64 R0"]
    loop = [Instruction(text, ("kernel", "sums"), (line,)) for line, text in enumerate(texts)]
    assert instructions.groups(loop) == instructions.groups([*loop, *loop]) == {"sums": 2}


def of(*texts: str, inner: str = "dot") -> list[Instruction]:
    """Instructions of a loop of `sums`, in a function that it calls."""
    return [Instruction(text, ("kernel", "sums", inner), (1, 2, 3)) for text in texts]


def test_products_that_warps_repeat_are_counted() -> None:
    """Of a loop that is unrolled once, with three stages; instructions of groups of warps do not count."""
    turn = of("HMMA.1688.F32.TF32 R4, R8, R12, R4", "HMMA.1688.F32.TF32 R4, R8.reuse, R12, R4")
    copies = of(*["LDGSTS.E.BYPASS.128 [R2], [R4.64]", "LDGDEPBAR"] * 4, inner="weights")
    assert instructions.products_a_turn([*copies, *turn, *turn], 3) == {("sums", 2): 16}
    assert instructions.products_a_turn([*copies, *of("HMMA.16816.F32.BF16 R4, R8, R12, R4")], 4) == {("sums", 2): 16}
    assert not instructions.products_a_turn(of("HGMMA.64x64x16.F32.BF16 R4, gdesc[UR8], R4"), 3)


def test_weights_that_are_rounded_in_a_loop_are_found() -> None:
    """The right operand of a product; the left one, which is h, is rounded there."""
    load, product = of("LDS.64 R12, [R2]", inner="weights"), of("HMMA.1688.F32.TF32 R4, R8, R12, R4")
    rounded = [of(f"LOP3.LUT R{n}, R{n}, 0xffffe000, RZ, 0xc0, !PT", inner="tf32") for n in (8, 12)]
    assert instructions.rounded_weights([*load, *rounded[0], *product]) == []
    assert instructions.rounded_weights([*rounded[1], *load, *product]) == [], "written again"
    assert instructions.rounded_weights([*load, *rounded[0], *rounded[1], *product]) == ["sums"]


def test_the_narrowest_load_of_weights_is_found() -> None:
    """By the instruction's own width: addresses of 64 bits are in the same line."""
    wide = of("LDGSTS.E.BYPASS.LTC128B.128 [R2], desc[UR4][R4.64]", "LDG.E.128 R4, [R2.64]", inner="some_columns")
    assert instructions.narrowest_weights(wide) == {"sums": 16}
    for text, width in {
        "LDG.E.U16 R4, [R2.64]": 2,
        "LDG.E R82, desc[UR16][R26.64]": 4,
        "LDGSTS.E.64 [R2], [R4]": 8,
    }.items():
        assert instructions.narrowest_weights([*wide, *of(text, inner="weights")]) == {"sums": width}
        assert instructions.narrowest_weights([*wide, *of(text, inner="load4")]) == {"sums": 16}, "no weights"


def test_a_card_has_the_rates_of_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    for device, (card, named, major, minor) in enumerate(DEVICES):
        properties = {"multiprocessor_count": card.multiprocessors, "max_shared_mem": card.shared}
        active = SimpleNamespace(utils=SimpleNamespace(get_device_properties=lambda device, result=properties: result))
        monkeypatch.setattr("triton.runtime.driver", SimpleNamespace(active=active))
        about = SimpleNamespace(name=named, major=major, minor=minor)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device, result=about: result)
        assert Card.of(torch.device("cuda", 1000 + device)) == card


@pytest.mark.parametrize("layer_norm", [False, True], ids=["off", "on"])
@pytest.mark.parametrize("name", ["small", "char-ptb"])
def test_what_a_step_starts(name: str, layer_norm: bool) -> None:
    """At any length one kernel forward, two backward, and few operators.

    Neither alignment nor values specialise a kernel: a launch needs just what was compiled before.
    No operator copies to the host or waits, as a capture demands; packed sequences copy a small array from the host
    forward, and two backward.
    """
    case = replace(WORKLOADS[name].case, layer_norm=layer_norm)
    lengths = [(3, *[1] * (case.B - 1)), (5, *[4] * (case.B - 1))]
    cases = [replace(case, T=2), replace(case, T=5), *(replace(case, T=one[0], lengths=one) for one in lengths)]
    cases += [replace(one, recurrent_dropout=0.1) for one in cases[1:3]]
    for one_case in cases:
        launches, operators = recorded(one_case, H100, "bfloat16")
        assert [one.kernel.fn.__name__ for one in launches] == KERNELS
        assert all(p.is_constexpr or p.do_not_specialize for one in launches for p in one.kernel.params)
        for one in launches[::2]:  # whose programs may wait for one another
            assert one.programs <= H100.multiprocessors
            assert one.options["launch_cooperative_grid"] == (one.programs > -(-case.B // 16))
        assert len(operators) <= OPERATORS
        assert operators.count(FROM_HOST) == (3 if one_case.lengths else 0), "small arrays of packed sequences"


@for_a_card
def test_every_kernel_of_a_verification_is_compiled_before_it(tmp_path: Path) -> None:
    """Those that tests of a default run start on an H100, but what only a GPU runs; the plugin starts none."""
    chosen = ("-k", f"{TRITON} and not not_finite", "--device", "cpu", "--results", str(tmp_path / "results"))
    folders = [f"suite/checks/{name}" for name in ("equality", "module")]
    plugins = ("-p", "suite.checks.triton.noted", "-p", "no:benchmark", "-p", "no:cacheprovider")
    noted = str(tmp_path / "noted")
    with suppress(ProcessError):  # tests that compare by themselves fail
        run(
            "pytest", *folders, *chosen, *plugins,
            PYTEST_XDIST_WORKER=None, TRITON_INTERPRET="1", OMP_NUM_THREADS="1", HYPERLSTM_NOTED=noted,
        )  # fmt: skip
    started = json.loads(Path(noted).read_text())
    every = {repr(k._replace(arithmetic="")) for way in of_checks(False) for k in way.kernels(90, H100)}
    assert len(started) > 400
    assert not {test for kernel, test in started.items() if kernel not in every}
