"""What is computed with torch's operators multiplies as often as its equations do, and torch's counter counts so."""

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.utils import flop_counter
from torch.utils.flop_counter import FlopCounterMode

from impls.gradient import operator
from impls.gradient.chunks import limited
from impls.registry import IMPLS, find
from suite.candidates import submission
from suite.cases.case import Case
from suite.checks.implementations import skip_unless_checked
from suite.comparison.draws import model_and_draw
from suite.comparison.runs import arguments, backward, outputs, plain
from suite.shared import process, usage
from suite.shared.marks import impl_param, impl_params

CPU = torch.device("cpu")
OURS = [impl for impl in IMPLS if impl.name not in submission.files()]
#: Implementations whose arithmetic is torch's.
OF_TORCH = [impl.name for impl in OURS if not impl.probe]
_PLAIN = Case(T=3, B=2, I=7, H=11, S=5, Z=3, L=2, state="stacked")
#: Sizes that no other product has, and the options on which products could depend.
CASES = (
    _PLAIN,
    replace(_PLAIN, layer_norm=True),
    replace(_PLAIN, dropout=0.5, recurrent_dropout=0.5),
    replace(_PLAIN, lengths=(3, 2)),
    replace(_PLAIN, lengths=(1, 3), layer_norm=True, dropout=0.5, recurrent_dropout=0.5),
)


@pytest.fixture(params=impl_params([*(impl.name for impl in OURS if impl.hand_written), "batched"]))
def name(request: pytest.FixtureRequest, device: torch.device) -> str:
    """Every implementation with operators that runs here, and one that autograd differentiates."""
    skip_unless_checked(request.param, device)
    return str(request.param)


def counted(call: Callable[[], object]) -> int:
    """FLOPs of a call, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        call()
    total: int = counter.get_total_flops()
    return total


def flops(name: str, case: Case, device: torch.device, frozen: Collection[str] = ()) -> tuple[int, int]:
    """FLOPs of the forward pass and of the backward pass of a call in which all but `frozen` has a gradient."""
    model, sample = model_and_draw(name, case, torch.float32, device)
    leaves = arguments(model, sample, lambda leaf: leaf not in frozen)
    with FlopCounterMode(display=False) as forward:
        results = outputs(model, case, leaves)
    return forward.get_total_flops(), counted(partial(backward, results, sample))


@pytest.mark.parametrize("case", CASES[:1] + CASES[-1:], ids=lambda case: case.id)
def test_a_pass_has_the_flops_of_its_multiply_adds(name: str, case: Case, device: torch.device) -> None:
    """And backward twice as many."""
    assert flops(name, case, device) == (2 * case.multiply_adds(), 4 * case.multiply_adds())


def test_what_is_frozen_takes_no_flops(name: str, device: torch.device) -> None:
    case = replace(CASES[0], L=1)
    T, B, I, H, S, Z = case.T, case.B, case.I, case.H, case.S, case.Z
    _, every = flops(name, case, device)
    weights = ("layers.0.weight_x", "layers.0.hyper_weight_x")
    products = {
        weights: 4 * (H + S) * I,
        ("layers.0.hyper_weight_s",): 4 * S * S,
        ("layers.0.z_weight",): 12 * Z * S,
        ("layers.0.d_weight",): 12 * H * Z,
        ("x", *weights): 4 * (H + S) * I * 2,
    }
    spared = {frozen: every - flops(name, case, device, frozen)[1] for frozen in products}
    assert spared == {frozen: 2 * T * B * numbers for frozen, numbers in products.items()}


def test_an_open_counter_counts_an_operator_that_is_new_to_torch(
    name: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call imports the operators, which may be after the counter copied torch's formulas."""
    others = {key: formula for key, formula in flop_counter.flop_registry.items() if "hyperlstm" not in str(key)}
    monkeypatch.setattr(flop_counter, "flop_registry", others)
    assert flops(name, CASES[0], device)[0] == 2 * CASES[0].multiply_adds()


def test_no_call_imports_the_counter() -> None:
    """Its import takes a tenth of a second and more, since it imports Triton."""
    process.run("suite.checks.cost.slow_imports", *OF_TORCH[1:], "auto")


def of_built_weights(case: Case) -> int:
    """Multiply-adds where weights are built: of the main LSTM's, Z to build each, and one to multiply with it."""
    H, S, Z = case.H, case.S, case.Z
    steps = [4 * H * (H + I) * (Z + 1) + 4 * S * (H + I + S) + 12 * Z * S + 4 * H * Z for I in case.inputs]
    return case.tokens * sum(steps)


def recomputed(case: Case, residuals: bool) -> int:
    """Multiply-adds that a hand-written backward pass recomputes, and with h too if no residuals are saved.

    They are the products with x, z, d, and the hyper LSTM's product with h_hat.
    """
    H, S, Z = case.H, case.S, case.Z
    steps = [4 * (H + S) * I + 12 * Z * (H + S) + 4 * S * S for I in case.inputs]
    return case.tokens * (sum(steps) + (0 if residuals else case.L * 4 * (H + S) * H))


@pytest.mark.parametrize(
    ("name", "case"),
    # The reference forms are slow.
    [impl_param(name, case) for name in OF_TORCH for case in (CASES[::4] if find(name).literal else CASES)],
    ids=lambda value: value.id if isinstance(value, Case) else value,
)
def test_each_product_of_the_equations_is_computed_once(name: str, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """And twice as often backward, in one chunk or several; counted below the operators of a hand-written gradient."""
    monkeypatch.setattr(operator, "_observed", lambda *_: False)  # else a counter would see an operator alone
    model, sample = model_and_draw(name, case, torch.float64, CPU)
    once = of_built_weights(case) if find(name).builds_weights else case.multiply_adds()
    settings: list[dict[str, int]] = [{}]  # by default residuals are saved, and this is one chunk
    if find(name).hand_written:
        settings.append({"residuals": False, "rows": 4})
    for changed in settings:
        with limited("cpu", **changed):
            leaves = arguments(model, sample, lambda _: False)
            forward = counted(partial(outputs, model, case, leaves))
            train = counted(partial(plain, model, case, sample))
        again = recomputed(case, residuals=not changed) if find(name).hand_written else 0
        assert (forward, train) == (2 * once, 2 * (3 * once + again))


@pytest.mark.parametrize("name", impl_params(["batched", "deferred", "batched_cpu"]), indirect=True)
def test_a_step_copies_no_large_weight(name: str) -> None:
    """At most a call does, once for all steps."""

    def copies(T: int) -> int:
        case = Case(T=T, B=1, I=8, H=64, S=8, Z=2)
        model, sample = model_and_draw(name, case, torch.float32, CPU)
        weight = dict(model.named_parameters())["layers.0.weight_h"]
        with torch.no_grad(), usage.allocations(CPU) as sizes:
            model(sample.x)
        return len([size for size in sizes if size >= weight.nbytes])

    assert copies(9) == copies(5)
