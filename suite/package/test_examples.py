"""The Python of the pages, in blocks, cells and sentences, does what is said of it."""

import ast
import inspect
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils.rnn import pack_sequence, unpack_sequence

from impls import HyperLSTM
from impls.definition import Inputs, LayerParams, LayerState
from impls.gradient import HandWritten, as_operator
from impls.registry import find
from suite.comparison.tensors import STATES, parameter
from suite.package.documents import (
    IMPLS,
    README,
    USAGE,
    WRITTEN,
    assigned,
    blocks,
    codes,
    evaluated,
    inline_code,
    name_of,
    pages_where,
    said,
    table,
)

pytestmark = pytest.mark.usefixtures("_installed")
#: Sizes of which no two are alike.
T, B, I, H, S, Z, L = 6, 7, 3, 5, 4, 2, 1
SIZES = {"T": T, "B": B, "I": I, "H": H, "S": S, "Z": Z, "L": L}


@pytest.fixture
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `hyperlstm` be the package, as where it is installed."""
    for name, module in [*sys.modules.items()]:
        if name.split(".")[0] == "impls":
            monkeypatch.setitem(sys.modules, name.replace("impls", "hyperlstm", 1), module)


def run_again(page: Path) -> dict[str, Any]:
    """Run a page's blocks of Python one after the other, and return the names that they define."""
    defined: dict[str, Any] = {"__name__": f"blocks_of_{page.parent.name}_{page.stem}"}
    for number in range(len(blocks(page, "python"))):
        run_block(page, number, defined)
    return defined


def run_block(page: Path, number: int, defined: dict[str, Any]) -> None:
    """Run one block of a page's Python with the names that are defined; an error shows the page's line."""
    block = blocks(page, "python")[number]
    assert block.map
    lines = "\n" * (block.map[0] + 1)
    exec(compile(lines + block.content, str(page), "exec"), defined)


#: The same, run once for several tests.
run = cache(run_again)


@pytest.mark.parametrize("page", pages_where(lambda page: blocks(page, "python"), WRITTEN), ids=name_of)
def test_python_runs(page: Path) -> None:
    run(page)


def test_comments_say_the_axes_of_results_in_their_order() -> None:
    """The first example of README.md has an input [T, B, I]."""
    (example, *_) = [block.content for block in blocks(README, "python")]
    sizes = dict(zip("TBI", map(int, re.findall(r"randn\((\d+), (\d+), (\d+)\)", example)[0]), strict=True))
    defined = run(README)
    sizes["hidden_size"] = defined["model"].hidden_size
    assert len({*sizes.values()}) == len(sizes), "expected sizes that differ"
    (axes,) = re.findall(r"# out \[([\w, ]+)\]", example)
    assert tuple(sizes[axis] for axis in axes.split(", ")) == defined["out"].shape


def test_each_step_of_the_training_loop_has_the_gradient_of_its_loss_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all parameters, in a second step too, which finds the gradients of the first."""
    at_steps = list[dict[Tensor, Tensor | None]]()

    def step(optimizer: torch.optim.Adam) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        at_steps.append({p: None if p.grad is None else p.grad.clone() for p in parameters})

    monkeypatch.setattr(torch.optim.Adam, "step", step)  # which changes no parameter
    defined = run_again(README)
    run_block(README, 1, defined)
    loss = nn.functional.mse_loss(defined["model"](defined["x"])[0], defined["target"])
    parameters = [*defined["model"].parameters()]
    expected = torch.autograd.grad(loss, parameters)
    _, second = at_steps
    torch.testing.assert_close([second.get(p) for p in parameters], [*expected])


def test_weights_decay_and_biases_and_norms_do_not() -> None:
    """Each parameter is in one group of the optimizer."""
    model = HyperLSTM(50, 64, 16, 4, 1, layer_norm=True)
    defined = run(USAGE) | {"model": model}
    for name in ("decayed", "not_decayed", "optimizer"):
        (value,) = assigned(USAGE, name)
        defined[name] = eval(compile(ast.Expression(value), "<USAGE.md>", "eval"), defined)
    groups = defined["optimizer"].param_groups
    decays = [(id(p), group["weight_decay"] > 0) for group in groups for p in group["params"]]
    expected = []
    for name, p in model.named_parameters():
        role = parameter(name).role
        assert role is not None
        expected.append((id(p), not (role.of_bias or role.of_norm)))
    assert sorted(decays) == sorted(expected)


def test_weights_are_initialised_gate_by_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole tensor has other numbers of inputs and outputs."""
    initialised = list[Tensor]()
    monkeypatch.setattr(nn.init, "xavier_uniform_", initialised.append)
    model = run_again(USAGE)["model"]
    weight = model.layers[0].weight_x
    assert [gate.data_ptr() for gate in initialised] == [gate.data_ptr() for gate in weight]
    (axes,) = said(USAGE, r"for gate in [\w.\[\]]+: # (\[.*?\])")
    sizes = {"I": model.input_size, "H": model.hidden_size}
    assert {tuple(gate.shape) for gate in initialised} == {tuple(evaluated(axes, sizes))}


