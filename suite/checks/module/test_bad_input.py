"""Every bad call raises an error that names the argument, before any work, and changes nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import prune
from torch.nn.utils.rnn import PackedSequence

from impls import HyperLSTM, registry, why_unavailable
from suite.shared.cases import Case
from suite.shared.compare import STATE_NAMES, Results, assert_bitwise_equal, draw, implementation

#: Of three packed sequences.
SIZES = torch.tensor([3, 2, 1])
L, T, B, I, H, S, Z = 2, 6, 3, 4, 6, 5, 2
CASE = Case(T=T, B=B, I=I, H=H, S=S, Z=Z, L=L, layer_norm=True, state="stacked")
CPU = torch.device("cpu")
F = dict(zip(STATE_NAMES, (H, H, S, S), strict=True))


@dataclass(frozen=True)
class Good:
    """Right arguments, which a bad call changes one of; the call itself must change none."""

    model: HyperLSTM
    x: Tensor
    state: tuple[Tensor, ...]

    def everything(self) -> tuple[Results, list[object]]:
        """Copies of everything that a call might change."""
        tensors = {"x": self.x, **dict(zip(STATE_NAMES, self.state, strict=True)), **self.model.state_dict()}
        about: list[object] = [self.model.extra_repr(), *((p.requires_grad, p.grad) for p in self.model.parameters())]
        return {name: value.detach().clone() for name, value in tensors.items()}, about


@dataclass(frozen=True)
class Bad:
    """A bad call, and the error that it must raise."""

    name: str
    call: Callable[[Good], object]
    error: type[Exception]
    message: str


def build(name: str, error: type[Exception], message: str, **changes: Any) -> Bad:
    """Row of a construction with wrong sizes or options."""
    sizes = {"input_size": I, "hidden_size": H, "hyper_size": S, "n_z": Z, "n_layers": L}
    return Bad(f"build-{name}", lambda good: HyperLSTM(**sizes | changes), error, message)


def give(name: str, change: Callable[[Tensor], Any], error: type[Exception], message: str) -> Bad:
    """Row of a call with a wrong x."""
    return Bad(f"x-{name}", lambda good: good.model(change(good.x), good.state), error, f"^x: {message}")


def packed(**changes: Any) -> PackedSequence:
    """A PackedSequence of three sequences with changes that its own constructor would refuse or correct."""
    right = {"data": torch.zeros(6, I), "batch_sizes": SIZES, "sorted_indices": None, "unsorted_indices": None}
    return PackedSequence.__base__.__new__(PackedSequence, *(right | changes).values())


def pack(name: str, changes: Mapping[str, Any], error: type[Exception], message: str) -> Bad:
    """Row of a call with a wrong PackedSequence."""
    return Bad(f"packed-{name}", lambda good: good.model(packed(**changes)), error, f"^x{message}")


def start(name: str, change: Callable[[tuple[Tensor, ...]], Any], error: type[Exception], message: str) -> Bad:
    """Row of a call with a wrong state."""
    return Bad(f"state-{name}", lambda good: good.model(good.x, change(good.state)), error, f"^state{message}")


def start_part(part: str, name: str, change: Callable[[Tensor], Any], error: type[Exception], message: str) -> Bad:
    """Row of a call with one wrong part of the state."""
    k = STATE_NAMES.index(part)

    def changed(state: tuple[Tensor, ...]) -> tuple[Any, ...]:
        return (*state[:k], change(state[k]), *state[k + 1 :])

    return start(f"{part}-{name}", changed, error, rf" \({part}\): {message}")


def swap_parameter(name: str, value: Any, message: str) -> Bad:
    """Row of a functional_call with a wrong parameter, as if it had been assigned."""
    key = "layers.1.bias"
    return Bad(
        f"parameter-{name}",
        lambda good: functional_call(good.model, {key: value}, (good.x,)),
        ValueError,
        rf"^layers\.1\.bias: expected \[4, 6\] in float32 on cpu, got {message}",
    )


def under_hook(name: str, swapped: Mapping[str, Tensor], weight: Tensor | None, message: str) -> Bad:
    """Row of a call of a pruned model with other parameters, or with one that another hook has changed."""

    def call(good: Good) -> object:
        model = HyperLSTM(I, H, S, Z, L)
        prune.identity(model.layers[0], "weight_h")
        if weight is not None:
            model.layers[0].register_forward_pre_hook(lambda layer, _: setattr(layer, "weight_h", weight))
        return functional_call(model, dict(swapped), (good.x,))

    return Bad(f"hook-{name}", call, ValueError, f"^layers{message}")


def keep_parameter(layer: int, name: str, value: nn.Parameter | None, message: str) -> Bad:
    """Row of a call after a layer of a model without layer norm was given a parameter, or has lost one."""

    def call(good: Good) -> object:
        model = HyperLSTM(I, H, S, Z, L)
        setattr(model.layers[layer], name, value)
        return model(good.x)

    return Bad(f"parameter-{name}-of-{layer}", call, ValueError, rf"^layers\.{layer}\.{name}: expected {message}$")


def assign(name: str, value: Any, error: type[Exception], message: str) -> Bad:
    """Row of an attribute that is set after construction."""
    return Bad(f"set-{name}-{value}", lambda good: setattr(good.model, name, value), error, f"^{name}: {message}")


def mixed_under_autocast(good: Good) -> object:
    with torch.autocast("cpu", torch.bfloat16):
        return functional_call(good.model, {"layers.1.bias": torch.zeros(4, H, dtype=torch.float64)}, (good.x,))


POSITIVE = ("input_size", "hidden_size", "hyper_size", "n_z", "n_layers")
AS_PARAMETERS = "expected float32 on cpu as the parameters are, got"
OF_SIZES = r"\.batch_sizes: expected sizes of 1 or more that never rise and sum to"

BUILDS = (
    *(build(f"{k}-0", ValueError, f"^{k}: expected a positive integer, got 0", **{k: 0}) for k in POSITIVE),
    *(build(f"{k}-negative", ValueError, f"^{k}: expected a positive integer, got -1", **{k: -1}) for k in POSITIVE),
    *(build(f"{k}-bool", TypeError, f"^{k}: expected a positive integer, got True", **{k: True}) for k in POSITIVE),
    build("float-size", TypeError, "^hidden_size: expected a positive integer, got 2.0", hidden_size=2.0),
    build("nan-size", TypeError, "^hidden_size: expected a positive integer, got nan", hidden_size=float("nan")),
    build("text-size", TypeError, "^n_z: expected a positive integer, got '4'", n_z="4"),
    build("none-size", TypeError, "^n_layers: expected a positive integer, got None", n_layers=None),
    build("batch-first-none", TypeError, "^batch_first: expected True or False, got None", batch_first=None),
    *(
        build(f"{k}-{value}", error, f"^{k}: expected a probability from 0 to 1, got {value!r}", **{k: value})
        for k in ("dropout", "recurrent_dropout")
        for value, error in (
            (1.5, ValueError), (-0.1, ValueError), (float("nan"), ValueError), ("0.1", TypeError), (True, TypeError),
            (None, TypeError),
        )
    ),
    build("layer-norm-1", TypeError, "^layer_norm: expected True or False, got 1", layer_norm=1),
    build("dtype-int", TypeError, "^dtype: expected a floating-point torch.dtype, got torch.int32", dtype=torch.int32),
    build("dtype-complex", TypeError, "^dtype: expected a floating-point .* torch.complex64", dtype=torch.complex64),
    build("dtype-text", TypeError, "^dtype: expected a floating-point torch.dtype, got 'float32'", dtype="float32"),
    build("device-text", RuntimeError, "device type at start of device string: gpu", device="gpu"),
    build("device-float", TypeError, "device.*float", device=0.5),
    build("impl-unknown", ValueError, "^impl: expected 'auto' or one of naive, .*; got 'fast'", impl="fast"),
    build("impl-none", ValueError, "^impl: expected .auto. or one of naive, .*; got None", impl=None),
)  # fmt: skip

INPUTS = (
    Bad("x-missing", lambda good: good.model(), TypeError, "missing 1 required positional argument: 'x'"),
    give("none", lambda x: None, TypeError, "expected a tensor, got NoneType"),
    give("list", lambda x: x.tolist(), TypeError, "expected a tensor, got list"),
    give("numpy", lambda x: x.numpy(), TypeError, "expected a tensor, got ndarray"),
    give("scalar", lambda x: x.sum(), ValueError, r"expected shape \[T, B, 4\] or \[T, 4\], got \[\]"),
    give("1d", lambda x: x[0, 0], ValueError, r"expected shape \[T, B, 4\] or \[T, 4\], got \[4\]"),
    Bad(
        "x-without-batch-from-states-of-one", lambda good: good.model(good.x[:, 0], good.state), ValueError,
        r"^state \(h\): expected shape \[2, 6\] or \[6\], got \[2, 3, 6\]",
    ),
    Bad(
        "x-batch-first", lambda good: HyperLSTM(I, H, S, Z, L, batch_first=True)(good.x.mT), ValueError,
        r"^x: expected shape \[B, T, 4\] or \[T, 4\], got \[6, 4, 3\]",
    ),
    give("4d", lambda x: x[None], ValueError, r"expected shape \[T, B, 4\] or \[T, 4\], got \[1, 6, 3, 4\]"),
    give("features", lambda x: x[..., :3], ValueError, r"expected shape \[T, B, 4\] or \[T, 4\], got \[6, 3, 3\]"),
    give("features-first", lambda x: x.permute(2, 0, 1), ValueError, r".*, got \[4, 6, 3\]"),
    give("float64", lambda x: x.double(), ValueError, f"{AS_PARAMETERS} float64 on cpu"),
    give("bfloat16", lambda x: x.bfloat16(), ValueError, f"{AS_PARAMETERS} bfloat16 on cpu"),
    give("float8", lambda x: x.to(torch.float8_e4m3fn), ValueError, f"{AS_PARAMETERS} float8_e4m3fn on cpu"),
    give("integer", lambda x: x.long(), ValueError, f"{AS_PARAMETERS} int64 on cpu"),
    give("bool", lambda x: x > 0, ValueError, f"{AS_PARAMETERS} bool on cpu"),
    give("complex", lambda x: x.to(torch.complex64), ValueError, f"{AS_PARAMETERS} complex64 on cpu"),
    give("meta", lambda x: x.to("meta"), ValueError, f"{AS_PARAMETERS} float32 on meta"),
    give("coo", lambda x: x.to_sparse(), TypeError, "expected a dense tensor, got .* torch.sparse_coo"),
)  # fmt: skip

PACKED = (
    pack("features", {"data": torch.zeros(6, 5)}, ValueError, r"\.data: expected shape \[N, 4\], got \[6, 5\]"),
    pack("padded", {"data": torch.zeros(6, 3, 4)}, ValueError, r"\.data: expected shape \[N, 4\], got \[6, 3, 4\]"),
    pack("data-list", {"data": [[0.0] * I] * 6}, TypeError, r"\.data: expected a tensor, got list"),
    pack("float64", {"data": torch.zeros(6, 4).double()}, ValueError, f": {AS_PARAMETERS} float64 on cpu"),
    pack("empty", {"data": torch.zeros(0, 4), "batch_sizes": SIZES[:0]}, ValueError, rf"{OF_SIZES} 0, got \[\]$"),
    pack("too-few", {"batch_sizes": SIZES[:2]}, ValueError, rf"{OF_SIZES} 6, got \[3, 2\]"),
    pack("rising", {"batch_sizes": SIZES.flip(0)}, ValueError, rf"{OF_SIZES} 6, got \[1, 2, 3\]"),
    pack("size-0", {"batch_sizes": torch.tensor([3, 3, 0])}, ValueError, rf"{OF_SIZES} 6, got \[3, 3, 0\]"),
    Bad(
        "packed-length-0", lambda good: good.model(nn.utils.rnn.pack_padded_sequence(good.x, [T, 2, 0])), RuntimeError,
        "Length of all samples has to be greater than 0",
    ),
    Bad(
        "packed-length-text", lambda good: good.model(nn.utils.rnn.pack_padded_sequence(good.x, ["6"] * B)), ValueError,  # type: ignore[list-item]
        "str",
    ),
    Bad("packed-state", lambda good: good.model(packed(), good.state[:3]), ValueError, "^state: expected 4 tensors"),
    Bad(
        "packed-state-rows", lambda good: good.model(packed(), [part[:, :2] for part in good.state]), ValueError,
        r"^state \(h\): expected shape \[2, 3, 6\] or \[3, 6\], got \[2, 2, 6\]",
    ),
)  # fmt: skip

STATES = (
    start("tensor", lambda s: torch.stack(s[:2]), TypeError, ": expected None or a tuple .*, got Tensor"),
    start("dict", lambda s: dict(enumerate(s)), TypeError, ": expected None or a tuple .*, got dict"),
    start("iterator", iter, TypeError, ": expected None or a tuple .*, got tuple_iterator"),
    start("text", lambda s: "zero", TypeError, ": expected None or a tuple .*, got str"),
    start("empty", lambda s: (), ValueError, r": expected 4 tensors \(h, c, h_hat, c_hat\), got 0"),
    start("of-an-lstm", lambda s: s[:2], ValueError, r": expected 4 tensors \(h, c, h_hat, c_hat\), got 2"),
    start("too-many", lambda s: (*s, s[0]), ValueError, r": expected 4 tensors \(h, c, h_hat, c_hat\), got 5"),
    start("swapped", lambda s: s[2:] + s[:2], ValueError, r" \(h\): expected shape .*, got \[2, 3, 5\]"),
    start("per-layer", lambda s: [part.tolist() for part in s], TypeError, r" \(h\): expected a tensor, got list"),
    *(
        start_part(
            part, "batch", lambda v: v[:, :1], ValueError,
            rf"expected shape \[2, 3, {F[part]}\] or \[3, {F[part]}\], got \[2, 1, {F[part]}\]",
        )
        for part in STATE_NAMES
    ),
    *(start_part(part, "none", lambda v: None, TypeError, "expected a tensor, got NoneType") for part in STATE_NAMES),
    *(
        start_part(part, "float64", lambda v: v.double(), ValueError, f"{AS_PARAMETERS} float64 on cpu")
        for part in STATE_NAMES
    ),
    start_part("h", "meta", lambda v: v.to("meta"), ValueError, f"{AS_PARAMETERS} float32 on meta"),
    start_part("c", "integer", lambda v: v.int(), ValueError, f"{AS_PARAMETERS} int32 on cpu"),
    start_part("c", "layers", lambda v: v[:1], ValueError, r"expected shape .*, got \[1, 3, 6\]"),
    start_part("h_hat", "sparse", lambda v: v.to_sparse(), TypeError, "expected a dense .* torch.sparse_coo"),
    start_part("c_hat", "4d", lambda v: v[None], ValueError, r"expected shape .*, got \[1, 2, 3, 5\]"),
)  # fmt: skip

ATTRIBUTES = (
    assign("dropout", 1.5, ValueError, "expected a probability from 0 to 1, got 1.5"),
    assign("recurrent_dropout", -0.5, ValueError, "expected a probability from 0 to 1, got -0.5"),
    assign("batch_first", None, TypeError, "expected True or False, got None"),
    assign("layer_norm", False, AttributeError, "expected True, which the parameters have, got False"),
    assign("hidden_size", H + 1, AttributeError, f"expected {H}, which the parameters have, got {H + 1}"),
    assign("n_layers", 0, ValueError, "expected a positive integer, got 0"),
    assign("impl", "fast", ValueError, "expected 'auto' or one of naive, .*; got 'fast'"),
)

PARAMETERS = (
    swap_parameter("shape", torch.zeros(4, H + 1), r"\[4, 7\] in float32 on cpu"),
    swap_parameter("broadcast", torch.zeros(4, 1), r"\[4, 1\] in float32 on cpu"),
    swap_parameter("float64", torch.zeros(4, H, dtype=torch.float64), r"\[4, 6\] in float64 on cpu"),
    swap_parameter("meta", torch.zeros(4, H, device="meta"), r"\[4, 6\] in float32 on meta"),
    keep_parameter(1, "bias", None, r"\[4, 6\] in float32 on cpu, got None"),
    keep_parameter(0, "norm_c_bias", nn.Parameter(torch.zeros(H)), r"None, got \[6\] in float32 on cpu"),
    under_hook(
        "other-layer", {"layers.1.bias": torch.zeros(H)}, None, r"\.1\.bias: expected \[4, 6\] .*, got \[6\] in float32"
    ),
    under_hook("shape", {}, torch.zeros(4, H, 1), r"\.0\.weight_h: expected \[4, 6, 6\] .*, got \[4, 6, 1\]"),
    under_hook("float64", {}, torch.zeros(4, H, H).double(), r"\.0\.weight_h: expected .*, got \[4, 6, 6\] in float64"),
    under_hook("meta", {}, torch.zeros(4, H, H, device="meta"), r"\.0\.weight_h: expected .* in float32 on meta"),
    Bad(
        "parameter-float64-under-autocast", mixed_under_autocast, ValueError,
        r"^layers\.1\.bias: expected \[4, 6\] in float32 on cpu, got \[4, 6\] in float64",
    ),
    Bad(
        "unavailable-dtype",
        lambda good: functional_call(
            good.model,
            {name: value.to(torch.float8_e5m2) for name, value in good.model.state_dict().items()},
            (good.x.to(torch.float8_e5m2),),
        ),
        RuntimeError,
        "impl='auto' is unavailable on cpu in float8_e5m2: .* In float8_e5m2 on cpu: none",
    ),
    Bad("ask-unknown", lambda good: why_unavailable("fast", "cpu"), ValueError, "^impl: expected .*; got 'fast'"),
    Bad(
        "ask-dtype", lambda good: why_unavailable("naive", "cpu", "float32"),  # type: ignore[arg-type]
        TypeError, "^dtype: expected a torch.dtype, got 'float32'",
    ),
    Bad("ask-device", lambda good: why_unavailable("naive", "gpu"), RuntimeError, "device type .*: gpu"),
)  # fmt: skip

BAD = (*BUILDS, *INPUTS, *PACKED, *STATES, *ATTRIBUTES, *PARAMETERS)


def _no_work(impl: registry.Impl) -> NoReturn:
    raise AssertionError(f"{impl.name} was about to run")


def _good() -> Good:
    params, x, state, _ = draw(CASE, 0, torch.float32, CPU)
    assert state is not None
    good = Good(implementation("auto")(CASE, torch.float32, CPU), x, state)
    good.model.load_state_dict(params)
    return good


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's own, about tensors of bad calls
@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_raises_before_any_work_and_changes_nothing(bad: Bad, monkeypatch: pytest.MonkeyPatch) -> None:
    good = _good()
    tensors, about = good.everything()
    monkeypatch.setattr(registry.Impl, "run", property(_no_work))
    with pytest.raises(bad.error, match=bad.message) as raised:
        bad.call(good)
    assert raised.type is bad.error
    after, about_after = good.everything()
    assert_bitwise_equal(after, tensors)
    assert about_after == about
