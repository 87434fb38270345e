"""Faults that depend on sizes and uses, planted around an implementation: one percent wrong under a condition.

They test how far the comparisons reach: a fault that no comparison of a default run meets would pass a verification.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from impls import HyperLSTM
from impls.hyperlstm import Layer
from suite.checks.faults import faults
from suite.shared.cases import Case
from suite.shared.compare import Build, Verdict

#: What a fault multiplies.
WRONG = 1.01


class Call(NamedTuple):
    """A layer's call, or what can be said of it from a case alone."""

    T: int
    B: int
    I: int
    H: int
    S: int
    Z: int
    packed: bool
    masked: bool
    norm: bool
    second: bool = False  # a layer that is not the first
    with_gradient: bool = True
    frozen: bool = False  # weight_h
    x_alone: bool = False  # has a gradient


#: Of a layer's call.
CONDITIONS: dict[str, Callable[[Call], bool]] = {
    "B above 64": lambda call: call.B > 64,
    "B not a multiple of 4, above 32": lambda call: call.B > 32 and call.B % 4 > 0,
    "H a multiple of 32": lambda call: call.H % 32 == 0,
    "H of 64 or more": lambda call: call.H >= 64,
    "H odd, above 100": lambda call: call.H > 100 and call.H % 2 == 1,
    "H of 500 or more": lambda call: call.H >= 500,
    "I of 96 or more": lambda call: call.I >= 96,
    "I above H": lambda call: call.I > call.H > 16,
    "S of 32 or more": lambda call: call.S >= 32,
    "S above H": lambda call: call.S > call.H,
    "Z of 9 or more": lambda call: call.Z >= 9,
    "T above 10": lambda call: call.T > 10,
    "T B above 256": lambda call: call.T * call.B > 256,
    "layer norm and H above 128": lambda call: call.norm and call.H > 128,
    "packed and B of 5 or more": lambda call: call.packed and call.B >= 5,
    "packed and H of 64 or more": lambda call: call.packed and call.H >= 64,
    "masked and H above 32": lambda call: call.masked and call.H > 32,
    "masked and B above 64": lambda call: call.masked and call.B > 64,
    "second layer and H of 64 or more": lambda call: call.second and call.H >= 64,
}
#: Of the forward pass alone.
WITHOUT_GRADIENT: dict[str, Callable[[Call], bool]] = {
    "inference and T of 8 or more": lambda call: not call.with_gradient and call.T >= 8,
    "inference and H of 64 or more": lambda call: not call.with_gradient and call.H >= 64,
}
#: Of the backward pass alone.
TRAINING: dict[str, Callable[[Call], bool]] = {
    "weight_h frozen": lambda call: call.frozen,
    "weight_h frozen and H of 64 or more": lambda call: call.frozen and call.H >= 64,
    "x alone has a gradient": lambda call: call.x_alone,
}
#: Of the gradient of out that arrives, in the backward pass.
ARRIVING: dict[str, Callable[[Tensor], bool]] = {
    "gradient of out not contiguous": lambda d: not d.is_contiguous(),
    "gradient of out above 1e3": lambda d: bool(d.abs().max() > 1e3),
    "gradient of out below 1e-2": lambda d: bool(d.abs().max() < 1e-2),
}


@dataclass(frozen=True)
class Fault:
    """Output, or every gradient that comes through it, wrong by one percent where a condition holds."""

    condition: str
    holds: Callable[[Any], bool]
    backward: bool
    use: str = ""  # the group of uses that can meet it

    @property
    def name(self) -> str:
        """Name in test ids and tables."""
        return f"{'gradients' if self.backward else 'output'} 1 % wrong: {self.condition}"

    def possible(self, case: Case, use: str) -> bool:
        """False if no call of a comparison can meet the condition; use: the group of uses."""
        return use == self.use and (use != "" or any(map(self.holds, _calls(case))))

    def damages(self, tensor: str) -> bool:
        """True of the results that are wrong where the condition holds."""
        return tensor.startswith("grad ") if self.backward else tensor == "out"

    def planted(self, build: Build) -> Build:
        """Builder of models whose layers have the fault."""

        def faulty(case: Case, dtype: torch.dtype, device: torch.device) -> HyperLSTM:
            model = build(case, dtype, device)
            for l, layer in enumerate(model.layers):
                layer.forward = self._around(cast(Layer, layer), l)
            return model

        return faulty

    def _around(self, layer: Layer, l: int) -> Callable[..., Any]:
        right, signature = layer.forward, inspect.signature(layer.forward)

        def forward(*args: Any) -> Any:
            out, end = right(*args)
            if self.use == "gradients":
                return _Gradient.apply(out, self.holds), end
            if not self.holds(_call(layer, l, signature.bind(*args).arguments)):
                return out, end
            return _Gradient.apply(out, lambda d: True) if self.backward else out * WRONG, end

        return forward


class _Gradient(torch.autograd.Function):
    """The identity, whose gradient is wrong where a condition on it holds."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, condition: Callable[[Tensor], bool]) -> Tensor:
        ctx.condition = condition
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor, None]:
        return d * WRONG if ctx.condition(d) else d, None


def _calls(case: Case) -> list[Call]:
    """The calls of a case's layers."""
    about = bool(case.lengths), case.recurrent_dropout > 0, case.layer_norm
    return [Call(case.T, case.B, I, case.H, case.S, case.Z, *about, l > 0) for l, I in enumerate(case.inputs)]


def _call(layer: Layer, l: int, arguments: dict[str, Any]) -> Call:
    x, batch_sizes = arguments["x"], arguments["batch_sizes"]
    T, B = (len(batch_sizes), batch_sizes[0]) if batch_sizes else x.shape[:2]
    (_, H, I), (_, S), (_, _, Z) = (layer.shapes[name] for name in ("weight_x", "hyper_bias", "z_bias"))
    trains = [p.requires_grad for p in layer.parameters()]
    return Call(
        T, B, I, H, S, Z,
        packed=bool(batch_sizes),
        masked=arguments["mask"] is not None,
        norm="norm_weight" in layer.shapes,
        second=l > 0,
        with_gradient=torch.is_grad_enabled(),
        frozen=not layer.weight_h.requires_grad,
        x_alone=x.requires_grad and not any(trains),
    )  # fmt: skip


FAULTS = (
    *(Fault(*condition, backward) for condition in CONDITIONS.items() for backward in (False, True)),
    *(Fault(*condition, False, "inference") for condition in WITHOUT_GRADIENT.items()),
    *(Fault(*condition, True, "frozen") for condition in TRAINING.items()),
    *(Fault(*condition, True, "gradients") for condition in ARRIVING.items()),
)


def edit(name: str, fault: Fault) -> str:
    """Name of a row of the table of faults about an implementation."""
    return f"{name}, {fault.name}"


def row(name: str, fault: Fault, dtype: str, case: str, worst: Verdict | None) -> dict[str, Any]:
    """Row of the table of faults about an implementation; worst: the verdict that rejects it, None if it survived."""
    about = edit(name, fault), "some sizes or uses", name, dtype
    return faults.row("fault", *about, case, worst, int(worst is not None))