def test_a_registered_parametrization_keeps_the_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a trained model is damaged where it is registered."""
    weight = torch.randn(4, 6, 5)
    norm = run(USAGE)["NormOfRows"](weight)
    torch.testing.assert_close(norm(norm.right_inverse(weight)), weight)
    register = parametrize.register_parametrization
    registered = list[str]()

    def noted(layer: nn.Module, name: str, parametrization: nn.Module) -> None:
        before = getattr(layer, name).detach().clone()
        register(layer, name, parametrization)
        torch.testing.assert_close(getattr(layer, name), before)
        registered.append(name)

    monkeypatch.setattr(parametrize, "register_parametrization", noted)
    run_again(USAGE)
    assert len(registered) == 1


def test_torchs_weight_norm_and_that_of_the_page_have_the_magnitudes_that_it_says() -> None:
    model = HyperLSTM(I, H, S, Z, L)
    parametrizations.weight_norm(model.layers[0], "weight_h")
    of_torch: Any = model.layers[0]
    of_page = run(USAGE)["NormOfRows"](torch.randn(4, H, H))
    counts = [of_torch.parametrizations.weight_h.original0.numel(), of_page.magnitude.numel()]
    words = said(USAGE, r"`weight_norm`\*\* gives a (\w+) one magnitude, instead of one for each (\w+)\.")
    assert [{"gate": 4, "row": 4 * H}[word] for word in words] == counts


def states(page: Path) -> list[tuple[str, ...]]:
    """Names of the states in each tuple of them that a page has."""
    written = [block.content for block in blocks(page, "python")]
    written += [code for code in inline_code(page) if {*STATES} <= {*re.findall(r"\w+", code)}]
    tuples = [node for code in written for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Tuple)]
    names = [tuple(part.id for part in node.elts if isinstance(part, ast.Name)) for node in tuples]
    return [names_of for names_of in names if {*names_of} == {*STATES}]


@pytest.mark.parametrize("page", pages_where(states, WRITTEN), ids=name_of)
def test_states_are_in_their_order(page: Path) -> None:
    """Two of them have the same shape where H = S, and any may be plotted."""
    assert {*states(page)} == {STATES}


@pytest.fixture
def numbers() -> dict[str, Any]:
    """`model`, `lstm` and what they take, under the names that the page of use gives them."""
    torch.manual_seed(0)
    state = [torch.randn(L, B, units) for units in (H, H, S, S)]
    named = dict(zip(map(str, STATES), state, strict=True))
    return {"model": HyperLSTM(I, H, S, Z, L), "lstm": nn.LSTM(I, H, L), "x": torch.randn(T, B, I), **named}


def test_calls_beside_those_of_torchs_lstm_return_and_take_what_is_named(numbers: dict[str, Any]) -> None:
    rows = {left: right for left, right in table(USAGE, "`torch.nn.LSTM`") if "(x" in left}
    (returned,) = [left for left in rows if "=" in left]
    (taken,) = rows.keys() - {returned}
    model, x = numbers["model"], numbers["x"]
    for code in codes(returned):
        exec(code, defined := {**numbers})
        assert torch.equal(defined["h"], numbers["lstm"](x)[1][0])
    assert len(codes(rows[returned])) == 2
    last = dict(zip(STATES, model(x)[1], strict=True))
    for code in codes(rows[returned]):
        given = {name: numbers[name] for name in ("model", "x")}
        exec(code, defined := {**given})
        assert {"h", "c"} <= defined.keys()
        assert all(torch.equal(defined[name], last[name]) for name in last.keys() & defined.keys()), code
    (code,) = codes(taken)
    torch.testing.assert_close(eval(code, numbers), numbers["lstm"](x, (numbers["h"], numbers["c"])))
    (code,) = codes(rows[taken])
    state = tuple(numbers[name] for name in STATES)
    torch.testing.assert_close(eval(code, numbers), model(x, state))
    *two, shape, other = said(USAGE, r"\)\)`: (\w+) and (\w+) are (\[.*?\]), the other two (\[.*?\])\.")
    for name in STATES:
        assert [*numbers[name].shape] == evaluated(shape if name in two else other, SIZES)


def test_arguments_beside_those_of_torchs_lstm_exist_or_do_not() -> None:
    """Where the page says `the same`, both have it; where it says none or two models, ours has it not."""
    arguments = inspect.signature(HyperLSTM).parameters
    of_lstm = set(inspect.signature(nn.RNNBase.__init__).parameters)
    names = set[str]()
    for left, right in table(USAGE, "`torch.nn.LSTM`"):
        for code in codes(left):
            name = code.partition("=")[0]
            if name not in of_lstm:
                continue
            names.add(name)
            if right.startswith("the same"):
                assert name in arguments
            elif right.startswith(("none", "two models")):
                assert name not in arguments
            else:
                argument, _, value = codes(right)[0].partition("=")
                assert value == code.partition("=")[2]
                assert (arguments[argument].default is inspect.Parameter.empty) == ("there is no default" in right)
    assert names >= {"num_layers", "batch_first", "dropout", "bidirectional", "proj_size", "bias"}
    assert "recurrent_dropout" in arguments


def test_parameters_beside_those_of_torchs_lstm_have_the_shapes_that_are_said(numbers: dict[str, Any]) -> None:
    """Those of the same row read and make as many numbers."""
    lstm, ours = dict(numbers["lstm"].named_parameters()), dict(numbers["model"].named_parameters())
    rows = [(left, right) for left, right in table(USAGE, "`torch.nn.LSTM`") if "layers.0" in right]
    assert len(rows) == 2
    for left, right in rows:
        theirs = [eval(code, lstm) for code in codes(left)]
        of_right = [ours[code] for code in codes(right)]
        for cell, values in ((left, theirs), (right, of_right)):
            shapes = re.findall(r"(?<!`)\[.*?\]", cell)
            assert [[*value.shape] for value in values] == [evaluated(shape, SIZES) for shape in shapes]
        for value, other in zip(theirs, of_right, strict=True):
            assert value.shape == other.flatten(0, 1).shape
    (letter,) = said(USAGE, r"the recurrence always reads (\w) numbers")
    assert ours["layers.0.weight_h"].shape[-1] == SIZES[letter]
    ((code, does),) = [
        (codes(left)[0], right) for left, right in table(USAGE, "`torch.nn.LSTM`") if left.endswith("()`")
    ]
    before = [value.clone() for value in ours.values()]
    assert eval(f"model.{code}", numbers) is None
    assert (does == "does nothing") == all(map(torch.equal, before, ours.values()))


def test_the_bidirectional_model_reads_each_sequence_from_both_ends() -> None:
    torch.manual_seed(0)
    model = run(USAGE)["Bidirectional"](I, H, S, Z, L)
    sequences = [torch.randn(length, I) for length in (2, 5, 1, 5)]
    packed, of_packed = model(pack_sequence(sequences, enforce_sorted=False))
    for row, (x, out) in enumerate(zip(sequences, unpack_sequence(packed), strict=True)):
        alone, states = model(x[:, None])
        torch.testing.assert_close(out, alone[:, 0])
        torch.testing.assert_close(out[:1, :H], model(x[:1, None])[0][:, 0, :H])
        torch.testing.assert_close(out[-1:, H:], model(x[-1:, None])[0][:, 0, H:])
        for direction, of_alone, whole in zip((model.ahead, model.back), states, of_packed, strict=True):
            last = direction(x[:, None] if direction is model.ahead else x[:, None].flip(0))[1]
            torch.testing.assert_close(of_alone, last)
            torch.testing.assert_close(tuple(part[:, row : row + 1] for part in whole), last)
    (axes,) = said(USAGE, r"# out (\[.*?\]), and the final state of each direction")
    assert [*model(torch.randn(T, B, I))[0].shape] == evaluated(axes, SIZES)


def test_bidirectional_models_stack_as_the_page_says() -> None:
    """As the layers of `torch.nn.LSTM`, of which the second reads both directions of the first."""
    count, layers, argument, size = said(
        USAGE, r"stack (\w+) `Bidirectional` with `(n_layers=\d)`; the second has `(\w+)=([\w *]+)`"
    )
    bidirectional = run(USAGE)["Bidirectional"]
    options = {"hidden_size": H, "hyper_size": S, "n_z": Z, **eval(f"dict({layers})")}
    first = bidirectional(input_size=I, **options)
    second = bidirectional(**{argument: eval(size, {"hidden_size": H})}, **options)
    lstm = nn.LSTM(I, H, num_layers=2, bidirectional=True)
    x = torch.randn(T, B, I)
    assert count == "two"
    assert second(first(x)[0])[0].shape == lstm(x)[0].shape
    assert 2 * 2 * options["n_layers"] == len(lstm(x)[1][0])


def out_of(run: Any, dtype: torch.dtype) -> Tensor:
    out: Tensor = run(torch.randn(T, B, I, dtype=dtype))[0]
    return out


@pytest.mark.parametrize(
    ("page", "pattern"),
    [
        (IMPLS, r"as in `(out\S+)`, raises an error; `(.*?)` works"),
        (USAGE, r"as in `(out\S+)`, is an error: write `(.*?)`"),
    ],
    ids=["definition", "use"],
)
def test_the_edit_of_out_that_is_an_error_is_one_and_the_other_is_none(page: Path, pattern: str) -> None:
    model = HyperLSTM(I, H, S, Z, L, impl="deferred", dtype=torch.float64)
    wrong, right = said(page, pattern)
    for code, error in ((wrong, True), (right, False)):
        out = out_of(model, torch.float64)
        edited = {"out": out}
        before = out.detach().clone()
        exec(code, edited)
        torch.testing.assert_close(edited["out"].detach(), 2 * before)
        if error:
            with pytest.raises(RuntimeError, match="changed in place before backward"):
                edited["out"].sum().backward()
        else:
            edited["out"].sum().backward()


@pytest.mark.parametrize(
    ("page", "pattern"),
    [
        (IMPLS, r"same error where oneDNN computes it, as in (\w+), and works elsewhere, as in (\w+) and for packed"),
        (USAGE, r"oneDNN makes it an error in (\w+); it works in (\w+), and for packed sequences of different lengths"),
    ],
    ids=["definition", "use"],
)
def test_torchs_lstm_refuses_an_edit_of_its_output_in_the_dtype_that_is_said_alone(page: Path, pattern: str) -> None:
    """With oneDNN, which computes it in that one."""

    def edit(dtype: torch.dtype, *, packed: bool) -> None:
        x = torch.randn(2, 1, 3, dtype=dtype)
        out = nn.LSTM(3, 4, dtype=dtype)(pack_sequence([x[:, 0], x[:1, 0]]) if packed else x)[0]
        (out.data if packed else out).mul_(2).sum().backward()

    refused, taken = (getattr(torch, name) for name in said(page, pattern))
    edit(taken, packed=False)
    edit(refused, packed=True)
    if torch.backends.mkldnn.is_available():
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            edit(refused, packed=False)


def test_pruning_a_layer_leaves_half_of_a_weight() -> None:
    (code,) = [code for code in inline_code(USAGE) if code.startswith("prune.")]
    model = HyperLSTM(I, H, S, Z, 2)
    eval(code, {"prune": prune, "model": model})
    out_of(model, torch.float32).sum().backward()
    weight: Any = model.layers[0].weight_h
    assert int((weight == 0).sum()) == weight.numel() // 2


@pytest.mark.parametrize("page", [README, USAGE], ids=name_of)
def test_the_implementation_that_a_page_selects_has_second_derivatives(page: Path) -> None:
    """As both pages say of it."""
    (code,) = {code for code in inline_code(page) if code.startswith("model.impl =")}
    model = HyperLSTM(I, H, S, Z, L, dtype=torch.float64)
    exec(code, {"model": model})
    assert f"impl={model.impl}\n" in repr(model)
    weight = model.layers[0].get_parameter("weight_h")
    (first,) = torch.autograd.grad(out_of(model, torch.float64).sum(), weight, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), weight)
    assert bool(second.any())


def test_the_example_of_an_implementation_says_that_its_gradient_is_hand_written() -> None:
    """Else it is offered where autograd must differentiate its gradient."""
    (example, *_) = blocks(IMPLS, "python")
    called = [ast.unparse(node.func) for node in ast.walk(ast.parse(example.content)) if isinstance(node, ast.Call)]
    assert run(IMPLS)["IMPL"].hand_written == ("as_operator" in called)
    assert "as_operator" in called


def test_the_example_of_a_hand_written_gradient_gets_states_only_with_a_gradient() -> None:
    """As its comment says of its forward pass."""
    defined = run(IMPLS)
    assert "without a gradient, states is empty" in blocks(IMPLS, "python")[0].content
    numbers_of_states = list[int]()

    def forward(p: LayerParams, inputs: Inputs, out: Tensor, states: Any, residuals: Any) -> LayerState:
        numbers_of_states.append(len(states))
        last: LayerState = defined["forward"](p, inputs, out, states, residuals)
        return last

    layer = as_operator("noted_example", HandWritten(forward, defined["backward"], residuals=lambda I, H, S: 0))
    model: Any = HyperLSTM(I, H, S, Z, L, dtype=torch.float64)
    start = LayerState(*(torch.randn(B, units, dtype=torch.float64) for units in (H, H, S, S)))
    arguments = model.layers[0]._params(), Inputs(torch.randn(T, B, I, dtype=torch.float64), start)
    with torch.no_grad():
        out, last = layer(*arguments)
        expected, expected_last = find("row_scaled").run(*arguments)
    torch.testing.assert_close((out, last), (expected, expected_last))
    layer(*arguments)[0].sum().backward()
    assert numbers_of_states == [0, len(STATES) - 1]
