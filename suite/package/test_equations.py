"""The equations, shapes and counts of impls/README.md are those of the code."""

import math
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from impls import HyperLSTM
from impls.definition import Inputs, LayerParams, LayerState, Mask, shapes
from impls.registry import ORACLE, find
from suite.cases.case import Case
from suite.comparison.tensors import OUTPUTS
from suite.package.documents import IMPLS, codes, evaluated, table
from suite.package.equations import Layer, assigned, by_index, said

#: No two alike, and larger than the number of gates.
I, H, S, Z = 8, 7, 6, 5
T, B = 3, 2
Tensors = dict[str, Tensor]


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "norm"])
def results(request: pytest.FixtureRequest) -> tuple[Tensors, Tensors]:
    """Output, final state, and all gradients by name, of the page and of the oracle."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    parameters = {name: drawn(*shape) for name, shape in shapes(I, H, S, Z, layer_norm=request.param).items()}
    x, d_out, mask = drawn(T, B, I), drawn(T, B, H), Mask(drawn(T, B, H) > 0, 2.0)
    start, d_last = (LayerState(*(drawn(B, units) for units in (H, H, S, S))) for _ in range(2))

    layer = Layer(parameters)
    steps = layer.forward(x, start, mask.kept * mask.scale)
    of_page = {name: steps[-1][f"{name}_t"][..., 0] for name in start._fields}
    of_page |= {"out": torch.stack([step["h_t"] for step in steps])[..., 0], **layer.backward(steps, d_out, d_last)}

    leaves = {**parameters, "dx": x, **{f"d{name}": value for name, value in start._asdict().items()}}
    for leaf in leaves.values():
        leaf.requires_grad_()
    out, last = find(ORACLE).run(LayerParams(**parameters), Inputs(x, start, mask))
    of_oracle = dict(zip(leaves, torch.autograd.grad([out, *last], [*leaves.values()], [d_out, *d_last]), strict=True))
    for name in parameters:
        of_oracle |= {" ".join((name, *key)): part for key, part in by_index(of_oracle.pop(name)).items()}
    return of_page, {**last._asdict(), "out": out.detach(), **of_oracle}


def same(results: tuple[Tensors, Tensors], select: Callable[[str], bool]) -> None:
    of_page, of_oracle = ({name: value for name, value in one.items() if select(name)} for one in results)
    torch.testing.assert_close(of_page, of_oracle, rtol=1e-9, atol=1e-9)


def test_the_step_is_that_of_the_oracle(results: tuple[Tensors, Tensors]) -> None:
    same(results, OUTPUTS.__contains__)


def test_the_gradient_is_that_of_autograd(results: tuple[Tensors, Tensors]) -> None:
    same(results, lambda name: name not in OUTPUTS)


UNKNOWN = ["c_t = c_{t-1} ⊙ h_t", "c_t = N c_{t-1}", "u[k] += c_t", "c_t = h_t    now of h_t", "c_t"]


@pytest.mark.parametrize("line", UNKNOWN)
def test_a_line_that_is_not_understood_is_shown(line: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"not understood: {line}")):
        assigned([f"    {line}"], {"c_before": 1.0, "h_t": 1.0, "c_t": 1.0})


SIZES = {"I": I, "H": H, "S": S, "Z": Z}


def test_the_shapes_are_those_of_the_parameters() -> None:
    shown = dict[str, tuple[int, ...]]()
    for names, cell, _ in table(IMPLS, "name"):
        of_row = evaluated(f"[{cell}]", SIZES)
        of_row = of_row * len(codes(names)) if len(of_row) == 1 else of_row
        shown |= dict(zip(codes(names), map(tuple, of_row), strict=True))
    assert [*shown.items()] == [*shapes(I, H, S, Z, layer_norm=True).items()]


def test_the_numbers_of_parameters_are_those_of_the_code() -> None:
    counts = said(r"has `(.*?)` parameters, and `(.*?)` more with layer norm\. An LSTM with one bias has `(.*?)`\.")
    plain, norms, of_lstm = (evaluated(count, SIZES) for count in counts)
    with_norms, without = (shapes(I, H, S, Z, layer_norm=layer_norm).values() for layer_norm in (True, False))
    assert plain == sum(map(math.prod, without))
    assert plain + norms == sum(map(math.prod, with_norms))
    assert of_lstm == sum(p.numel() for p in nn.LSTM(I, H).parameters()) - 4 * H  # which has two


def test_the_general_form_is_the_row_scaled_one_if_its_weights_are_as_the_page_says() -> None:
    """The page's indices are those of products in `torch.einsum`."""
    of_w, of_general, of_z = said(r"`W_h\[k\]\[(.*?)\] = Σ_n W_hz\[k\]\[(.*?)\] z\[h, k\]\[(.*?)\]`")
    of_tied, of_d, of_weight = said(
        r"With `W_hz\[k\]\[(.*?)\] = d_weight\[h, k\]\[(.*?)\] weight_h\[k\]\[(.*?)\]` the two are equal"
    )
    shown = {name: torch.randn(shape) for name, shape in (("d", (H, Z)), ("weight", (H, H)), ("z", (Z,)), ("h", (H,)))}
    general = torch.einsum(f"{of_d},{of_weight}->{of_tied}".replace(", ", ""), shown["d"], shown["weight"])
    w = torch.einsum(f"{of_general},{of_z}->{of_w}".replace(", ", ""), general, shown["z"])
    torch.testing.assert_close(w @ shown["h"], (shown["d"] @ shown["z"]) * (shown["weight"] @ shown["h"]))


def test_initial_scales_are_what_the_page_says_whatever_the_state() -> None:
    scale, of_z, of_d = said(
        r"every scale is ([\d.]+) whatever ĥ is: `(\w+)` for h and x is 0, and so is `(\w+)` for the bias"
    )
    layer = HyperLSTM(I, H, S, Z, 1, dtype=torch.float64).layers[0]
    parameters = {name: value.detach() for name, value in layer.named_parameters()}
    assert not parameters[of_z][:2].any()
    assert not parameters[of_d][2].any()
    start = LayerState(*(torch.randn(B, units, dtype=torch.float64) for units in (H, H, S, S)))
    x = torch.randn(T, B, I, dtype=torch.float64)
    for values in Layer(parameters).forward(x, start, torch.ones(T, B, H, dtype=torch.float64)):
        for scales in (values["d_h"], values["d_x"]):
            for each in scales.values():
                torch.testing.assert_close(each, torch.full_like(each, float(scale)))


def test_the_costs_are_those_that_the_benchmark_counts() -> None:
    costs = [evaluated(formula, SIZES) for _, cell in table(IMPLS, "product") for formula in codes(cell)]
    assert T * B * sum(costs) == Case(T, B, I, H, S, Z).multiply_adds()
