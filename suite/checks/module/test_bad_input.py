"""Every bad call raises an error that names the argument, before any work, and changes nothing."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import PackedSequence

from impls import HyperLSTM, registry, why_unavailable
from suite.checks.module.runs import F32, model_and_input
from suite.comparison.runs import State
from suite.comparison.tensors import STATES
from suite.comparison.tolerance import assert_bitwise_equal

CPU = torch.device("cpu")
#: Sizes of `STATED`.
SIZES: dict[str, Any] = {"input_size": 4, "hidden_size": 6, "hyper_size": 5, "n_z": 2, "n_layers": 2}

#: What is changed, the error, and its message: names and what it got, and no other words.
Rows = dict[str, tuple[Any, type[Exception], str]]

GOT = "expected .*[,;] got"

#: Arguments of the constructor.
BUILDS: Rows = {
    **{f"{size}-0": ({size: 0}, ValueError, f"^{size}: {GOT} 0") for size in SIZES},
    **{f"{size}-bool": ({size: True}, TypeError, f"^{size}: {GOT} True") for size in SIZES},
    "float-size": ({"hidden_size": 2.0}, TypeError, f"^hidden_size: {GOT} 2.0"),
    **{
        f"{name}-{value}": ({name: value}, error, f"^{name}: {GOT} {value!r}")
        for name in ("dropout", "recurrent_dropout")
        for value, error in ((1.5, ValueError), (-0.1, ValueError), (float("nan"), ValueError), ("0.1", TypeError))
    },
    "dropout-bool": ({"dropout": True}, TypeError, f"^dropout: {GOT} True"),
    "batch-first": ({"batch_first": None}, TypeError, f"^batch_first: {GOT} None"),
    "layer-norm": ({"layer_norm": 1}, TypeError, f"^layer_norm: {GOT} 1"),
    "dtype-int": ({"dtype": torch.int32}, TypeError, f"^dtype: {GOT} torch.int32"),
    "dtype-text": ({"dtype": "float32"}, TypeError, f"^dtype: {GOT} 'float32'"),
    "impl-unknown": ({"impl": "fast"}, ValueError, f"^impl: {GOT} 'fast'"),
}
#: Functions of x.
INPUTS: Rows = {
    "none": (lambda x: None, TypeError, f"{GOT} NoneType"),
    "csr": (lambda x: x[0].to_sparse_csr(), TypeError, f"{GOT} .*torch.sparse_csr"),
    "1d": (lambda x: x[0, 0], ValueError, rf"{GOT} \[4\]"),
    "4d": (lambda x: x[None], ValueError, rf"{GOT} \[1, 6, 3, 4\]"),
    "features": (lambda x: x[..., :3], ValueError, rf"{GOT} \[6, 3, 3\]"),
    "bfloat16": (lambda x: x.bfloat16(), ValueError, f"{GOT} bfloat16 on cpu"),
    "meta": (lambda x: x.to("meta"), ValueError, f"{GOT} float32 on meta"),
}
#: Fields of a PackedSequence.
PACKED: Rows = {
    "features": ({"data": torch.zeros(6, 5)}, ValueError, rf"\.data: {GOT} \[6, 5\]"),
    "padded": ({"data": torch.zeros(6, 3, 4)}, ValueError, rf"\.data: {GOT} \[6, 3, 4\]"),
    "list": ({"data": [[0.0] * 4] * 6}, TypeError, rf"\.data: {GOT} list"),
    "float64": ({"data": torch.zeros(6, 4).double()}, ValueError, f": {GOT} float64 on cpu"),
    "empty": ({"data": torch.zeros(0, 4), "batch_sizes": []}, ValueError, rf"\.batch_sizes: {GOT} \[\]$"),
    "too-few": ({"batch_sizes": [3, 2]}, ValueError, rf"\.batch_sizes: {GOT} \[3, 2\]"),
    "rising": ({"batch_sizes": [1, 2, 3]}, ValueError, rf"\.batch_sizes: {GOT} \[1, 2, 3\]"),
    "size-0": ({"batch_sizes": [3, 3, 0]}, ValueError, rf"\.batch_sizes: {GOT} \[3, 3, 0\]"),
}
#: Functions of the state.
BAD_STATES: Rows = {
    "tensor": (lambda s: torch.stack(s[:2]), TypeError, f": {GOT} Tensor"),
    "of-an-lstm": (lambda s: s[:2], ValueError, f": {GOT} 2"),
    "too-many": (lambda s: (*s, s[0]), ValueError, f": {GOT} 5"),
    "swapped": (lambda s: s[2:] + s[:2], ValueError, rf" \(h\): {GOT} \[2, 3, 5\]"),
    "per-layer": (lambda s: [part.tolist() for part in s], TypeError, rf" \(h\): {GOT} list"),
}


def parts(F: int) -> Rows:
    """Functions of one part of it, of F units."""
    return {
        "batch": (lambda v: v[:, :1], ValueError, rf"{GOT} \[2, 1, {F}\]"),
        "layers": (lambda v: v[:1], ValueError, rf"{GOT} \[1, 3, {F}\]"),
        "none": (lambda v: None, TypeError, f"{GOT} NoneType"),
        "sparse": (lambda v: v.to_sparse(), TypeError, f"{GOT} .*torch.sparse_coo"),
        "float64": (lambda v: v.double(), ValueError, f"{GOT} float64 on cpu"),
        "meta": (lambda v: v.to("meta"), ValueError, f"{GOT} float32 on meta"),
    }


#: Attributes that a model does not take.
ATTRIBUTES: Rows = {
    "dropout": (("dropout", 1.5), ValueError, f"^dropout: {GOT} 1.5"),
    "layer_norm": (
        ("layer_norm", False),
        AttributeError,
        f"^layer_norm: {GOT} False",
    ),
    "hidden_size": (("hidden_size", 7), AttributeError, f"^hidden_size: {GOT} 7"),
    "n_layers": (("n_layers", 0), ValueError, f"^n_layers: {GOT} 0"),
}
#: What cannot be a bias of this model.
BIASES: Rows = {
    "shape": (torch.zeros(4, 7), ValueError, r"\[4, 7\] in float32 on cpu"),
    "float64": (torch.zeros(4, 6).double(), ValueError, r"\[4, 6\] in float64 on cpu"),
    "meta": (torch.zeros(4, 6, device="meta"), ValueError, r"\[4, 6\] in float32 on meta"),
}


def doubles_bias(layer: nn.Module, _: object) -> None:
    """Pre-hook that leaves the parameter and changes its numbers."""
    layer.bias.data = layer.bias.data.double()


def flattens(model: HyperLSTM) -> None:
    parametrize.register_parametrization(model.layers[0], "weight_h", nn.Flatten(), unsafe=True)


#: Changes of a model that was called before.
CHANGES: Rows = {
    "float64": (
        lambda model: model.layers[1].double(),
        ValueError,
        rf"1\.weight_x: {GOT} .* in float64",
    ),
    "hook-on-data": (
        lambda model: model.layers[0].register_forward_pre_hook(doubles_bias),
        ValueError,
        rf"0\.bias: {GOT} .* in float64",
    ),
    "lost": (lambda model: setattr(model.layers[1], "bias", None), ValueError, rf"1\.bias: {GOT} None$"),
    "parametrized": (flattens, ValueError, rf"0\.weight_h: {GOT} \[4, 36\] in float32"),
}
#: Parameters that are in float64 under autocast, alone.
AUTOCAST: Rows = {
    "first": ("layers.0.weight_x", ValueError, rf"0\.weight_h: {GOT} .* in float32"),
    "later": ("layers.1.bias", ValueError, rf"1\.bias: {GOT} \[4, 6\] in float64"),
}
#: Arguments of `why_unavailable`.
UNAVAILABLE: Rows = {
    "unknown": (("fast", "cpu"), ValueError, f"^impl: {GOT} 'fast'"),
    "dtype": (("naive", "cpu", "float32"), TypeError, f"^dtype: {GOT} 'float32'"),
    "option": (
        ("naive", "cpu", F32, ["proj_size"]),
        ValueError,
        f"^options: {GOT} proj_size",
    ),
}


def packed(changes: dict[str, Any], model: HyperLSTM, *_: object) -> object:
    """Call with fields of a PackedSequence that its own constructor would refuse or correct."""
    fields = {"data": torch.zeros(6, 4), "batch_sizes": [3, 2, 1], "sorted": None, "unsorted": None} | changes
    fields["batch_sizes"] = torch.tensor(fields["batch_sizes"], dtype=torch.int64)
    sequences: Any = tuple.__new__(PackedSequence, fields.values())
    return model(sequences)


def changed(change: Callable[[HyperLSTM], object], model: HyperLSTM, x: Tensor, state: State) -> object:
    model = copy.deepcopy(model)
    change(model)
    return model(x, state)


def under_autocast(name: str, model: HyperLSTM, x: Tensor, _: State) -> object:
    with torch.autocast("cpu", torch.bfloat16):
        return functional_call(model, {name: model.get_parameter(name).double()}, (x,))


def in_dtype(dtype: torch.dtype, model: HyperLSTM, x: Tensor, _: State) -> object:
    parameters = {name: value.to(dtype) for name, value in model.state_dict().items()}
    return functional_call(model, parameters, (x.to(dtype),))


def in_part(k: int, change: Callable[[Tensor], Any], model: HyperLSTM, x: Tensor, state: State) -> object:
    return model(x, (*state[:k], change(state[k]), *state[k + 1 :]))


#: By the beginning of its ids: a table, what is called with a change of it, and the beginning of its messages.
TABLES: dict[str, tuple[Rows, Callable[..., object], str]] = {
    "build": (BUILDS, lambda changes, *_: HyperLSTM(**SIZES | changes), ""),
    "x": (INPUTS, lambda change, model, x, state: model(change(x), state), "^x: "),
    "batch-first-x": (
        {"": (3, ValueError, rf"{GOT} \[6, 3, 3\]$")},
        lambda I, model, x, _: HyperLSTM(**SIZES, batch_first=True)(x[..., :I]),
        "^x: ",
    ),
    "packed": (PACKED, packed, "^x"),
    "state": (BAD_STATES, lambda change, model, x, state: model(x, change(state)), "^state"),
    **{
        f"state-{name}": (parts(F), partial(in_part, k), rf"^state \({name}\): ")
        for k, (name, F) in enumerate(zip(STATES, (6, 6, 5, 5), strict=True))
    },
    "set": (ATTRIBUTES, lambda change, model, *_: setattr(model, *change), ""),
    "parameter": (
        BIASES,
        lambda bias, model, x, _: functional_call(model, {"layers.1.bias": bias}, (x,)),
        rf"^layers\.1\.bias: {GOT} ",
    ),
    "changed": (CHANGES, changed, r"^layers\."),
    "autocast": (AUTOCAST, under_autocast, r"^layers\."),
    "why-unavailable": (UNAVAILABLE, lambda arguments, *_: why_unavailable(*arguments), ""),
    "unavailable-dtype": (
        {"": (torch.float8_e5m2, RuntimeError, "float8_e5m2: .*float8_e5m2")},
        in_dtype,
        "impl='auto' .*cpu .*",
    ),
}
#: By id: a bad call, the error, and its message.
BAD = {
    f"{kind}-{name}".rstrip("-"): (partial(call, change), error, f"{begin}{message}")
    for kind, (rows, call, begin) in TABLES.items()
    for name, (change, error, message) in rows.items()
}


def _no_work(impl: registry.Impl) -> NoReturn:
    raise AssertionError(f"{impl.name} was about to run")


def everything(model: HyperLSTM, x: Tensor, state: State) -> tuple[dict[str, Tensor], list[object]]:
    """Copies of everything that a call might change."""
    tensors = {"x": x, **dict(zip(map(str, STATES), state, strict=True)), **model.state_dict()}
    about: list[object] = [model.extra_repr(), *((p.requires_grad, p.grad) for p in model.parameters())]
    return {name: value.detach().clone() for name, value in tensors.items()}, about


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's own, about tensors of bad calls
@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_raises_before_any_work_and_changes_nothing(
    call: Callable[..., object], error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x, state = model_and_input("auto", CPU)
    model(x, state)  # a check that only a first call makes would pass
    tensors, about = everything(model, x, state)
    monkeypatch.setattr(registry.Impl, "run", property(_no_work))
    with pytest.raises(error, match=message) as raised:
        call(model, x, state)
    assert raised.type is error
    after, about_after = everything(model, x, state)
    assert_bitwise_equal(after, tensors)
    assert about_after == about
